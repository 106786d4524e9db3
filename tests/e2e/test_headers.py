"""Which headers go from clients to servers and from servers to clients: those that are listed, and no others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

from tests.e2e.conftest import StartGateway
from tests.support.gateway import ACCEPT
from tests.support.h2_front import Http2Front
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE

OF_SERVERS = {
    "Strict-Transport-Security": "max-age=1", "Alt-Svc": 'h3=":443"', "Clear-Site-Data": '"*"', "Refresh": "0;url=/x",
    "Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "*", "Access-Control-Max-Age": "9",
    "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "x",
    "Set-Cookie": "a=b", "Set-Cookie2": "a=b", "Proxy-Authenticate": "Basic", "WWW-Authenticate": "Basic", "NEL": "{}",
    "Link": "</x>; rel=preload", "Content-Security-Policy": "x", "X-Accel-Redirect": "/secret", "Mcp-Session-Id": "forged",
    "X-Mcp-Server": "x", "X-Envoy-Upstream-Service-Time": "1", "X-Powered-By": "x", "Via": "x", "Age": "1", "Y": "y",
    "Report-To": "{}", "Retry-After": "9", "X-Request-Id": "x", "Trailer": "x", "Cross-Origin-Opener-Policy": "x",
    "X-Mcp-Upstream-Failure": "UpstreamConnectionFailure", "X-Mcp-U": "x", "Mcp-Param-X": "x", "Mcp-Sneaky": "x",
    "Cache-Status": "x; hit", "Content-Transfer-Encoding": "x", "Content-": "x", "Mcp-Session": "x", "C": "x",
}  # fmt: skip

RBAC = {
    "name": "envoy.filters.http.rbac",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
}

PASSED = {"content-type", "content-length", "transfer-encoding", "cache-control", "x-accel-buffering"}
OF_ENVOY = {"date", "server"}


@pytest.mark.parametrize("capabilities", [{"tools": {}}, {"tools": {}, "resources": {}}], ids=["not read", "read"])
async def test_headers_of_servers(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, capabilities: Any
) -> None:
    """Of JSON and of event streams, whether a worker reads them or not."""
    hints = {"Cache-Control": "no-transform", "X-Accel-Buffering": "no"}

    async def called(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
        if message["params"]["name"] == "json":
            return web.Response(text=body, content_type="application/json", headers={**OF_SERVERS, **hints})
        return web.Response(text=f"data: {body}\n\n", content_type="text/event-stream", headers={**OF_SERVERS, **hints})

    alpha.capabilities, alpha.on["tools/call"] = capabilities, called
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        for kind in ("json", "events"):
            answer = await gateway.call(session, f"alpha__{kind}")
            assert (answer.status, b'"result"' in answer.body) == (200, True)
            names = {name.lower() for name in answer.headers}
            assert names <= PASSED | OF_ENVOY
            assert {"cache-control", "x-accel-buffering"} <= names
            assert answer.headers["server"] == "envoy"


async def test_headers_of_servers_that_fail(start: StartGateway, alpha: ScriptedServer) -> None:
    async def called(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=int(message["params"]["name"]), text="no", headers={**OF_SERVERS, "Location": "/x"})

    alpha.on["tools/call"] = called
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        for status in ("204", "307", "401", "500"):
            answer = await gateway.call(session, f"alpha__{status}")
            assert answer.error["code"] == -32603
            assert {name.lower() for name in answer.headers} <= PASSED | OF_ENVOY | {"x-mcp-error"}


async def test_a_server_reports_no_failure_of_envoys(start: StartGateway, alpha: ScriptedServer) -> None:
    """To sub-requests, either."""

    async def listed(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        result = {"tools": [{"name": "one", "inputSchema": {"type": "object"}}]}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=OF_SERVERS)

    alpha.on["tools/list"] = listed
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        answer = await gateway.rpc("tools/list", mcp_session_id=session)
        assert [tool["name"] for tool in answer.result["tools"]] == ["alpha__one"]


OF_CLIENTS = {
    "date": "Thu, 01 Jan 1970 00:00:00 GMT", "server": "x", "authorization": "Bearer x", "cookie": "a=b", "via": "x",
    "x-envoy-upstream-service-time": "1", "x-envoy-expected-rq-timeout-ms": "1", "x-envoy-internal": "true",
    "x-envoy-original-path": "/x", "x-envoy-max-retries": "9", "x-envoy-retry-on": "5xx", "x-envoy-decorator-operation": "x",
    "x-envoy-external-address": "1.2.3.4", "x-forwarded-for": "1.2.3.4", "x-forwarded-host": "x", "forwarded": "for=x",
    "x-real-ip": "1.2.3.4", "proxy-authorization": "x", "origin": "http://localhost", "referer": "x", "x": "y",
}  # fmt: skip


@pytest.mark.parametrize("policies", [[], [RBAC]], ids=["one visit", "two visits"])
async def test_headers_of_clients(start: StartGateway, alpha: ScriptedServer, policies: list[Any]) -> None:
    async with start({"alpha": alpha.url}, envoy={"http_filters": policies}) as gateway:
        session = await gateway.initialize()
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo","arguments":{}}}'
        sent = {name.replace("-", "_"): value for name, value in OF_CLIENTS.items()}
        assert (await gateway.send(body, mcp_session_id=session, **sent)).result
    [call] = alpha.calls("tools/call")
    assert not call.headers.keys() & OF_CLIENTS.keys()


async def test_trailers_of_clients(start: StartGateway, alpha: ScriptedServer) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "alpha__echo", "arguments": {}}}
    async with (
        Http2Front(alpha.url) as front,
        start({"alpha": {"url": f"http://127.0.0.1:{front.port}/mcp", "http2": True}}) as gateway,
    ):
        session = await gateway.initialize()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.local.port)
        connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        connection.send_headers(1, [
            (":method", "POST"), (":scheme", "http"), (":authority", f"localhost:{gateway.local.port}"), (":path", "/mcp"),
            ("content-type", "application/json"), ("accept", ACCEPT), ("mcp-session-id", session),
        ])  # fmt: skip
        connection.send_data(1, json.dumps(message).encode())
        connection.send_headers(1, [("authorization", "Bearer x"), ("cookie", "a=b"), ("x", "y")], end_stream=True)
        writer.write(connection.data_to_send())
        async with asyncio.timeout(PATIENCE):
            while not any(
                isinstance(event, StreamEnded) for event in connection.receive_data(await reader.read(65536))
            ):
                pass
        writer.close()
        assert len(alpha.calls("tools/call")) == 1
        assert front.received_trailers == []
