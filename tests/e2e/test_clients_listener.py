"""The clients' listener: TLS, limits, ``Expect``, and the overload manager, in a real Envoy."""

from __future__ import annotations

import asyncio
import json
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from tests.e2e.conftest import StartGateway
from tests.support.gateway import ACCEPT, TestGateway
from tests.support.h2_front import Http2Front
from tests.support.scripted import ScriptedServer, fixed, raw
from tests.support.tls import Authority
from tests.support.waiting import PATIENCE, eventually

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def head(gateway: TestGateway, length: int, *more: str) -> bytes:
    lines = (
        "POST /mcp HTTP/1.1", f"host: localhost:{gateway.local.port}", "content-type: application/json",
        "accept: application/json, text/event-stream", f"content-length: {length}", *more, "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


async def connect(gateway: TestGateway, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", gateway.local.port, **options)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until Envoy closes the connection."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


# -- TLS ------------------------------------------------------------------------------------------------------------------


def tls_files(directory: Path, **more: Any) -> dict[str, Any]:
    return {"tls": {"certificate": str(directory / "server.pem"), "key": str(directory / "server.key"), **more}}


async def test_tls_to_clients(start: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with start({"alpha": alpha.url}, listen=tls_files(tmp_path)) as gateway:
        assert gateway.url == f"https://localhost:{gateway.local.port}/mcp"
        url = f"https://127.0.0.1:{gateway.local.port}/mcp"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authority.client(["http/1.1"]))) as http:
            secure = TestGateway(gateway.local, http, gateway.access_log)
            opened = await secure.send(INITIALIZE, url=url)
            call = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"alpha__echo"}}'
            session = opened.headers["mcp-session-id"]
            assert (await secure.send(call, url=url, mcp_session_id=session)).result
        assert alpha.calls("tools/call")[0].headers["x-forwarded-proto"] == "https"
        # Plain HTTP gets nothing.
        reader, writer = await connect(gateway)
        writer.write(head(gateway, len(PING)) + PING)
        assert b"HTTP/1.1 200" not in await ended(reader)
        writer.close()


INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"test","version":"0"}}}'
)


async def test_clients_with_certificates_only(start: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    listen = tls_files(tmp_path, client_ca=str(tmp_path / "ca.pem"))
    async with start({"alpha": alpha.url}, listen=listen) as gateway:
        url = f"https://127.0.0.1:{gateway.local.port}/mcp"
        nobody = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        for context, welcome in ((nobody, False), (authority.client(["http/1.1"]), True)):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
                sending = TestGateway(gateway.local, http, gateway.access_log).send(INITIALIZE, url=url)
                if welcome:
                    assert (await sending).result
                else:
                    with pytest.raises(aiohttp.ClientError):
                        await sending
        assert len(alpha.calls("initialize")) == 1


@pytest.mark.parametrize(("alpn", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")])
async def test_http2_by_alpn(
    start: StartGateway, alpha: ScriptedServer, tmp_path: Path, alpn: list[str], chosen: str
) -> None:
    context = Authority(tmp_path).client(["h2", "http/1.1"])
    async with start({"alpha": alpha.url}, listen=tls_files(tmp_path, alpn=alpn)) as gateway:
        reader, writer = await connect(gateway, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        if chosen == "h2":
            assert await over_http2(reader, writer, gateway) == (b"200", b'{"jsonrpc":"2.0","id":1,"result":{')
        writer.close()


async def over_http2(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gateway: TestGateway
) -> tuple[bytes, bytes]:
    """Status and start of the body of an ``initialize``."""
    connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    connection.initiate_connection()
    connection.send_headers(1, [
        (":method", "POST"), (":scheme", "https"), (":authority", f"localhost:{gateway.local.port}"), (":path", "/mcp"),
        ("content-type", "application/json"), ("accept", "application/json, text/event-stream"),
    ])  # fmt: skip
    connection.send_data(1, INITIALIZE, end_stream=True)
    writer.write(connection.data_to_send())
    status, body = b"", b""
    async with asyncio.timeout(PATIENCE):
        while True:
            for event in connection.receive_data(await reader.read(65536)):
                match event:
                    case ResponseReceived():
                        status = bytes(dict(event.headers or ())[b":status"])
                    case DataReceived():
                        body += event.data or b""
                    case StreamEnded():
                        return status, body[:34]


async def test_a_handshake_that_does_not_come(start: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    Authority(tmp_path)
    listen = tls_files(tmp_path) | {"limits": {"request_headers_timeout": "300ms"}}
    async with start({"alpha": alpha.url}, listen=listen) as gateway:
        reader, writer = await connect(gateway)
        assert await ended(reader) == b""
        writer.close()
        assert await gateway.local.stat("listener.127.0.0.1_0.downstream_cx_transport_socket_connect_timeout") == 1


@pytest.mark.parametrize("resources", [False, True], ids=["json passes", "json is read"])
async def test_trailers_of_a_server(start: StartGateway, beta: ScriptedServer, resources: bool) -> None:
    """Nothing of the answer is lost for them, and they go no further. An answer that they cut off does not look complete.
    (Envoy does not tell a worker of that end before the server's time is up.)"""
    answers = {"whole": fixed(result={"content": []}), "half": raw(200, "application/json", '{"jsonrpc": "2.0", "id"')}

    async def called(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await answers[message["params"]["name"]](request, message)

    capabilities: dict[str, Any] = {"tools": {}, **({"resources": {}} if resources else {})}
    async with (
        ScriptedServer("alpha", capabilities=capabilities, on={"tools/call": called}) as behind,
        Http2Front(behind.url, trailers=[("x-sum", "1")]) as front,
        start({
            "alpha": {"url": f"http://127.0.0.1:{front.port}/mcp", "http2": True, "timeout": "2s"},
            "beta": beta.url,
        }) as gateway,
    ):  # fmt: skip
        session = await gateway.initialize()
        assert (await gateway.call(session, "alpha__whole")).result == {"content": []}
        reader, writer = await connect(gateway)
        connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        ends = {1: "alpha__whole", 3: "alpha__half"}
        for stream, name in ends.items():
            connection.send_headers(stream, [
                (":method", "POST"), (":scheme", "http"), (":authority", f"localhost:{gateway.local.port}"),
                (":path", "/mcp"), ("content-type", "application/json"), ("accept", ACCEPT), ("mcp-session-id", session),
            ])  # fmt: skip
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
            connection.send_data(stream, json.dumps(message).encode(), end_stream=True)
        writer.write(connection.data_to_send())
        seen = await until_ended(reader, connection, set(ends))
        writer.close()
    whole, half = ([event for event in seen if getattr(event, "stream_id", None) == stream] for stream in ends)
    assert json.loads(body_of(whole))["result"] == {"content": []}
    assert not any(isinstance(event, TrailersReceived) for event in (*whole, *half))
    if not resources:
        assert body_of(half) == b'{"jsonrpc": "2.0", "id"'
    elif not isinstance(half[-1], StreamReset):  # nothing of it was sent yet
        assert json.loads(body_of(half))["error"]["code"] == -32603


async def test_trailers_of_a_client(start: StartGateway, alpha: ScriptedServer) -> None:
    """No piece of such a body is said to be its end, and Envoy shows the worker no trailers before it has decided."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        reader, writer = await connect(gateway)
        connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        messages = {
            1: {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "alpha__echo", "arguments": {}}},
            3: {"jsonrpc": "2.0", "id": 3, "method": "ping"},
        }
        for stream, message in messages.items():
            connection.send_headers(stream, [
                (":method", "POST"), (":scheme", "http"), (":authority", f"localhost:{gateway.local.port}"),
                (":path", "/mcp"), ("content-type", "application/json"), ("accept", ACCEPT), ("mcp-session-id", session),
            ])  # fmt: skip
            connection.send_data(stream, json.dumps(message).encode())
            connection.send_headers(stream, [("x-sum", "1")], end_stream=True)
        writer.write(connection.data_to_send())
        seen = await until_ended(reader, connection, set(messages))
        writer.close()
    for stream in messages:
        answer = json.loads(body_of([event for event in seen if getattr(event, "stream_id", None) == stream]))
        assert answer["id"] == stream
        assert "result" in answer
    [got] = alpha.calls("tools/call")
    assert got.headers["content-length"] == str(len(got.body))


def body_of(events: list[Any]) -> bytes:
    return b"".join(event.data or b"" for event in events if isinstance(event, DataReceived))


async def until_ended(reader: asyncio.StreamReader, connection: H2Connection, streams: set[int]) -> list[Event]:
    """All that happens until these streams have ended."""
    seen: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        while streams:
            for event in connection.receive_data(await reader.read(65536)):
                seen.append(event)
                if isinstance(event, StreamEnded | StreamReset):
                    streams.discard(event.stream_id or 0)
    return seen


# -- Limits ---------------------------------------------------------------------------------------------------------------


async def test_heads_that_are_too_large(start: StartGateway, alpha: ScriptedServer) -> None:
    limits = {"max_request_headers_kb": 8, "max_headers_count": 30, "per_connection_buffer_limit_bytes": "64KiB"}
    async with start({"alpha": alpha.url}, listen={"limits": limits}) as gateway:
        for fields, status in (
            ({"x_large": "x" * 7000}, 400),
            ({"x_large": "x" * 9000}, 431),
            ({f"x_{n}": "y" for n in range(15)}, 400),
            ({f"x_{n}": "y" for n in range(31)}, 431),
        ):
            # Without a session, so 400 is the worker's answer.
            assert (await gateway.send(PING, **fields)).status == status
        # A body larger than a connection's buffer is no larger than what is allowed.
        session = await gateway.initialize()
        assert (await gateway.call(session, "alpha__echo", {"text": "x" * 300_000})).result


async def test_a_connection_takes_so_many_requests(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}, listen={"limits": {"max_requests_per_connection": 3}}) as gateway:
        reader, writer = await connect(gateway)
        writer.write((head(gateway, len(INITIALIZE)) + INITIALIZE) * 4)
        got = await ended(reader)
        assert (got.count(b"HTTP/1.1 "), got.lower().count(b"connection: close")) == (3, 1)
        writer.close()


@pytest.mark.parametrize("key", ["idle_timeout", "max_connection_duration"])
async def test_old_and_idle_connections_are_closed(start_own: StartGateway, alpha: ScriptedServer, key: str) -> None:
    async with start_own({"alpha": alpha.url}, listen={"limits": {key: "300ms"}}) as gateway:
        reader, writer = await connect(gateway)
        writer.write(head(gateway, len(INITIALIZE)) + INITIALIZE)
        assert (await ended(reader)).startswith(b"HTTP/1.1 200")
        writer.close()
        counter = "idle_timeout" if key == "idle_timeout" else "max_duration_reached"
        assert await gateway.local.stat(f"http.mcp.downstream_cx_{counter}") == 1


async def test_clients_of_http_1_0(start: StartGateway, alpha: ScriptedServer) -> None:
    """nginx speaks it by default. An answer ends where the connection does; chunks would be read as the answer."""
    alpha.on["tools/call"] = raw(200, "text/event-stream", 'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n')
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        call = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"alpha__echo","arguments":{}}}'
        for body, answer in (
            (PING, b'{"jsonrpc":"2.0","id":1,"result":{}}'),
            (call, b'data: {"jsonrpc":"2.0","id":2,'),
        ):
            reader, writer = await connect(gateway)
            told = head(gateway, len(body), f"mcp-session-id: {session}").replace(b"HTTP/1.1", b"HTTP/1.0")
            writer.write(told + body)
            got = await ended(reader)
            writer.close()
            assert got.split(b"\r\n", 1)[0].endswith(b" 200 OK"), got
            assert b"transfer-encoding" not in got
            assert got.partition(b"\r\n\r\n")[2].startswith(answer)


async def test_expect_100_continue(start: StartGateway, alpha: ScriptedServer) -> None:
    """Envoy says when to go on. No server is asked, nor told."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        body = b'{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"alpha__echo"}}'
        reader, writer = await connect(gateway)
        writer.write(
            head(gateway, len(body), "expect: 100-continue", f"mcp-session-id: {session}", "connection: close")
        )
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        assert not alpha.calls("tools/call")
        writer.write(body)
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"id": 4' in answer
        assert "expect" not in alpha.calls("tools/call")[0].headers
        writer.close()


# -- Overload -------------------------------------------------------------------------------------------------------------


async def test_no_more_connections_than_configured(start: StartGateway, alpha: ScriptedServer) -> None:
    """Those of the gateway itself do not count: calls, sub-requests, batches and the admin interface go on."""
    overload = {"max_active_downstream_connections": 3}
    async with start({"alpha": alpha.url}, overload=overload) as gateway:
        first = [await connect(gateway) for _ in range(3)]
        for reader, writer in first:
            writer.write(head(gateway, len(INITIALIZE)) + INITIALIZE)
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        reader, writer = await connect(gateway)
        writer.write(head(gateway, len(PING)) + PING)
        assert await ended(reader) == b""
        writer.close()
        for _, writer in first:
            writer.close()
        active = "http.mcp.downstream_cx_active"
        await eventually(lambda: gateway.local.stat(active), "all connections are closed", until=lambda seen: seen == 0)
        session = await gateway.initialize("2025-03-26")
        calls = [
            {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "alpha__echo"}} for n in range(20)
        ]
        answers = await gateway.send(json.dumps(calls).encode(), mcp_session_id=session)
        assert answers.status == 200
        assert answers.body.count(b'"result"') == 20


async def test_envoy_that_is_short_of_memory(start_own: StartGateway, alpha: ScriptedServer) -> None:
    """Beyond all thresholds nobody new gets in, and the admin interface says why."""
    async with start_own({"alpha": alpha.url}, overload={"max_heap_size_bytes": "1MiB"}) as gateway:
        for action in ("disable_http_keepalive", "stop_accepting_requests", "stop_accepting_connections"):
            gauge = f"overload.envoy.overload_actions.{action}.active"
            await eventually(partial(gateway.local.stat, gauge), f"{action} is active", until=lambda seen: seen == 1)
        gauge = "overload.envoy.overload_actions.reset_high_memory_stream.scale_percent"
        await eventually(partial(gateway.local.stat, gauge), "streams are reset", until=lambda seen: seen == 100)
        reader, writer = await connect(gateway)  # the kernel's answer; Envoy does not take it from there
        writer.write(head(gateway, len(INITIALIZE)) + INITIALIZE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read(1)
        assert not alpha.received
        writer.close()
