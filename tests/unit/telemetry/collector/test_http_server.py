"""Whoever connects to an HTTP server in the collector's process can't keep others away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from mcp_extproc.telemetry.collector import http_server
from mcp_extproc.telemetry.collector.http_server import HttpServer, answer
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
LARGE = 8 << 20


@asynccontextmanager
async def serving(take: Callable[[asyncio.WriteTransport], object] = lambda transport: None) -> AsyncIterator[int]:
    """The port of a server whose answers are larger than what the system holds for who does not read."""

    body = bytes(LARGE)

    async def large(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        take(request.transport)
        return await answer(request, body, "text/plain")

    application = web.Application()
    application.router.add_get("/", large)
    server = HttpServer(application, 0.1)
    port = await server.start(host="127.0.0.1", port=0)
    try:
        yield port
    finally:
        await server.stop()


@contextmanager
def connected(port: int, start: bytes = GET) -> Iterator[None]:
    """Four who read nothing."""
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(start)
        yield


async def is_answered(port: int) -> bool:
    with suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/") as response:
            return len(await response.read()) == LARGE
    return False


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 4)


async def test_attack_who_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus, for one, comes from elsewhere, and so may others."""
    monkeypatch.setattr(http_server, "UNREAD_SECONDS", 0.05)
    async with serving() as port:
        with connected(port):
            await eventually(lambda: is_answered(port), "somebody else is answered")


async def test_attack_of_an_answer_little_is_held() -> None:
    """Whoever asks and does not read gets no copy of his own."""
    transports: list[asyncio.WriteTransport] = []

    def held() -> list[int]:
        return [size for transport in transports if (size := transport.get_write_buffer_size())]

    async with serving(transports.append) as port:
        with connected(port):
            sizes = await eventually(held, "all wait", until=lambda found: len(found) == 4)
    assert max(sizes) < LARGE // 16


async def test_a_head_alone() -> None:
    async with serving() as port, aiohttp.ClientSession() as http, http.head(f"http://127.0.0.1:{port}/") as response:
        assert (response.status, response.headers["content-length"]) == (200, str(LARGE))
        assert await response.read() == b""


async def test_who_reads_slowly_but_reads_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "UNREAD_SECONDS", 60)
    async with serving() as port:
        assert all(await asyncio.gather(*(is_answered(port) for _ in range(4))))


async def test_attack_who_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or sends half a request."""
    monkeypatch.setattr(http_server, "SILENT_SECONDS", 0.05)
    async with serving() as port:
        with connected(port, b""), connected(port, GET[:-4]):
            await eventually(lambda: is_answered(port), "somebody else is answered")
