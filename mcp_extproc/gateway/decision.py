"""The values that the gateway's decisions are made of. Nothing here can block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mcp_extproc.mcp.sessions import UpstreamSession

Facts = Mapping[str, Any]
"""What is told about a request in the dynamic metadata ``mcp_proxy``: strings, numbers, and one level of nesting."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """An HTTP request without its body."""

    method: str
    path: str
    """``:path``, query included."""
    headers: Mapping[str, str]
    """By lower-case name, without pseudo headers but with ``host``; repeated ones joined by a comma."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something the operator should find in the log."""

    event: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Forward:
    """Envoy carries the request to one server and streams the answer back, past us."""

    server: str
    set_headers: Headers = field(repr=False)
    """They hold credentials: never log them."""
    remove_headers: tuple[str, ...]
    body: bytes = field(repr=False)
    facts: Facts


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer is given here."""

    status: int
    body: bytes
    headers: Headers = ()
    facts: Facts = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionRef:
    """How to reach one server in one client session.

    The session in the token may be gone (the server restarted) or never have been (it was down at ``initialize``). Later
    ones are found in a worker's memory under the ``anchor``: the server's own session id, or the name of the client's token.
    """

    server: str
    anchor: str
    known: UpstreamSession | None
    """As the token says; ``None`` where it holds none."""
    version: str
    """Protocol version to ask for when a session has to be opened."""
    client_capabilities: bytes
    """JSON text to declare when a session has to be opened."""


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """Initialize one server. Outcome: :class:`Opened`."""

    server: str
    version: str
    client_capabilities: bytes


@dataclass(frozen=True, slots=True)
class ListLeg:
    """Read a whole list from one server. Outcome: :class:`Listed`, empty where the server lacks the capability."""

    server: str
    session: SessionRef
    method: str
    items: str
    capability: str


@dataclass(frozen=True, slots=True)
class NotifyLeg:
    """Pass a notification on to one server, if a session with it is open. Outcome: :class:`Done`."""

    server: str
    session: SessionRef
    body: bytes


@dataclass(frozen=True, slots=True)
class CloseLeg:
    """End the session with one server. Outcome: :class:`Done`."""

    server: str
    session: SessionRef


Leg = OpenLeg | ListLeg | NotifyLeg | CloseLeg


@dataclass(frozen=True, slots=True)
class Opened:
    """A server's answer to ``initialize``."""

    server: str
    session: UpstreamSession
    capabilities: Mapping[str, Any]
    """As the server declared them."""
    instructions: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A server's whole list, entries as their original JSON text."""

    server: str
    items: Sequence[msgspec.Raw]
    truncated: str | None = None
    """Why entries are missing, where a bound cut the list short."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to report."""

    server: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A leg that did not work out."""

    server: str
    reason: str
    """Stable snake_case word: ``connect``, ``timeout``, ``status``, ``protocol``, ``error``, ``too_large``."""
    message: str
    """One clause for people, without credentials or bodies, such as ``answered HTTP 500``."""


Outcome = Opened | Listed | Done | Failed


@dataclass(frozen=True, slots=True)
class FanOut:
    """Several servers are asked at once; then ``merge`` makes one answer of their outcomes (in the order of the legs)."""

    legs: tuple[Leg, ...]
    merge: Callable[[Sequence[Outcome], float], Reply]
    """Takes the outcomes and the Unix time in seconds."""
    facts: Facts


@dataclass(frozen=True, slots=True)
class NeedSession:
    """The decision lacks a session with one server. Open it, then ``resume``."""

    session: SessionRef
    lost: str | None
    """The session id that the server no longer knows; ``None`` where there was no session yet."""
    resume: Callable[[UpstreamSession | Failed], Decision]


Decision = Forward | Reply | FanOut | NeedSession
