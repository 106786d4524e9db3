"""The values that the gateway's decisions are made of. Nothing here can block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from mcp_extproc.gateway.effects import Effects
from mcp_extproc.gateway.facts import NOTHING, Note, RequestFacts
from mcp_extproc.gateway.legs import Failed, Leg, Outcome, SessionRef
from mcp_extproc.gateway.relay.identifiers import ClientView, Cursor
from mcp_extproc.gateway.relay.responses import Expected
from mcp_extproc.gateway.relay.server_messages import Relay
from mcp_extproc.gateway.request import NOTHING_CARRIED, Carried, Headers, RequestContext, Subject
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.slices import Slices, whole

MARGIN: Final = 5.0
"""Seconds that the work between two steps may take, on a machine that is busy."""


Merge = Callable[[Sequence[Outcome], float], "Decision"]
Merging = Callable[[Sequence[Outcome], float], Slices["Decision"]]
"""Takes the outcomes of legs and the Unix time in seconds."""


def in_one_slice(merge: Merge) -> Merging:
    """A merger for outcomes that are small."""

    def merging(outcomes: Sequence[Outcome], now: float) -> Slices[Decision]:
        return merge(outcomes, now)
        yield  # makes it a generator

    return merging


class NeedBody(msgspec.Struct, frozen=True):
    """A request that can't be judged by its head."""


NEED_BODY: Final = NeedBody()


@dataclass(frozen=True, slots=True)
class Preview:
    """What the request is, for the policies that judge it. It goes on to them as it is, and then comes back."""

    facts: RequestFacts
    set_headers: Headers
    remove_headers: tuple[str, ...]
    effects: Effects = ()


class ForwardPlan(msgspec.Struct, frozen=True, eq=False):
    """What is the same whenever a request of one kind is forwarded. Kept between requests, and compared by identity, so that
    its serialized form can be kept as well."""

    server: str
    headers: Headers
    """Set on the request. They hold credentials: never log them."""
    remove_headers: tuple[str, ...]
    facts: RequestFacts
    """All but the id: what differs between two requests of a kind has no place here."""
    onward: Headers = ()
    """Set behind policies that judge the request once it is decided. These hold the credentials then."""
    carried: Headers = ()
    """What the server gets of the caller, as one of either."""
    left: tuple[str, ...] = ()
    """Headers that are removed by its route, or where Envoy's does not, as these."""

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
    """Caller and progress token of the request, where it wants progress."""
    effects: Effects = ()
    undoing: Effects = ()
    """They take ``effects`` back where the server refuses the request, as far as its response is read."""

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
    def carried(self) -> Carried:
        """What the server gets of the caller."""
        return {self.server: self.plan.carried} if self.plan.carried else NOTHING_CARRIED

    @property
    def remove_headers(self) -> tuple[str, ...]:
        """The client's headers that have to go."""
        return self.plan.remove_headers

    @property
    def facts(self) -> RequestFacts:
        """All that is known of the request."""
        return self.plan.facts if self.id is None else self.plan.facts.but(id=self.id)


@dataclass(frozen=True, slots=True)
class Ask:
    """The request goes on to the filter whose worker asks the user about it, and runs it."""

    forward: Forward
    """The request as policies are shown it on the way. It reaches no server."""
    told: str
    """What that worker has to know, hidden (:mod:`mcp_extproc.gateway.vetting.told`)."""
    effects: Effects = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer is given here."""

    status: int
    body: bytes
    headers: Headers = ()
    facts: RequestFacts = NOTHING
    notes: tuple[Note, ...] = ()
    effects: Effects = ()


@dataclass(frozen=True, slots=True)
class FanOut:
    """Several servers are asked at once; then one answer is made of their outcomes (in the order of the legs)."""

    legs: tuple[Leg, ...]
    merging: Merging
    caller: str = ""
    """Key of the caller; empty where it has none yet."""
    effects: Effects = ()
    """They precede the legs."""
    further: float = 0.0
    """Seconds for what may have to follow once the outcomes are there."""

    def merge(self, outcomes: Sequence[Outcome], now: float) -> Decision:
        """The answer, at once."""
        return whole(self.merging(outcomes, now))

    @property
    def patience(self) -> float:
        """Seconds within which the request is decided."""
        longest = max((leg.deadline for leg in self.legs), default=0.0)
        return longest + self.further + MARGIN


@dataclass(frozen=True, slots=True)
class NeedSession:
    """The decision lacks a session with one server. Open it, then ``resume``."""

    session: SessionRef
    lost: str | None
    """The session id that the server no longer knows; ``None`` where there was no session yet."""
    resume: Callable[[UpstreamSession | Failed], Decision]
    deadline: float
    """Seconds for each request that it takes."""
    context: RequestContext
    doubtful: bool = False
    """Whether ``lost`` may still be good: the server is asked before another one is opened."""
    effects: Effects = ()

    @property
    def patience(self) -> float:
        """Seconds within which the request is decided."""
        # To open it, and to restore what the client had set in it; before that, to ask whether it is lost.
        return (3 if self.doubtful else 2) * self.deadline + MARGIN


@dataclass(frozen=True, slots=True)
class NeedToken:
    """The decision lacks a token that one server gets for the caller's. Get it, then ``resume``."""

    server: str
    subject: Subject
    """Whose it is."""
    resume: Callable[[Granted | Failed], Decision]
    deadline: float
    """Seconds."""
    span: SpanContext | None = None
    """Of the request, where that is kept."""
    effects: Effects = ()

    @property
    def patience(self) -> float:
        """Seconds within which the request is decided."""
        return self.deadline + MARGIN


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of one or more servers, until the client leaves or all that was left of a stream is sent."""

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
    crowded: Reply
    """The answer where there are too many streams."""
    facts: RequestFacts
    deadline: float
    """Seconds for a server to begin its stream, where it has to be there before ours begins."""
    context: RequestContext
    changed: frozenset[str] = frozenset()
    """Kinds of lists (``tools``, …) that are not what they were when the session began: the configuration has changed."""
    id: bytes | None = None
    """Of the request whose stream is resumed, as the client wrote it, where the event id has it."""
    effects: Effects = ()

    @property
    def holder(self) -> str:
        """Who has to share what is held of it."""
        return self.context.principal or self.view.key

    @property
    def patience(self) -> float:
        """Seconds within which the stream begins, or is refused."""
        return self.deadline + MARGIN


Decision = Forward | Reply | FanOut | NeedSession | NeedToken | Stream | Preview | Ask


def with_effects(decision: Decision, effects: Effects) -> Decision:
    """The same decision, with more effects in front of its own."""
    if isinstance(decision, Forward):
        return msgspec.structs.replace(decision, effects=effects + decision.effects)
    return replace(decision, effects=effects + decision.effects)
