"""The status page's server: its files, what it shows as it changes, and the way to the gateway's endpoints."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

import msgspec
from aiohttp import web

from mcp_extproc.mcp import transport
from mcp_extproc.status.board import CALLS, Board
from mcp_extproc.status.guard import guarded, with_headers
from mcp_extproc.status.known import UNWATCHED, WATCHED, Known
from mcp_extproc.status.numbers import Numbers
from mcp_extproc.status.relay import MAX_REQUEST_BYTES, Relay
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.http_server import HttpServer, answer
from mcp_extproc.telemetry.collector.spec import CollectorSpec
from mcp_extproc.telemetry.collector.workers import Workers
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.prometheus import CONTENT_TYPE

TURN_SECONDS: Final = 1.0
"""Between two looks at what has changed. A record is here half a second after its request at most."""

LOOK_SECONDS: Final = 2.0
"""Between two looks at Envoy's numbers."""

LINGER_SECONDS: Final = 20.0
"""For which records go on to come after the last one who looked has left, as for a page that is loaded again."""

MAX_WATCHERS: Final = 64

UNREAD_SECONDS: Final = 20.0
"""After which somebody is taken for gone who reads nothing: records come, and servers are asked, while anybody looks."""

SHOWN_SECONDS: Final = 0.5
"""For which what is shown is not made again, however many look."""

ENVOY_SECONDS: Final = 1.0
"""For which Envoy is not asked again for programs that look once."""

TOLD_SECONDS: Final = 1.0
"""For what the supervisor knows, which is on its way when this process begins."""

_SHUTDOWN_SECONDS: Final = 0.5

_CALLS_AT_ONCE: Final = 200

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_LOG = log.logger("status")


class StatusPage:
    """The page of one gateway.

    Args:
        spec: where it listens, and where Envoy's admin interface is.
        tell: tells the supervisor a line.
    """

    def __init__(self, spec: CollectorSpec, tell: Callable[[bytes], None]) -> None:
        assert spec.page is not None
        self._at = spec.page
        self._where_metrics_are = (
            f"Metrics are at http://{spec.metrics_address}/metrics (telemetry.metrics.address).\n"
            if spec.metrics_address
            else "Metrics are off: telemetry.metrics turns them on.\n"
        )
        self._tell = tell
        self._numbers = None if spec.admin is None else Numbers(spec.admin)
        self._board = Board(time.time())
        self._known: Known | None = None
        self._is_told = asyncio.Event()
        """Whether the supervisor has told what it knows."""
        self._envoy: dict[str, Any] | None = None
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self._shown_at = -math.inf
        self._shown_as: tuple[object, object] | None = None
        self._shown_text = msgspec.Raw()
        self._at_once: tuple[msgspec.Raw, bytes] | None = None
        self._watchers = 0
        self._watched = False
        """Whether Envoy and the supervisor were told that somebody looks."""
        self._changed = asyncio.Event()
        self._tasks = Tasks(_LOG)
        self._metrics: Callable[[], Awaitable[bytes]] | None = None
        self._files = {path.name: path.read_bytes() for path in (files("mcp_extproc.status") / "page").iterdir()}

    # -- In the collector's process -------------------------------------------------------------------------------------

    def show(self, exchange: Exchange) -> None:
        """A request that is over."""
        self._board.take(exchange)

    def learn(self, line: bytes) -> None:
        """What the supervisor knows."""
        self._known = msgspec.json.decode(line, type=Known)
        self._is_told.set()

    async def start(self, metrics: Callable[[], Awaitable[bytes]] | None, workers: Workers) -> None:
        """Serve."""
        self._metrics = metrics
        self._workers = workers
        self._relay = Relay()
        application = web.Application(middlewares=[guarded], client_max_size=MAX_REQUEST_BYTES)
        application.on_response_prepare.append(with_headers)
        application.router.add_get("/events", self._events)
        application.router.add_get("/state", self._state)
        application.router.add_get("/metrics", self._scraped)
        application.router.add_route("POST", "/relay/{way:.*}", self._relayed)
        application.router.add_route("DELETE", "/relay/{way:.*}", self._relayed)
        application.router.add_get("/{name:[a-z-]*(?:[.][a-z]+)?}", self._file)
        self._server = HttpServer(application, _SHUTDOWN_SECONDS)
        await self._server.start(sock=socket.socket(fileno=self._at.descriptor))
        for descriptor in self._at.visitors:
            await self._server.take(socket.socket(fileno=descriptor))
        self._tasks.keep("look_at_envoy", self._look)

    async def stop(self) -> None:
        """Serve no longer."""
        await self._tasks.close()
        await self._server.stop()
        await self._relay.close()
        if self._numbers is not None:
            if self._at.records_on_demand:
                await self._numbers.watch(on=False)
            await self._numbers.close()

    # -- Whether anybody looks ------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Read Envoy's numbers while somebody looks, and have it send records meanwhile, if it does not anyway."""
        if self._at.records_on_demand and self._numbers is not None:
            await self._numbers.watch(on=False)  # one that was ended in between may have left it on
        while True:
            self._changed.clear()
            if self._watchers:
                await self._be_watched(on=True)
                await self._read_numbers()
                await self._changes(LOOK_SECONDS)
            elif not self._watched:
                await self._changes(None)
            elif not await self._changes(LINGER_SECONDS):
                await self._be_watched(on=False)

    async def _changes(self, seconds: float | None) -> bool:
        """Whether somebody comes or leaves within some time."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _be_watched(self, *, on: bool) -> None:
        if on == self._watched:
            return
        self._watched = on
        self._tell(WATCHED if on else UNWATCHED)
        if self._at.records_on_demand and self._numbers is not None:
            await self._numbers.watch(on=on)
            if on:  # what came before has a gap behind it
                self._board = Board(time.time())

    async def _ask_envoy(self) -> None:
        async with self._asking:
            if self._numbers is not None and time.monotonic() - self._asked_at >= ENVOY_SECONDS:
                self._envoy = await self._numbers.read()
                self._asked_at = time.monotonic()

    async def _read_numbers(self) -> None:
        if self._numbers is None:
            return
        self._envoy = await self._numbers.read()
        # Another Envoy than before does not know.
        if self._envoy is not None and self._at.records_on_demand and not self._envoy.get("watches"):
            await self._numbers.watch(on=True)

    # -- What it answers ------------------------------------------------------------------------------------------------

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"] or "index.html"
        if name not in self._files:
            raise web.HTTPNotFound(text="There is nothing here.\n")
        kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        return web.Response(body=self._files[name], headers={"content-type": kind, "cache-control": "no-cache"})

    async def _scraped(self, request: web.Request) -> web.StreamResponse:
        if self._metrics is None:
            raise web.HTTPNotFound(text=self._where_metrics_are)
        return await answer(request, await self._metrics(), CONTENT_TYPE)

    async def _state(self, request: web.Request) -> web.StreamResponse:
        """All at once, for programs. It does not count as somebody who looks on. This process may have been started for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TOLD_SECONDS):
                await self._is_told.wait()
        if not self._watched:
            await self._ask_envoy()
        return await answer(request, self._all_at_once(), "application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """What it shows, as it changes (server-sent events)."""
        if self._watchers >= MAX_WATCHERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_WATCHERS} others look at the page already.\n")
        headers = dict([("content-type", transport.SSE), ("cache-control", "no-store"), transport.UNBUFFERED])
        response = web.StreamResponse(headers=headers)
        self._watchers += 1
        self._changed.set()
        try:
            await response.prepare(request)
            async for event in self._changes_shown():
                async with asyncio.timeout(UNREAD_SECONDS):
                    await response.write(event)
        except (ConnectionError, TimeoutError):  # they have left, or do not read
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watchers -= 1
            self._changed.set()
        return response

    async def _changes_shown(self) -> AsyncIterator[bytes]:
        known: Known | None = None
        board, number = None, 0
        while True:
            if self._known is not known:
                known = self._known
                yield _event("known", known)
            if self._board is not board:
                board, number = self._board, 0
                yield _event("begin", {"since": board.since})
            # Before the state: with that all is told, and what is not there is taken for none.
            if calls := board.calls_after(number, _CALLS_AT_ONCE):
                number = board.number
                yield _event("calls", calls)
            yield _event("state", self._shown())
            await asyncio.sleep(TURN_SECONDS)

    def _all_at_once(self) -> bytes:
        """What is shown, with the gateway and its latest calls."""
        state = self._shown()
        if self._at_once is None or self._at_once[0] is not state:
            calls = self._board.calls_after(0, CALLS)
            text = msgspec.json.encode({"known": self._known, "state": state, "calls": calls})
            self._at_once = state, text
        return self._at_once[1]

    def _shown(self) -> msgspec.Raw:
        """What is shown to all who look."""
        of, at = (self._board, self._known), time.monotonic()
        if self._shown_as != of or at - self._shown_at >= SHOWN_SECONDS:
            self._shown_as, self._shown_at = of, at
            self._shown_text = msgspec.Raw(msgspec.json.encode(self._made()))
        return self._shown_text

    def _made(self) -> dict[str, Any]:
        now = time.time()
        return {
            "now": now,
            "records": self._watched or not self._at.records_on_demand,
            "envoy": self._envoy,
            "workers": self._workers.state(),
            "servers": {} if self._known is None else self._servers(now),
            "board": self._board.shown(now),
        }

    def _servers(self, now: float) -> Mapping[str, Any]:
        assert self._known is not None
        return {server.name: self._board.of_server(server.name, now) for server in self._known.servers}

    async def _relayed(self, request: web.Request) -> web.StreamResponse:
        ways = [] if self._known is None else self._known.ways
        way = next((one for one in ways if one.is_reachable and one.name == request.match_info["way"]), None)
        if way is None:
            raise web.HTTPNotFound(text="There is no such endpoint.\n")
        return await self._relay.take(request, way)


def _event(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
