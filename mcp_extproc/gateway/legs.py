"""Legs: what one server is asked for the sake of a request, and the outcome. :mod:`mcp_extproc.upstreams` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from mcp_extproc.gateway.request import NO_CONTEXT, Headers, RequestContext
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.sessions import Session, UpstreamSession

NO_ROOM: Final = "no_room"
""":attr:`Failed.reason` where the gateway itself may hold no more."""
STARTING: Final = "starting"
""":attr:`Failed.reason` where the server's program does not answer yet, and joins the session when it does."""


@dataclass(frozen=True, slots=True)
class SessionRef:
    """How to reach one server for one caller.

    The session in the token may be gone (the server restarted) or never have been (it was down at ``initialize``). Later
    ones are found in a worker's memory under the ``anchor``: the server's own session id, or the name of the client's token.
    """

    server: str
    anchor: str = field(repr=False)
    """It may be an id, which opens the session to whoever has it."""
    known: UpstreamSession | None
    """As the token has it; ``None`` where it holds none."""
    version: str
    """Protocol version to ask for when a session has to be opened."""
    client_flags: Flags
    """What the client can be asked for; declared when a session has to be opened."""
    client: str = ""
    """Short name of the client's session; empty where it is not known."""


def ref_to(server: str, client: str, session: Session, carried: str = "") -> SessionRef:
    """How to reach a server in the session of a client.

    Args:
        server: its name.
        client: short name of the client's token.
        session: of the client.
        carried: hash of what the server gets of the caller. A session that was opened with something else is not its.
    """
    known = session.upstreams.get(server)
    if known is not None and known.carried != carried:
        known = None
    own = f"token {client} {carried}" if carried else f"token {client}"
    anchor = known.id if known is not None and known.id is not None else own
    return SessionRef(server, anchor, known, session.version, session.client_flags, client)


@dataclass(frozen=True, slots=True)
class _Leg:
    server: str
    deadline: float = field(kw_only=True)
    """Seconds for all of it."""
    context: RequestContext = field(default=NO_CONTEXT, kw_only=True)
    """The request for whose sake the server is asked."""


@dataclass(frozen=True, slots=True)
class OpenLeg(_Leg):
    """Initialize one server. Outcome: :class:`Opened`."""

    version: str
    client_flags: Flags


@dataclass(frozen=True, slots=True)
class ListLeg(_Leg):
    """Read a whole list from one server. Outcome: :class:`Listed`, empty where the server lacks the capability."""

    session: SessionRef
    method: str
    items: str
    capability: str


@dataclass(frozen=True, slots=True)
class NotifyLeg(_Leg):
    """Pass a notification on to one server, if a session with it is open. Outcome: :class:`Done`."""

    session: SessionRef
    body: bytes
    method: str | None = field(default=None, kw_only=True)
    """Of it; ``None`` where it is a response."""


@dataclass(frozen=True, slots=True)
class AskLeg(_Leg):
    """Ask one server for something whose result does not matter. Outcome: :class:`Done`, also without the capability."""

    session: SessionRef
    method: str
    params: bytes
    """JSON text."""
    capability: str


@dataclass(frozen=True, slots=True)
class BatchLeg(_Leg):
    """Send one message of a batch to the clients' endpoint, as a request of its own: policies there judge each by itself.
    Outcome: :class:`Answered`. No server is chosen yet."""

    path: str = field(repr=False)
    """Of the endpoint, with the batch's query."""
    headers: Headers = field(repr=False)
    """They hold credentials: never log them."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CloseLeg(_Leg):
    """End the session with one server. Outcome: :class:`Done`."""

    session: SessionRef


Leg = OpenLeg | ListLeg | NotifyLeg | AskLeg | CloseLeg | BatchLeg


@dataclass(frozen=True, slots=True)
class Opened:
    """A server's answer to ``initialize``."""

    server: str
    session: UpstreamSession
    instructions: str | None
    streamed: bool = False
    """Whether the server answered with an event stream, and not with JSON."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A server's whole list, entries as their original JSON text."""

    server: str
    items: Sequence[msgspec.Raw]
    truncated: str | None = None
    """Why entries are missing, where a bound cut the list short."""
    streamed: bool = False
    """Whether the server answered with an event stream, and not with JSON."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer to a request of ours, read."""

    server: str
    status: int
    message: bytes
    """The JSON-RPC message in it; empty where there was none."""
    told: tuple[bytes, ...] = ()
    """Notifications that came on its stream before that."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to report."""

    server: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a server asks for a login (RFC 9110 section 11.6.1, RFC 6750 section 3)."""

    status: int
    """401 or 403."""
    www_authenticate: str
    """Empty where it has none."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A leg that did not work out."""

    server: str
    reason: str
    """Stable snake_case word: ``connect``, ``timeout``, ``status``, ``credentials_refused``, ``protocol``, ``error``,
    ``too_large``."""
    message: str
    """One clause for people, without credentials or bodies, such as ``answered HTTP 500``."""
    challenge: Challenge | None = None
    """What the client is told where it logs in at the server itself."""


Outcome = Opened | Listed | Answered | Done | Failed
