"""External authorization, gRPC and HTTP, behind the gateway: what the service is told, and what its denial looks like."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from mcp.client.client import Client

from tests.e2e.conftest import StartGateway
from tests.support.policy_services import Authorization, http_authorization
from tests.support.scripted import ScriptedServer, tool

TYPE = "type.googleapis.com/envoy.extensions"
FILTER = "envoy.filters.http.ext_authz"

DENIED = {
    "code": -32600,
    "message": "A policy of the gateway refuses this request.",
    "data": {"reason": "denied", "status": 403},
}


def ext_authz(**service: Any) -> dict[str, Any]:
    config = {"@type": f"{TYPE}.filters.http.ext_authz.v3.ExtAuthz", "failure_mode_allow": False, **service}
    return {"name": FILTER, "typed_config": config}


def over_grpc() -> dict[str, Any]:
    return ext_authz(
        transport_api_version="V3",
        grpc_service={"envoy_grpc": {"cluster_name": "authz"}, "timeout": "5s"},
        metadata_context_namespaces=["mcp_proxy"],
    )


def cluster(port: int, *, http2: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
    protocol = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
            **options,
        }
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": "authz",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "authz",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        **({"typed_extension_protocol_options": protocol} if http2 else {}),
    }


@pytest.fixture
def server(alpha: ScriptedServer) -> ScriptedServer:
    alpha.pages = [[tool("echo"), tool("delete")]]
    return alpha


async def test_over_grpc(start: StartGateway, server: ScriptedServer) -> None:
    """The service judges by what the gateway read and by the client's own headers; no server's credentials reach it."""
    service = Authorization(lambda mcp, headers: 403 if mcp.get("params", {}).get("name") == "alpha__delete" else 0)
    async with service.serving():
        envoy = {"http_filters": [over_grpc()], "clusters": [cluster(service.port, http2=True)]}
        alpha = {"url": server.url, "headers": {"authorization": "Bearer of-the-server"}}
        async with start({"alpha": alpha}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            who = {"mcp_session_id": session, "authorization": "Bearer of-the-client"}
            allowed = await gateway.rpc("tools/call", {"name": "alpha__echo"}, **who)
            assert allowed.result["content"]
            denied = await gateway.rpc("tools/call", {"name": "alpha__delete"}, id="d", **who)
            assert (denied.status, denied.json) == (200, {"jsonrpc": "2.0", "id": "d", "error": DENIED})
    asked = {mcp.get("params", {}).get("name"): (mcp, headers) for mcp, headers in service.asked}
    mcp, headers = asked["alpha__delete"]
    assert headers["authorization"] == "Bearer of-the-client"
    assert mcp["method"] == "tools/call"
    assert (mcp["server"], mcp["tool"], mcp["id"], mcp["is_mcp_request"]) == ("alpha", "delete", "d", True)
    assert [received.headers["authorization"] for received in server.calls("tools/call")] == ["Bearer of-the-server"]
    assert [mcp["method"] for mcp, _ in service.asked] == ["initialize", "tools/call", "tools/call"]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_other_words_of_a_denial(start: StartGateway, server: ScriptedServer, status: int) -> None:
    """Any status is a JSON-RPC error with HTTP 200, but for 401, which tells a client to authenticate. No reason is told."""
    service = Authorization(lambda mcp, headers: status if mcp["method"] == "tools/call" else 0)
    async with service.serving():
        envoy = {"http_filters": [over_grpc()], "clusters": [cluster(service.port, http2=True)]}
        async with start({"alpha": server.url}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            answer = await gateway.call(session, "alpha__echo", id=4)
            assert b"secret" not in answer.body
            if status == 401:
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            else:
                assert (answer.status, answer.json["id"]) == (200, 4)
                assert answer.error["data"]["reason"] in ("denied", "rate_limited", "refused")
            assert server.calls("tools/call") == []


async def test_a_service_that_is_down(start: StartGateway, server: ScriptedServer) -> None:
    envoy = {"http_filters": [over_grpc()], "clusters": [cluster(1, http2=True)]}
    async with start({"alpha": server.url}, envoy=envoy) as gateway:
        answer = await gateway.rpc("initialize", {"protocolVersion": "2025-11-25"}, id=8)
        assert (answer.status, answer.json["id"]) == (200, 8)
        assert answer.error["code"] == -32600
        assert server.received == []


async def test_over_http(start: StartGateway, server: ScriptedServer) -> None:
    """A service of plain HTTP sees headers: those that the gateway wrote tell the truth, whatever the client sent in them."""
    asked: list[tuple[str | None, str | None]] = []

    async def denies(request: web.Request) -> bool:
        asked.append((request.headers.get("mcp-method"), request.headers.get("mcp-name")))
        return request.headers.get("x-mcp-server") == "alpha" and request.headers.get("mcp-name") == "delete"

    names = [{"exact": name} for name in ("mcp-method", "mcp-name", "x-mcp-server")]
    async with http_authorization(denies) as port:
        service = ext_authz(
            http_service={
                "server_uri": {"uri": f"http://127.0.0.1:{port}", "cluster": "authz", "timeout": "5s"},
                "authorization_request": {},
            },
            allowed_headers={"patterns": names},
        )
        envoy = {"http_filters": [service], "clusters": [cluster(port, http2=False)]}
        async with start({"alpha": server.url}, envoy=envoy) as gateway:
            session = await gateway.initialize()
            assert (await gateway.call(session, "alpha__echo")).result["content"]
            spoofed = {"mcp_name": "echo", "x_mcp_server": "beta"}
            denied = await gateway.rpc("tools/call", {"name": "alpha__delete"}, mcp_session_id=session, **spoofed)
            assert (denied.status, denied.error) == (200, DENIED)
    assert asked == [("initialize", None), ("tools/call", "echo"), ("tools/call", "delete")]


async def test_the_official_sdk_shows_the_denial_and_goes_on(start: StartGateway, server: ScriptedServer) -> None:
    service = Authorization(lambda mcp, headers: 403 if mcp.get("tool") == "delete" else 0)
    async with service.serving():
        envoy = {"http_filters": [over_grpc()], "clusters": [cluster(service.port, http2=True)]}
        async with start({"alpha": server.url}, envoy=envoy) as gateway, Client(gateway.url) as client:
            with pytest.raises(Exception, match="A policy of the gateway refuses this request"):
                await client.call_tool("alpha__delete", {})
            assert (await client.call_tool("alpha__echo", {})).content
