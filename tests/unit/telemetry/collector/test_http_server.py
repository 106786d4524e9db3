"""Whoever connects to an HTTP server in the collector's process can't keep others away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from mcp_extproc.telemetry.collector import http_server
from mcp_extproc.telemetry.collector.http_server import HttpServer
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
LARGE = 8 << 20


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """The port of a server whose answers are larger than what the system holds for who does not read."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    application = web.Application()
    application.router.add_get("/", answer)
    server = HttpServer(application, 0.1)
    port = await server.start(host="127.0.0.1", port=0)
    try:
        yield port
    finally:
        await server.stop()


async def asked(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10)
    writer.write(GET)
    return reader, writer


async def is_answered(port: int) -> bool:
    reader, writer = await asked(port)
    try:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            return len(await reader.readexactly(LARGE)) == LARGE
        return False
    finally:
        writer.close()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 4)


async def test_attack_who_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus, for one, comes from elsewhere, and so may others."""
    monkeypatch.setattr(http_server, "UNREAD_SECONDS", 0.05)
    async with serving() as port:
        hostile = [await asked(port) for _ in range(4)]
        await eventually(lambda: is_answered(port), "somebody else is answered")
        for _, writer in hostile:
            writer.close()


async def test_who_reads_slowly_but_reads_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "UNREAD_SECONDS", 60)
    async with serving() as port:
        assert all(await asyncio.gather(*(is_answered(port) for _ in range(4))))


async def test_attack_who_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or sends half a request."""
    monkeypatch.setattr(http_server, "SILENT_SECONDS", 0.05)
    async with serving() as port:
        hostile = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        hostile[0][1].write(GET[:-4])
        await eventually(lambda: is_answered(port), "somebody else is answered")
        for _, writer in hostile:
            writer.close()
