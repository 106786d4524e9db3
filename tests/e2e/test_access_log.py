"""What the access log says of calls that fail in spite of HTTP 200, and of those that don't."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.gateway import ACCEPT, access_log_entry
from tests.support.scripted import Handler, ScriptedServer, fixed, raw

TYPE = "type.googleapis.com/envoy.extensions.filters.http"


def denying(tool: str) -> dict[str, Any]:
    path = [{"key": "tool"}]
    said = {"metadata_matcher": {"filter": "mcp_proxy", "path": path, "value": {"string_match": {"exact": tool}}}}
    policy = {"permissions": [{"sourced_metadata": said}], "principals": [{"any": True}]}
    rules = {"action": "DENY", "policies": {"x": policy}}
    return {"name": "envoy.filters.http.rbac", "typed_config": {"@type": f"{TYPE}.rbac.v3.RBAC", "rules": rules}}


async def test_denied_and_failed_calls(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start(
        {"alpha": {"url": alpha.url, "timeout": "2s"}},
        envoy={"http_filters": [denying("deny")]},
        rate_limits=[{"match": {"tool": "limited"}, "requests": 1, "per": "hour"}],
    ) as gateway:
        session = await gateway.initialize()

        async def logged(tool: str, id: str) -> dict[str, Any]:
            answer = await gateway.call(session, f"alpha__{tool}", id=id)
            assert answer.status == 200
            entry = await gateway.logged(jsonrpc_request_id=json.dumps(id))
            assert (entry["status"], entry["mcp.name"]) == (200, f"alpha__{tool}")
            return entry

        assert "error.type" not in await logged("echo", "a")
        assert (await logged("deny", "b"))["error.type"] == "denied"
        await logged("limited", "c")
        assert (await logged("limited", "d"))["error.type"] == "rate_limited"
        alpha.on["tools/call"] = raw(500, "text/html", "no")
        assert (await logged("echo", "e"))["error.type"] == "server_failed"
        alpha.on["tools/call"] = raw(500, "application/json", '{"error":{"code":-32000,"message":"no"}}')
        entry = await logged("echo", "f")
        assert (entry["error.type"], entry["rpc.response.status_code"]) == ("server_error", -32000)
        assert (await gateway.send(b"x" * 5_000_000, user_agent="large")).status == 413
        assert (await access_log_entry(gateway.access_log, {"user_agent": "large"}))["error.type"] == "too_large"
        other = gateway.url.replace("/mcp", "/other")
        assert (await gateway.send(b"{}", url=other, user_agent="elsewhere")).status == 404
        assert (await access_log_entry(gateway.access_log, {"user_agent": "elsewhere"}))["error.type"] == "path"


OF_ALL = {
    "start_time", "http_method", "status", "duration_ms", "bytes_received", "bytes_sent", "request_id", "client_address",
    "user_agent", "mcp.method.name", "jsonrpc.request.id", "mcp.session.id", "mcp.protocol.version", "mcp.client",
    "upstream_cluster", "upstream_attempts", "response_flags", "response_code_details",
}  # fmt: skip
OF_CALLS = OF_ALL | {"mcp.server", "gen_ai.tool.name", "mcp.name", "upstream_host"}


async def test_each_request_has_one_line_with_what_is_known_of_it(start: StartGateway, alpha: ScriptedServer) -> None:
    """Ordinary calls have a format of their own in Envoy."""
    async with start({"alpha": {"url": alpha.url, "untrusted": True}}) as gateway:
        session = await gateway.initialize()

        async def lines(method: str, params: dict[str, Any], id: str) -> list[dict[str, Any]]:
            await gateway.rpc(method, params, id=id, mcp_session_id=session, user_agent='a"\\')
            await gateway.logged(jsonrpc_request_id=json.dumps(id))
            await gateway.rpc("ping", id=f"{id}, then", mcp_session_id=session)
            await gateway.logged(jsonrpc_request_id=json.dumps(f"{id}, then"))
            found = [json.loads(line) for line in gateway.access_log.read_text().splitlines()]
            return [each for each in found if each.get("jsonrpc.request.id") == json.dumps(id)]

        [called] = await lines("tools/call", {"name": "alpha__echo", "arguments": {}}, 'a"\\')
        assert called.keys() == OF_CALLS
        told = {name: called[name] for name in ("mcp.method.name", "mcp.name", "mcp.server", "gen_ai.tool.name")}
        assert [*told.values()] == ["tools/call", "alpha__echo", "alpha", "echo"]
        assert (called["user_agent"], called["mcp.client"]) == ('a"\\', "test/0")
        assert (called["status"], called["upstream_attempts"], called["http_method"]) == (200, 1, "POST")
        [pinged] = await lines("ping", {}, "b")
        assert pinged.keys() == OF_ALL
        alpha.on["tools/call"] = fixed(result=FAILED)
        [failed] = await lines("tools/call", {"name": "alpha__echo", "arguments": {}}, "c")
        assert failed.keys() == OF_CALLS | {"error.type"}
        alpha.on["tools/call"] = raw(500, "text/html", "no")
        [broken] = await lines("tools/call", {"name": "alpha__echo", "arguments": {}}, "d")
        assert broken.keys() == OF_CALLS | {"error.type"}


FAILED = {"content": [], "isError": True}
SAYS_SO = {"content": [{"type": "text", "text": '"isError": true'}], "structuredContent": {"isError": True}}


Behind = Callable[[], dict[str, Any]]


@pytest.fixture(params=["by itself", "with its request"])
def servers(request: pytest.FixtureRequest, alpha: ScriptedServer, beta: ScriptedServer) -> Behind:
    """Those of a gateway, in both arrangements of the response: the second server has it come along with the request."""
    more = {"beta": {"url": beta.url}} if request.param == "with its request" else {}
    return lambda: {"alpha": {"url": alpha.url, "untrusted": True}, **more}


@pytest.mark.parametrize("kind", ["json", "events"])
@pytest.mark.parametrize(
    ("said", "told", "code"),
    [
        ({"result": FAILED}, "tool_error", None),
        ({"result": SAYS_SO}, None, None),
        ({"error": {"code": -32001, "message": "no"}}, "server_error", -32001),
        ({}, "server_failed", -32603),
    ],
)
async def test_failures_in_answers_that_are_read(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, kind: str, said: Any, told: str, code: int | None
) -> None:
    alpha.on["tools/call"] = fixed(**said) if kind == "json" else as_events(said)
    async with start(servers()) as gateway:
        session = await gateway.initialize()
        await gateway.call(session, "alpha__echo", id="a")
        entry = await gateway.logged(jsonrpc_request_id='"a"')
        assert (entry.get("error.type"), entry.get("rpc.response.status_code")) == (told, code)
        assert entry["response_flags"] == "-"


def as_events(said: Any) -> Handler:
    async def answer(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
        events = (note, {"jsonrpc": "2.0", "id": message["id"], **said})
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return web.Response(text=text, content_type="text/event-stream")

    return answer


@pytest.mark.parametrize(("answered", "flags"), [(False, "DC"), (True, "-")], ids=["before", "after"])
async def test_clients_that_leave_before_the_end_of_a_stream(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, answered: bool, flags: str
) -> None:
    """SDKs close the connection as soon as they have their answer: that is no failure."""
    left = asyncio.Event()

    async def streaming(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}
        await response.write(f"data: {json.dumps(answer if answered else note)}\n\n".encode())
        await left.wait()
        return response

    alpha.on["tools/call"] = streaming
    async with start(servers()) as gateway:
        session = await gateway.initialize()
        body = {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "alpha__echo"}}
        fields = {"accept": ACCEPT, "content-type": "application/json", "mcp-session-id": session}
        async with aiohttp.ClientSession() as http:
            response = await http.post(gateway.url, data=json.dumps(body), headers=fields)
            while not (await response.content.readline()).startswith(b"data:"):
                pass
            response.close()
        entry = await gateway.logged(jsonrpc_request_id='"a"')
        left.set()
        assert entry["response_flags"] == flags
