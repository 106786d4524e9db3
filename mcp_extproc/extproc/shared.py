"""What all exchanges of a worker share."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from mcp_extproc.bounded import MIB, Alike, Bounded
from mcp_extproc.extproc.detail import Details
from mcp_extproc.extproc.identity import Identification, Proof
from mcp_extproc.extproc.recorder import Recorder
from mcp_extproc.gateway.decision import NeedSession, NeedToken, Reply, Stream
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.effects import Effects, EndStreams, RecordEffect, VettingEffect
from mcp_extproc.gateway.legs import Failed, Leg, Outcome
from mcp_extproc.gateway.relay.responses import ResponseHead
from mcp_extproc.gateway.request import RequestContext, RequestHead
from mcp_extproc.gateway.requests.vetted import VettedCall
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.telemetry.counters import Counters

_T = TypeVar("_T")

Answers = list[bytes] | AsyncGenerator[bytes, None]
"""Serialized ``ProcessingResponse`` messages."""

Owed = Callable[[], list[bytes]]
"""Gives the answers that are still owed. To be called once all messages that have come so far were received."""

_MAX_KNOWN = 8192
_MAX_KNOWN_BYTES = 16 * MIB
_MAX_HEAD_BYTES = 8 * 1024
"""Longest head that is kept: longer ones repeat no more often, and cost more."""


class Visit(enum.Enum):
    """How often the worker sees a request, and which time this is (docs/envoy.md, "Policies")."""

    ONLY = "no policies judge requests in between: decide"
    FIRST = "policies come next: find out what the request is"
    EARLY = "policies that read no body come next: decide what has no effect yet, find out what the rest is"
    SECOND = "policies let it pass: decide"


class KnownHead(NamedTuple):
    """What was made of a request's head."""

    head: RequestHead
    proof: Proof
    """Who sent it, as far as metadata tells."""
    told_visit: Visit
    """What the stream itself said of it. So is the endpoint in :attr:`head`."""
    visit: Visit
    brings_response: bool
    """Whether the response comes along on the stream."""
    answers: list[bytes]

    def is_of(self, proof: Proof, told_visit: Visit, endpoint: str | None) -> bool:
        """Whether it is what the same bytes mean here."""
        return self.proof is proof and self.told_visit is told_visit and self.head.endpoint == endpoint


class Upstreams(Protocol):
    """Who runs the legs of fan-outs (see :class:`mcp_extproc.upstreams.fan_out.LegRunner`)."""

    @property
    def held(self) -> HeldBytes: ...

    async def run(self, legs: tuple[Leg, ...], holding: Holding) -> list[Outcome]: ...

    async def session(self, need: NeedSession) -> UpstreamSession | Failed: ...

    async def token(self, need: NeedToken) -> Granted | Failed: ...

    def discard(self, server: str, session: UpstreamSession, context: RequestContext) -> None: ...

    def post(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> bool: ...


class Streams(Protocol):
    """Who opens the streams of GETs (see :class:`mcp_extproc.upstreams.get_streams.Streams`)."""

    def open(self, stream: Stream) -> AbstractAsyncContextManager[AsyncIterator[bytes] | Reply]: ...

    def end(self, caller: str) -> None: ...


class VettedStream(Protocol):
    """The event stream of a call (see :class:`mcp_extproc.upstreams.vetted_calls.VettedStream`)."""

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...


class Vetted(Protocol):
    """Who asks users about calls (see :class:`mcp_extproc.upstreams.vetted_calls.VettedCalls`)."""

    def open(self, call: VettedCall) -> AbstractAsyncContextManager[VettedStream]: ...

    def apply(self, effect: VettingEffect) -> None: ...

    def end(self, caller: str) -> None: ...


class Shared:
    """What all exchanges of a worker share.

    Args:
        gateway: decides.
        upstreams: runs fan-outs.
        streams: answers GETs.
        vetted: asks users about calls.
        counters: of what happened.
        clock: Unix time in seconds.
        recorder: of what is collected; ``None`` where nothing is.
    """

    def __init__(
        self,
        gateway: Gateway,
        upstreams: Upstreams,
        streams: Streams,
        vetted: Vetted,
        counters: Counters,
        clock: Callable[[], float],
        recorder: Recorder | None = None,
    ) -> None:
        self.gateway = gateway
        self.upstreams = upstreams
        self.streams = streams
        self.vetted = vetted
        self.counters = counters
        self.clock = clock
        self.recorder = recorder
        self.identification = Identification(gateway.config)
        self.details = Details(gateway.config.more_namespaces, is_logged=bool(gateway.config.log.access))
        # An agent's calls begin with the same bytes each time, as long as Envoy leaves out what differs (ext_proc's
        # forward_rules), and a server's answers too.
        self.known_heads: Bounded[bytes, KnownHead] = Bounded(_MAX_KNOWN, _MAX_KNOWN_BYTES)
        self.alike = Alike()
        """Headers of heads, of which clients have mostly the same."""
        self.known_responses: Bounded[bytes, ResponseHead] = Bounded(_MAX_KNOWN, _MAX_KNOWN_BYTES)

    def apply(self, effects: Effects) -> None:
        """Change what a decision changes beyond its own request."""
        for effect in effects:
            if isinstance(effect, EndStreams):
                self.streams.end(effect.caller)
                self.vetted.end(effect.caller)
            elif isinstance(effect, VettingEffect):
                self.vetted.apply(effect)
            elif isinstance(effect, RecordEffect):
                if self.recorder is not None:
                    self.recorder.apply(effect)
            else:
                self.gateway.memory.apply(effect)


def remember(known: Bounded[bytes, _T], raw: bytes, what: _T) -> None:
    """Keep what was made of a head's bytes."""
    if len(raw) <= _MAX_HEAD_BYTES:
        # As bytes, and once more as text with something for each of its headers.
        known.keep(raw, what, 1024 + 4 * len(raw))
