"""A processor in which nothing is left to chance: its servers always answer the same, its clock stands, its nonces repeat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from unittest.mock import patch

import msgspec
import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import EARLY_KEY
from mcp_extproc.extproc.detail import Detail
from mcp_extproc.extproc.exchange import Exchange, Processor
from mcp_extproc.extproc.shared import Visit
from mcp_extproc.gateway import dispatch as gateways
from mcp_extproc.gateway.decision import NeedSession, NeedToken, Reply, Stream
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.legs import (
    Answered,
    BatchLeg,
    Done,
    Failed,
    Leg,
    Listed,
    ListLeg,
    Opened,
    OpenLeg,
    Outcome,
)
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp.sessions import Sealer, UpstreamSession
from mcp_extproc.telemetry.counters import Counters
from tests.extproc.recorded.recording import Recording
from tests.support.vetted import vetted_calls

PATIENCE = 15.0

_CHUNKS = (b": first\n\n", b"data: second\n\n")
"""What every stream begins with."""


@dataclass
class Servers:
    """Implements :class:`mcp_extproc.extproc.exchange.Upstreams`: two servers that answer, and one that can't be reached."""

    told: Counter[str] = field(default_factory=Counter)
    """What servers were told without anybody waiting for it."""
    held: HeldBytes = field(default_factory=lambda: HeldBytes(256 << 20))

    async def run(self, legs: tuple[Leg, ...], holding: Holding) -> list[Outcome]:
        await asyncio.sleep(0)
        return [_outcome(leg) for leg in legs]

    async def session(self, need: NeedSession) -> UpstreamSession | Failed:
        await asyncio.sleep(0)
        ref = need.session
        return _unreachable(ref.server) if ref.server == "gamma" else _session(ref.server, ref.version)

    async def token(self, need: NeedToken) -> Granted | Failed:
        await asyncio.sleep(0)
        return _unreachable(need.server)

    def discard(self, server: str, session: UpstreamSession, context: RequestContext) -> None:
        self.told[f"discard {server} {session.id}"] += 1

    def post(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> bool:
        self.told[f"post {server} {body!r}"] += 1
        return True


def _outcome(leg: Leg) -> Outcome:
    if isinstance(leg, BatchLeg):
        id = orjson.loads(leg.body).get("id")
        return Answered("", 200, b"" if id is None else orjson.dumps({"jsonrpc": "2.0", "id": id, "result": {}}))
    if leg.server == "gamma":
        return _unreachable("gamma")
    if isinstance(leg, OpenLeg):
        return Opened(leg.server, _session(leg.server, leg.version), f"How to use {leg.server}")
    if isinstance(leg, ListLeg):
        return Listed(leg.server, [msgspec.Raw(b'{"name":"%s","uri":"file:///readme"}' % leg.items.encode())])
    return Done(leg.server)


def _unreachable(server: str) -> Failed:
    return Failed(server, "connect", "could not be reached")


def _session(server: str, version: str) -> UpstreamSession:
    if server == "beta":
        return UpstreamSession(version, None, frozenset({"tools"}))
    return UpstreamSession(
        version, f"{server}-1", frozenset({"tools", "prompts", "resources", "logging", "completions"})
    )


class Listeners:
    """Implements :class:`mcp_extproc.extproc.exchange.Streams`: each says the same, then waits for the end of its session, or
    where the id of the session is odd, ends by itself."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Event] = {}
        self.open_now = 0

    @asynccontextmanager
    async def open(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        if stream.method:
            yield stream.refused
            return
        self.open_now += 1
        try:
            yield self._read(stream.view.key)
        finally:
            self.open_now -= 1

    async def _read(self, session: str) -> AsyncIterator[bytes]:
        for chunk in _CHUNKS:
            yield chunk
        if int(session, 16) % 2 == 0:
            await self._ends.setdefault(session, asyncio.Event()).wait()

    def end(self, session_id: str) -> None:
        self._ends.setdefault(session_id, asyncio.Event()).set()


class Stage:
    """A processor, and what became of it.

    Args:
        recording: it has to fit.
    """

    def __init__(self, recording: Recording) -> None:
        config = GatewayConfig.model_validate(recording.config)
        with patch.object(gateways, "Sealer", _same_nonces):
            gateway = Gateway(config, recording.secret, SessionMemory())
        self.body_bytes = config.limits.request_bytes
        self.servers = Servers()
        self.listeners = Listeners()
        vetted = vetted_calls(gateway)
        self.processor = _Counting(gateway, self.servers, self.listeners, vetted, Counters(), lambda: recording.clock)

    def outcome(self) -> dict[str, object]:
        """What is the same each time, beside the answers."""
        return {
            "counters": self.processor.counters.snapshot(),
            "told": self.servers.told,
            "exchanges": self.processor.made,
            "left open": self.processor.made - self.processor.closed,
            "streams left open": self.listeners.open_now,
        }


class _Counting(Processor):
    """Counts exchanges."""

    made = 0
    closed = 0

    def opener(self, metadata: Mapping[str, str]) -> Callable[[], Exchange]:
        visit = Visit.EARLY if EARLY_KEY in metadata else Visit.ONLY
        return partial(_Counted, self, self.details.of(metadata), visit)


class _Counted(Exchange):
    def __init__(self, processor: _Counting, detail: Detail, visit: Visit) -> None:
        super().__init__(processor, detail, visit)
        self._counts = processor
        processor.made += 1

    def closed(self) -> None:
        self._counts.closed += 1
        super().closed()


def _same_nonces(secret: str, previous: Sequence[str] = ()) -> Sealer:
    return Sealer(secret, previous, bytes)
