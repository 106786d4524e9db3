"""Envoy with its own MCP filter and more filters behind it, in front of nothing: what they let pass gets 200."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.processes import free_port, http_server

_TYPE = "type.googleapis.com/envoy.extensions.filters"
_GUARD = "envoy.reloadable_features.mcp_filter_use_new_metadata_namespace"


def bootstrap(port: int, filters: Sequence[Any], per_route: dict[str, Any], *, new_namespace: bool) -> dict[str, Any]:
    """The configuration.

    Args:
        port: to listen on.
        filters: behind Envoy's MCP filter.
        per_route: ``typed_per_filter_config`` of the only route.
        new_namespace: whether the filter writes ``envoy.filters.http.mcp`` (its default) or ``mcp_proxy``.
    """
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "native",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 200},
                            "typed_per_filter_config": per_route,
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.mcp", "typed_config": {"@type": f"{_TYPE}.http.mcp.v3.Mcp"}},
            *filters,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {_GUARD: new_namespace}}]},
        "static_resources": {"listeners": [{"name": "native", "address": address, "filter_chains": [chain]}]},
    }


@asynccontextmanager
async def native(
    folder: Path, filters: Sequence[Any], per_route: dict[str, Any], *, new_namespace: bool
) -> AsyncIterator[str]:
    """Such an Envoy, running. Yields its URL."""
    port = free_port()
    file = folder / "native.json"
    file.write_text(json.dumps(bootstrap(port, filters, per_route, new_namespace=new_namespace)))
    command = [find_envoy(), "-c", str(file), "--disable-hot-restart", "--log-level", "warning", "--concurrency", "1"]
    log = folder / "native.log"
    async with http_server(command, port, log=log):
        yield f"http://127.0.0.1:{port}/mcp"
