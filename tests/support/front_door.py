"""The listener for single messages of batches, in the hands of a test: it takes requests, and answers as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import Limits
from mcp_extproc.upstreams.batch_client import BatchClient

RESULT = b'{"jsonrpc":"2.0","id":1,"result":{}}'

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def with_result(_: web.Request) -> web.StreamResponse:
    """A result in JSON."""
    return web.Response(body=RESULT, content_type="application/json")


@dataclass
class FrontDoor:
    """What came to it."""

    answering: Answering = with_result
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether somebody has left before the answer was complete."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(await request.read())
        try:
            return await self.answering(request)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise


@asynccontextmanager
async def front_door(door: FrontDoor, limits: Limits) -> AsyncIterator[BatchClient]:
    """A client of it."""
    app = web.Application(client_max_size=16 << 20)
    app.router.add_route("*", "/{path:.*}", door.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with BatchClient(TcpAddress("127.0.0.1", runner.addresses[0][1]), limits) as client:
            yield client
    finally:
        await runner.cleanup()
