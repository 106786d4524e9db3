"""Where clients are told to log in: routes to the documents of a server that they log in at itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.authentication import documents
from mcp_extproc.envoy.render.authentication.documents import AUTHORIZATION_SERVER, RESOURCE


def routes(**config: Any) -> dict[str, tuple[str, str]]:
    """Cluster and path there, by the path that clients ask for."""
    parsed = GatewayConfig.model_validate(config)
    found = documents.routes(endpoints(parsed), Layout.in_directory(Path("/run/mcp")), ["filter"])
    told = {}
    for route in found:
        assert route.match is not None
        assert route.match.path is not None
        assert route.request_headers_to_remove == ["authorization", "cookie"]
        assert list(route.typed_per_filter_config) == ["filter"]
        if (action := route.route) is not None:
            assert action.auto_host_rewrite
            told[route.match.path] = (action.cluster or "", action.path_rewrite or "")
    return told


def server(url: str = "http://a.example/mcp", **credentials: Any) -> dict[str, Any]:
    return {"url": url, "credentials": credentials}


def test_it_has_them_for_its_own_path() -> None:
    assert routes(servers={"a": server("https://a.example/v1/50%25?x=1", pass_through=True)}) == {
        f"{RESOURCE}/mcp": ("mcp/a", f"{RESOURCE}/v1/50%%25"),
        RESOURCE: ("mcp/a", RESOURCE),
        AUTHORIZATION_SERVER: ("mcp/a", AUTHORIZATION_SERVER),
    }


def test_of_a_virtual_server() -> None:
    virtual = {"v": {"servers": {"a": "all"}}, "w": {"servers": {"b": "all"}}}
    servers = {"a": server("http://a.example", pass_through=True), "b": server()}
    found = routes(servers=servers, virtual_servers=virtual, main_endpoint=False)
    assert found[f"{RESOURCE}/mcp/v"] == ("mcp/a", RESOURCE)
    assert all(cluster == "mcp/a" for cluster, _ in found.values())


def test_for_others_there_are_none() -> None:
    assert routes(servers={"a": server(), "b": server(header={"name": "x", "value": "y"})}) == {}
