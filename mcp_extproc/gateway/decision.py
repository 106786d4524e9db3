"""The values that the gateway's decisions are made of. Nothing here can block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from mcp_extproc.gateway.relay.identifiers import ClientView, Cursor
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.sessions import UpstreamSession

if TYPE_CHECKING:
    from mcp_extproc.gateway.relay.responses import Expected
    from mcp_extproc.gateway.relay.server_messages import Relay

Facts = Mapping[str, Any]
"""What is told about a request in the dynamic metadata ``mcp_proxy``: strings, numbers, and one level of nesting."""

Headers = tuple[tuple[str, str], ...]

MAX_EXACT_DIGITS = 16
"""Fewer digits than this are a number that every reader of JSON holds exactly (RFC 8259 section 6)."""


@dataclass(frozen=True)
class RequestHead:
    """An HTTP request without its body."""

    method: str
    path: str
    """``:path``, query included."""
    headers: Mapping[str, str]
    """By lower-case name, without pseudo headers but with ``host``; repeated ones joined by a comma."""
    judging: bool = False
    """Whether policies are yet to judge the request: it is to be told what it is, and nothing may be done."""
    judged: bool = False
    """Whether policies have let it pass."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the headers."""
        return tuple(self.headers)


class NeedBody(msgspec.Struct, frozen=True):
    """A request that can't be judged by its head."""

    and_response: bool
    """Whether the response may have to be read: that has to be said before the body is seen."""


@dataclass(frozen=True, slots=True)
class Show:
    """The request goes on as it is to the policies, which judge it by the facts. Then it comes back."""

    facts: Facts
    set_headers: Headers
    remove_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something the operator should find in the log."""

    event: str
    fields: Mapping[str, object]


class ForwardPlan(msgspec.Struct, frozen=True, eq=False):
    """What is the same whenever a request of one kind is forwarded. Kept between requests, and compared by identity, so that
    its serialized form can be kept as well."""

    server: str
    headers: Headers
    """Set on the request. They hold credentials: never log them."""
    remove_headers: tuple[str, ...]
    facts: Facts

    def __repr__(self) -> str:
        return f"ForwardPlan({self.server!r})"


class Forward(msgspec.Struct, frozen=True):
    """Envoy carries the request to one server and streams the answer back, past us unless ``response`` has to read it."""

    plan: ForwardPlan
    body: bytes
    own_headers: Headers = ()
    """Set on this request alone."""
    id: bytes | None = None
    """JSON text of the request's id."""
    response: Expected | None = None
    progress: tuple[str, bytes] | None = None
    """Session and progress token of the request, where it wants progress."""

    def __repr__(self) -> str:
        return f"Forward({self.server!r}, {len(self.body)} bytes)"

    @property
    def server(self) -> str:
        """Where it goes."""
        return self.plan.server

    @property
    def set_headers(self) -> Headers:
        """All headers that are set. They hold credentials: never log them."""
        return self.plan.headers + self.own_headers

    @property
    def remove_headers(self) -> tuple[str, ...]:
        """The client's headers that have to go."""
        return self.plan.remove_headers

    @property
    def facts(self) -> Facts:
        """All that is told about the request."""
        return self.plan.facts if self.id is None else {**id_facts(self.id), **self.plan.facts}


def id_facts(id: bytes) -> dict[str, Any]:
    """A request's id in the metadata: its JSON text, and what it says, a number only where that is exact."""
    said = int(id) if id[:1] != b'"' and len(id) < MAX_EXACT_DIGITS else jsontext.text_of(id)
    return {"id_json": id.decode(), "id": id.decode() if said is None else said}


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer is given here."""

    status: int
    body: bytes
    headers: Headers = ()
    facts: Facts = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    ends_session: str | None = None
    """Short name of a session that is over with this answer."""


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
    client_flags: Flags
    """What the client can be asked for; declared when a session has to be opened."""
    client: str = ""
    """Short name of the client's session; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """Initialize one server. Outcome: :class:`Opened`."""

    server: str
    version: str
    client_flags: Flags


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
class AskLeg:
    """Ask one server for something whose result does not matter. Outcome: :class:`Done`, also without the capability."""

    server: str
    session: SessionRef
    method: str
    params: bytes
    """JSON text."""
    capability: str


@dataclass(frozen=True, slots=True)
class BatchLeg:
    """Send one message of a batch through the front door, as a request of its own: policies there judge each by itself.
    Outcome: :class:`Answered`."""

    server: str
    """Empty: no server is chosen yet."""
    headers: Headers = field(repr=False)
    """They hold credentials: never log them."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CloseLeg:
    """End the session with one server. Outcome: :class:`Done`."""

    server: str
    session: SessionRef


Leg = OpenLeg | ListLeg | NotifyLeg | AskLeg | CloseLeg | BatchLeg


@dataclass(frozen=True, slots=True)
class Opened:
    """A server's answer to ``initialize``."""

    server: str
    session: UpstreamSession
    instructions: str | None


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


Outcome = Opened | Listed | Answered | Done | Failed


@dataclass(frozen=True, slots=True)
class FanOut:
    """Several servers are asked at once; then ``merge`` makes one answer of their outcomes (in the order of the legs)."""

    legs: tuple[Leg, ...]
    merge: Callable[[Sequence[Outcome], float], Decision]
    """Takes the outcomes and the Unix time in seconds."""
    facts: Facts


@dataclass(frozen=True, slots=True)
class NeedSession:
    """The decision lacks a session with one server. Open it, then ``resume``."""

    session: SessionRef
    lost: str | None
    """The session id that the server no longer knows; ``None`` where there was no session yet."""
    resume: Callable[[UpstreamSession | Failed], Decision]
    doubtful: bool = False
    """Whether ``lost`` may still be good: the server is asked before another one is opened."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of one or more servers, until the client leaves or all that was left of a stream is told."""

    view: ClientView
    relay: Relay
    sources: tuple[SessionRef, ...]
    cursors: Mapping[str, Cursor]
    """By server: where its stream goes on."""
    method: str
    """Of the request whose stream is resumed; empty for the stream of a GET."""
    expires: float
    """Unix time in seconds at which the session, and with it the stream, ends."""
    refused: Reply
    """The answer where the stream can't be resumed."""
    facts: Facts
    changed: frozenset[str] = frozenset()
    """Kinds of lists (``tools``, …) that are not what they were when the session began: the configuration has changed."""


Decision = Forward | Reply | FanOut | NeedSession | Stream | Show
