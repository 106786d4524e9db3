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
    found = documents.routes(endpoints(parsed), Layout.in_directory(Path("/run/mcp")), ["filter", "buffer"], "buffer")
    told = {}
    others = []
    for route in found:
        assert route.match is not None
        assert route.match.path is not None
        assert list(route.typed_per_filter_config) == ["filter", "buffer"]
        if (action := route.route) is not None:
            assert action.auto_host_rewrite
            assert route.typed_per_filter_config["buffer"] != route.typed_per_filter_config["filter"]
            assert "?" in str(route.match.headers)
            told[route.match.path] = (action.cluster or "", action.path_rewrite or "")
        else:
            assert route.direct_response is not None
            others.append((route.match.path, route.direct_response.status))
    # In front of each the preflight, behind it whoever has a query.
    assert others == [(path, status) for path in told for status in (204, 404)]
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
