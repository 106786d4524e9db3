"""Clients that send slowly, take nothing, or open too much, at a real Envoy. Others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.settings import SettingCodes

from tests.chaos import connections, unread_streams
from tests.support.gateway import TestGateway, gateway
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAM_BYTES = 256 * 1024
LIMITS = {
    "request_headers_timeout": "1500ms", "request_timeout": "2s", "unread_timeout": "2s", "max_concurrent_streams": 7,
}  # fmt: skip
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/x","params":{"x":"%s"}}\n\n' % (b"x" * 8000)


async def talk(request: web.Request) -> web.StreamResponse:
    """A stream of events for as long as somebody takes them."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):
        while True:
            await response.write(EVENT)
    return response


async def keep_silent(request: web.Request) -> web.StreamResponse:
    """A stream without events."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer("alpha", get=talk) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestGateway]:
    folder: Path = tmp_path_factory.mktemp("slow")
    limits = {"stream_bytes": STREAM_BYTES, "streams": 12, "session_streams": 3}
    async with gateway(folder, {"alpha": server.url}, listen={"limits": LIMITS}, limits=limits, workers=1) as started:
        yield started


async def stat(running: TestGateway, name: str, until: Callable[[int], object]) -> None:
    async def seen() -> int:
        return await running.local.stat(f"http.mcp.{name}") or 0

    await eventually(seen, name, until=until)


async def still_serves(running: TestGateway) -> None:
    """Another client's call."""
    session = await running.initialize()
    assert (await running.call(session, "alpha__echo")).result


@pytest.mark.parametrize("kind", [connections.HEADERS, connections.BODY], ids=["headers", "body"])
async def test_a_request_that_comes_too_slowly(running: TestGateway, kind: connections.Kind) -> None:
    async with connections.flood("127.0.0.1", running.local.port, 5, kind) as flood:
        await still_serves(running)
        await eventually(lambda: flood.answers, "each is answered", until=lambda found: len(found) == 5)
    for answer in flood.answers:
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b'"code":-32600' in answer
        assert b"limits.request_timeout" in answer


async def test_a_client_that_takes_nothing_is_gone_after_a_while(running: TestGateway) -> None:
    """Its stream ends after so many bytes. They are with the kernel and Envoy until the connection is closed."""
    before = await running.local.stat("http.mcp.downstream_cx_active") or 0
    async with unread_streams.flood("127.0.0.1", running.local.port, 5) as flood:
        assert flood.statuses == {200: 5}
        await stat(running, "downstream_rq_active", lambda active: active == 0)
        await stat(running, "downstream_cx_active", lambda active: active <= before)
        await still_serves(running)


async def test_an_http2_stream_that_nobody_reads_is_reset(running: TestGateway) -> None:
    """Its connection is read, and stays."""
    async with unread_streams.flood_http2("127.0.0.1", running.local.port, 5) as flood:
        await eventually(lambda: flood.statuses[200], "all streams", until=lambda opened: opened == 5)
        await still_serves(running)
        await eventually(lambda: flood.ended, "all are reset", until=lambda ended: ended == 5)


async def test_requests_of_an_http2_connection(running: TestGateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.local.port)
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    told: dict[Any, int] = {}
    async with asyncio.timeout(PATIENCE):
        while not told:
            for event in connection.receive_data(await reader.read(65536)):
                if isinstance(event, RemoteSettingsChanged):
                    told = {code: change.new_value for code, change in event.changed_settings.items()}
    writer.close()
    assert told[SettingCodes.MAX_CONCURRENT_STREAMS] == 7
    assert told[SettingCodes.INITIAL_WINDOW_SIZE] == 64 * 1024


async def listen(running: TestGateway, session: str) -> Any:
    headers = {"accept": "text/event-stream", "mcp-session-id": session}
    return await running.http.get(running.url, headers=headers)


async def test_one_stream_too_many(running: TestGateway, server: ScriptedServer) -> None:
    """Of a session: the oldest ends. Of all: 429, and a JSON-RPC error that says where the number comes from."""
    server.get = keep_silent
    await stat(running, "downstream_rq_active", lambda active: active == 0)
    sessions = [await running.initialize() for _ in range(5)]
    opened = []
    for session in sessions[:4]:
        opened += [await listen(running, session) for _ in range(3)]
    assert {stream.status for stream in opened} == {200}
    again = await listen(running, sessions[0])
    assert again.status == 200
    refused = await listen(running, sessions[4])
    assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    error = (await refused.json())["error"]
    assert (error["code"], "limits.streams" in error["message"]) == (-32600, True)
    async with asyncio.timeout(PATIENCE):
        await opened[0].read()
    for stream in (*opened, again, refused):
        stream.close()
    await stat(running, "downstream_rq_active", lambda active: active == 0)
    after = await listen(running, sessions[4])
    assert after.status == 200
    after.close()
