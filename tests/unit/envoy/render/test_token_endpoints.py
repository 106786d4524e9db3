"""Where workers have tokens exchanged: in Envoy's configuration, and only for servers that need it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.address import UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.attach.fields import plain
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap, upstreams_only

SECRET = "planted-client-secret-9fA1"


def configured(endpoint: str) -> GatewayConfig:
    exchange = {"token_endpoint": endpoint, "client_id": "gateway", "client_secret": SECRET, "audience": "a"}
    return GatewayConfig.model_validate({
        "servers": {
            "a": {"url": "http://a.example/mcp", "credentials": {"token_exchange": exchange}},
            "b": {"url": "http://b.example/mcp"},
        },
        "authentication": {"oauth": {"issuers": [{"issuer": "https://idp.example", "audiences": ["a"]}]}},
    })  # fmt: skip


@pytest.mark.parametrize("alone", [False, True])
def test_a_route_of_the_private_listener(alone: bool) -> None:
    config, layout = configured("https://idp.example:8443/token"), Layout.in_directory(Path("/run/mcp"))
    whole = upstreams_only(config, layout, UnixAddress("/run/mcp/s")) if alone else bootstrap(config, layout)
    static = plain(whole)["static_resources"]
    assert SECRET not in json.dumps(static)
    [listener] = [one for one in static["listeners"] if one["name"] == "mcp_upstreams"]
    routes = {route["name"]: route for route in found(listener, "routes")}
    assert [name for name in routes if name.endswith("/token")] == ["mcp_upstreams/a/token"]
    route = routes["mcp_upstreams/a/token"]
    assert route["match"]["headers"] == [{"name": "x-mcp-server", "string_match": {"exact": "a/token"}}]
    assert route["route"] == {"cluster": "mcp_token/a", "host_rewrite_literal": "idp.example:8443"}
    [cluster] = [one for one in static["clusters"] if one["name"].startswith("mcp_token/")]
    assert cluster["name"] == "mcp_token/a"
    assert "idp.example" in json.dumps(cluster["transport_socket"])


def found(data: Any, key: str) -> list[dict[str, Any]]:
    """All that is under a key, wherever it is."""
    if isinstance(data, list):
        return [one for item in data for one in found(item, key)]
    if not isinstance(data, dict):
        return []
    return [one for name, value in data.items() for one in (value if name == key else found(value, key))]
