"""One visit to the worker where policies read no body, two where they may: what filters see, and what servers get."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.e2e.test_policies_authz import DENIED, TYPE, cluster, ext_authz, over_grpc
from tests.support.gateway import TestGateway
from tests.support.policy_services import Authorization, http_authorization
from tests.support.scripted import ScriptedServer, tool

HTTP = f"{TYPE}.filters.http"

SECRET = "of-the-server"

FROM_THE_CLIENT = {
    "authorization": "Bearer of-the-client", "cookie": "a=b", "x_api_key": "c", "x_forwarded_host": "evil.example",
    "x_mcp_server": "beta", "mcp_name": "safe", "mcp_session": "d", "x_mcp_early": "1",
    "x_mcp_client_capabilities": "{}", "user_agent": "test", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
}  # fmt: skip
"""Headers of an honest client and of another one."""

BLIND: list[dict[str, Any]] = [
    {"name": "tokens", "typed_config": {"@type": f"{HTTP}.jwt_authn.v3.JwtAuthentication"}},
    {"name": "rules", "typed_config": {"@type": f"{HTTP}.rbac.v3.RBAC"}},
    {"name": "limits", "typed_config": {"@type": f"{HTTP}.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "x"}},
    {"name": "headers", "typed_config": {"@type": f"{HTTP}.header_mutation.v3.HeaderMutation", "mutations": {
        "request_mutations": [{"append": {"header": {"key": name, "value": "by a policy"}}} for name in ("x-by", "mcp-name")],
    }}},
]  # fmt: skip
"""Filters that read no body."""

LUA = """
function envoy_on_request(handle)
  local seen = ""
  for name, value in pairs(handle:headers()) do seen = seen .. name .. ": " .. value .. "\\n" end
  local body = handle:body()
  if body ~= nil then seen = seen .. body:getBytes(0, body:length()) end
  for namespace, values in pairs(handle:streamInfo():dynamicMetadata()) do
    seen = seen .. "\\nnamespace " .. namespace
    for key, value in pairs(values) do seen = seen .. " " .. key .. "=" .. tostring(value) end
  end
  handle:streamInfo():dynamicMetadata():set("lua", "seen", handle:base64Escape(seen))
end
function envoy_on_response(handle)
  local seen = handle:streamInfo():dynamicMetadata():get("lua")
  if seen ~= nil then handle:headers():add("x-seen", seen["seen"]) end
end
"""


@pytest.fixture(params=["alpha", "beta"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedServer]:
    """The second one answers in event streams: Envoy sends the response along on the first stream."""
    async with ScriptedServer(request.param, begins_in_events=request.param == "beta") as server:
        server.pages = [[tool("echo"), tool("delete")]]
        yield server


def section(server: ScriptedServer) -> dict[str, Any]:
    return {"url": f"{server.url}?token={SECRET}", "headers": {"Authorization": f"Bearer {SECRET}", "x-key": SECRET}}


async def visits(gateway: TestGateway) -> int:
    """How many exchanges with workers Envoy has begun for clients' requests."""
    text = await gateway.local.admin("GET", "/stats?filter=^http.mcp.ext_proc.streams_started$")
    assert text is not None
    return int(text.rpartition(": ")[2])


def assert_is_the_gateways(server: ScriptedServer) -> None:
    """What the server gets of a call is what it gets without any policy."""
    [call] = server.calls("tools/call")
    assert call.path == f"/mcp?token={SECRET}"
    assert call.message["params"]["name"] == "echo"
    assert call.headers["mcp-session-id"] in server.sessions
    by_envoy = {"accept-encoding", "x-envoy-attempt-count", "x-forwarded-proto", "x-mcp-session-key", "x-request-id"}
    assert {name: value for name, value in call.headers.items() if name not in by_envoy} == {
        "host": f"127.0.0.1:{server.port}",
        "content-length": str(len(call.body)),
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "user-agent": "test",
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "mcp-method": "tools/call",
        "mcp-name": "echo",
        "mcp-protocol-version": "2025-11-25",
        "mcp-session-id": call.headers["mcp-session-id"],
        "authorization": f"Bearer {SECRET}",
        "x-key": SECRET,
    }


async def test_a_call_is_decided_before_it_is_judged(start: StartGateway, server: ScriptedServer) -> None:
    """Policies see path, session and credentials of the client, and the server sees its own."""
    service = Authorization(lambda mcp, headers: 403 if mcp.get("tool") == "delete" else 0)
    async with service.serving():
        envoy = {"http_filters": [*BLIND, over_grpc()], "clusters": [cluster(service.port, http2=True)]}
        async with start({server.name: section(server)}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            before = await visits(gateway)
            who = {"mcp_session_id": session, **FROM_THE_CLIENT}
            answer = await gateway.rpc("tools/call", {"name": f"{server.name}__echo"}, **who)
            assert answer.result["content"]
            assert_is_the_gateways(server)
            assert await visits(gateway) == before + 1

            denied = await gateway.rpc("tools/call", {"name": f"{server.name}__delete"}, id="d", **who)
            assert (denied.status, denied.json) == (200, {"jsonrpc": "2.0", "id": "d", "error": DENIED})
            assert len(server.calls("tools/call")) == 1
            assert await visits(gateway) == before + 2
    _, *asked = service.requests
    assert len(asked) == 2
    for request in asked:
        assert SECRET not in str(request)
        assert request.attributes is not None
        assert request.attributes.metadata_context is not None
        assert set(request.attributes.metadata_context.filter_metadata) == {"mcp_proxy"}
    for (mcp, headers), name in zip(service.asked[1:], ("echo", "delete"), strict=True):
        assert (mcp["params"], mcp["tool"], mcp["is_mcp_request"]) == ({"name": f"{server.name}__{name}"}, name, True)
        assert headers[":path"] == "/mcp"
        assert headers["mcp-session-id"] == session
        assert headers["authorization"] == "Bearer of-the-client"
        assert (headers["cookie"], headers["x-api-key"]) == ("a=b", "c")
        assert (headers["x-mcp-server"], headers["mcp-method"]) == (server.name, "tools/call")
        assert "content-length" in headers
        assert not headers.keys() & {"mcp-session", "x-mcp-early", "x-mcp-client-capabilities"}


async def test_what_is_no_ordinary_call_is_judged_first(start: StartGateway, alpha: ScriptedServer) -> None:
    """A query would go on to the server, progress is remembered, and of some headers Envoy alone can't tell that they don't
    pass. The server gets the same."""
    async with start({"alpha": section(alpha)}, envoy={"http_filters": BLIND[1:2]}) as gateway:
        session = await gateway.initialize()
        params: dict[str, Any] = {"name": "alpha__echo"}
        who = {"mcp_session_id": session, **FROM_THE_CLIENT}
        for more, query, headers in (
            ({}, "?a=b", {}),
            ({"_meta": {"progressToken": 1}}, "", {}),
            ({}, "", {"content_disposition": "x"}),
            ({}, "", {"us": "x"}),
            ({}, "", {"x_mcp_owner": "alpha"}),
        ):
            alpha.received.clear()
            before = await visits(gateway)
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, **more}}
            answer = await gateway.send(json.dumps(message).encode(), url=f"{gateway.url}{query}", **who, **headers)
            assert answer.result["content"]
            assert_is_the_gateways(alpha)
            assert await visits(gateway) == before + 2
        before = await visits(gateway)
        ended = await gateway.send(b"{}", method="DELETE", mcp_session_id=session)
        assert ended.status == 204
        assert await visits(gateway) == before + 2


@pytest.mark.parametrize("reads", ["ext_authz", "lua"])
async def test_who_may_read_the_body_sees_the_clients(start: StartGateway, alpha: ScriptedServer, reads: str) -> None:
    """No name without its prefix, no path or credential of a server, in the request or its metadata."""
    service = Authorization(lambda mcp, headers: 0)
    async with service.serving():
        seeing = {**over_grpc()["typed_config"], "with_request_body": {"max_request_bytes": 4096}}
        lua = {"@type": f"{HTTP}.lua.v3.Lua", "default_source_code": {"inline_string": LUA}}
        reader = {"name": "reader", "typed_config": seeing if reads == "ext_authz" else lua}
        envoy = {"http_filters": [reader], "clusters": [cluster(service.port, http2=True)]}
        async with start({"alpha": section(alpha)}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            before = await visits(gateway)
            answer = await gateway.rpc("tools/call", {"name": "alpha__echo"}, mcp_session_id=session, **FROM_THE_CLIENT)
            assert answer.result["content"]
            assert await visits(gateway) == before + 2
            assert_is_the_gateways(alpha)
    own_session = alpha.calls("tools/call")[0].headers["mcp-session-id"]
    seen = str(service.requests[-1]) if reads == "ext_authz" else base64.b64decode(answer.headers["x-seen"]).decode()
    assert '"alpha__echo"' in seen
    assert "of-the-client" in seen
    assert SECRET not in seen
    assert own_session not in seen
    assert "mcp_onward" not in seen


async def test_a_query_of_a_policys_own_never_reaches_the_server(start: StartGateway, alpha: ScriptedServer) -> None:
    """Envoy would add it to the server's path, and its query."""
    service = Authorization(lambda mcp, headers: 0)
    async with service.serving():
        envoy = {"http_filters": [over_grpc()], "clusters": [cluster(service.port, http2=True)]}
        async with start({"alpha": section(alpha)}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            service.query = {"user": "ann"}
            assert (await gateway.call(session, "alpha__echo", id=5)).json == {
                "jsonrpc": "2.0",
                "id": 5,
                "error": DENIED,
            }
            assert alpha.calls("tools/call") == []
            service.query = {}
            assert (await gateway.call(session, "alpha__echo")).result["content"]


async def test_a_worker_that_dies_meanwhile_is_not_needed_any_more(
    start_own: StartGateway, alpha: ScriptedServer
) -> None:
    """The verdict alone is still to come. A denial stays one."""
    held, go_on = asyncio.Event(), asyncio.Event()

    async def denies(request: web.Request) -> bool:
        if request.headers.get("mcp-method") == "tools/call":
            held.set()
            await go_on.wait()
        return request.headers.get("mcp-name") == "delete"

    async with http_authorization(denies) as port:
        http_service = {"server_uri": {"uri": f"http://127.0.0.1:{port}", "cluster": "authz", "timeout": "20s"}}
        told = {"patterns": [{"exact": name} for name in ("mcp-method", "mcp-name")]}
        envoy = {
            "http_filters": [ext_authz(http_service=http_service, allowed_headers=told)],
            "clusters": [cluster(port, http2=False)],
        }
        alpha.pages = [[tool("echo"), tool("delete")]]
        async with start_own({"alpha": section(alpha)}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            calls = [asyncio.create_task(gateway.call(session, f"alpha__{name}")) for name in ("echo", "delete")]
            await held.wait()
            gateway.signal_workers(signal.SIGKILL)
            go_on.set()
            allowed, denied = [await call for call in calls]
    assert [call.message["params"]["name"] for call in alpha.calls("tools/call")] in ([], ["echo"])
    assert allowed.json.get("result") or allowed.status == 503
    assert denied.json.get("error") == DENIED or denied.status == 503
