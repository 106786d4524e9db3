"""Servers in the hands of a test: work that ends when, and as, the test says; and a handler that never answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar

from aiohttp import web

from mcp_extproc.gateway.decision import NeedSession, NeedToken, Reply, Stream
from mcp_extproc.gateway.legs import Failed, Leg, Outcome, SessionRef
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.support.rawclient import DEADLINE

_A = TypeVar("_A")
_R = TypeVar("_R")


@dataclass
class Work(Generic[_A, _R]):
    """A piece of work that an exchange waits for."""

    asked: _A
    """What it was asked for."""
    outcome: asyncio.Future[_R]
    """Set its result or its exception to let the exchange go on; cancel it to break what the exchange waits for."""
    task: asyncio.Task[Any]
    """Whoever waits: the task that the transport gave to the exchange."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False
    """Whether the exchange gave it up."""

    async def given_up(self) -> None:
        """Wait until the exchange has given the work up."""
        async with asyncio.timeout(DEADLINE):
            await self.ended.wait()
        assert self.cancelled


@dataclass(frozen=True)
class Lost:
    """What a session is asked for with."""

    ref: SessionRef
    lost: str | None


class FakeStreams:
    """Implements :class:`mcp_extproc.extproc.exchange.Streams`: each stream is what the test puts into it."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[asyncio.Queue[bytes | None]] = asyncio.Queue()
        """The open streams, in the order in which they were opened. ``None`` ends one."""
        self.refuse = False
        self.ended: list[str] = []
        self.closed = 0

    @asynccontextmanager
    async def open(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        if self.refuse:
            yield stream.refused
            return
        chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.opened.put_nowait(chunks)

        async def read() -> AsyncIterator[bytes]:
            while (chunk := await chunks.get()) is not None:
                yield chunk

        try:
            yield read()
        finally:
            self.closed += 1

    def end(self, session_id: str) -> None:
        self.ended.append(session_id)


class FakeUpstreams:
    """Implements :class:`mcp_extproc.extproc.exchange.Upstreams`."""

    def __init__(self) -> None:
        self.discarded: list[tuple[str, UpstreamSession]] = []
        self.posted: list[tuple[str, bytes]] = []
        self.in_background: list[RequestContext] = []
        """For whose sake something was posted or discarded."""
        self.held = HeldBytes(256 << 20)
        self.is_full = False
        """Whether no more is posted."""
        self._runs: asyncio.Queue[Work[tuple[Leg, ...], Sequence[Outcome]]] = asyncio.Queue()
        self._sessions: asyncio.Queue[Work[Lost, UpstreamSession | Failed]] = asyncio.Queue()

    async def run(self, legs: tuple[Leg, ...], holding: Holding) -> list[Outcome]:
        outcomes = await _wait(self._runs, legs)
        return list(outcomes)

    async def session(self, need: NeedSession) -> UpstreamSession | Failed:
        return await _wait(self._sessions, Lost(need.session, need.lost))

    async def token(self, need: NeedToken) -> Granted | Failed:
        return Failed(need.server, "credentials_unavailable", "was not asked")

    def discard(self, server: str, session: UpstreamSession, context: RequestContext) -> None:
        self.in_background.append(context)
        self.discarded.append((server, session))

    def post(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> bool:
        if self.is_full:
            return False
        self.in_background.append(context)
        self.posted.append((server, body))
        return True

    async def next_run(self) -> Work[tuple[Leg, ...], Sequence[Outcome]]:
        """The next fan-out, once an exchange starts it."""
        async with asyncio.timeout(DEADLINE):
            return await self._runs.get()

    @asynccontextmanager
    async def answering(self, outcomes: Callable[[tuple[Leg, ...]], Sequence[Outcome]]) -> AsyncIterator[None]:
        """Let every fan-out end at once: with what this returns, or with the exception that it raises."""

        async def answer() -> None:
            while True:
                work = await self._runs.get()
                try:
                    work.outcome.set_result(outcomes(work.asked))
                except Exception as error:  # noqa: BLE001 - the exchange gets it
                    work.outcome.set_exception(error)

        task = asyncio.get_running_loop().create_task(answer())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def next_session(self) -> Work[Lost, UpstreamSession | Failed]:
        """The next session that an exchange asks for."""
        async with asyncio.timeout(DEADLINE):
            return await self._sessions.get()


async def _wait(queue: asyncio.Queue[Work[_A, _R]], asked: _A) -> _R:
    task = asyncio.current_task()
    assert task is not None
    work: Work[_A, _R] = Work(asked, asyncio.get_running_loop().create_future(), task)
    queue.put_nowait(work)
    try:
        return await asyncio.shield(work.outcome)
    except asyncio.CancelledError:
        work.cancelled = not work.outcome.cancelled()
        raise
    finally:
        work.ended.set()


class Held:
    """A handler of :class:`tests.support.scripted.ScriptedServer` that never answers, and tells who waits for it."""

    def __init__(self) -> None:
        self.open = 0
        """How many requests wait now."""
        self._reached: asyncio.Queue[str] = asyncio.Queue()
        self._closed: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, request: web.Request, message: dict[str, Any]) -> NoReturn:
        server = request.headers["x-mcp-server"]
        self.open += 1
        self._reached.put_nowait(server)
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1
            self._closed.put_nowait(server)
        raise AssertionError

    async def reached(self, count: int) -> set[str]:
        """Wait for this many requests; the servers that they are for."""
        return await _take(self._reached, count)

    async def closed(self, count: int) -> set[str]:
        """Wait until this many requests were closed by the gateway."""
        return await _take(self._closed, count)


async def _take(queue: asyncio.Queue[str], count: int) -> set[str]:
    async with asyncio.timeout(DEADLINE):
        return {await queue.get() for _ in range(count)}
