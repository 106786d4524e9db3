"""An Envoy that somebody has in front of MCP servers already, and a service that records what reaches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support import own_envoy
from tests.support.gateway import access_log_entry
from tests.support.own_envoy import Browser, Place
from tests.support.processes import free_port
from tests.support.scripted import Received
from tests.support.warm import Program

EDGE, ADMIN = 10000, 9901

_FILTERS = "type.googleapis.com/envoy.extensions.filters.http."
_DNS_CACHE = {"name": "dns", "dns_lookup_family": "V4_ONLY"}


@dataclass
class Service:
    """Answers all requests, MCP or not, and keeps them. ``stream`` in the path: with a slow event stream."""

    port: int
    received: list[Received] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """The second half of a stream waits for it."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.method, request.raw_path, headers, await request.read()))
        if "stream" not in request.path:
            return web.json_response({"jsonrpc": "2.0", "id": 1, "result": {}}, headers={"mcp-session-id": "theirs"})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await self.go_on.wait()
        await response.write(b"data: 2\n\n")
        return response


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """A running service."""
    running = Service(free_port())
    application = web.Application(client_max_size=64 << 20, handler_args={"auto_decompress": False})
    application.router.add_route("*", r"/{path:[\s\S]*}", running.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", running.port).start()
    try:
        yield running
    finally:
        await runner.cleanup()


def deny(path: list[str], value: str) -> dict[str, Any]:
    """Rules of RBAC that deny what has this value in its metadata, as Envoy's documentation writes them."""
    metadata = {
        "filter": "mcp_proxy",
        "path": [{"key": key} for key in path],
        "value": {"string_match": {"exact": value}},
    }
    policy = {"permissions": [{"metadata": metadata}], "principals": [{"any": True}]}
    return {"action": "DENY", "policies": {"no": policy}}


def rbac_per_route(rules: Mapping[str, Any]) -> dict[str, Any]:
    """``typed_per_filter_config`` with other rules than the listener's."""
    return {"rbac": {"@type": f"{_FILTERS}rbac.v3.RBACPerRoute", "rbac": {"rules": rules}}}


RBAC_CONFIG: dict[str, Any] = {"@type": f"{_FILTERS}rbac.v3.RBAC", "rules": deny(["params", "name"], "delete")}
RBAC = {"name": "rbac", "typed_config": RBAC_CONFIG}
NATIVE = {"name": "envoy.filters.http.mcp", "typed_config": {
    "@type": f"{_FILTERS}mcp.v3.Mcp", "max_request_body_size": 1 << 20}}  # fmt: skip
"""Envoy's own MCP filter."""


def bootstrap(service_port: int, log: Path, *filters: Any, **host: Any) -> dict[str, Any]:
    """One listener with these HTTP filters, and a dynamic forward proxy.

    Its virtual hosts: ``tools.test`` with named routes to the service; ``whole.test``, with the fields in ``host``; and all
    other hosts, to wherever that is.
    """
    to_service = {"cluster": "service", "timeout": "0s"}
    virtual_hosts = [
        {"name": "tools", "domains": ["tools.test"], "routes": [
            {"name": "other", "match": {"prefix": "/other"}, "route": to_service},
            {"name": "by-method", "match": {"prefix": "/by-method"}, "route": to_service,
             "typed_per_filter_config": rbac_per_route(deny(["method"], "prompts/get"))},
            {"name": "by-header", "match": {"prefix": "/by-header", "headers": [
                {"name": "mcp-name", "string_match": {"exact": "special"}}]}, "direct_response": {"status": 299}},
            {"name": "mcp", "match": {"prefix": "/"}, "route": to_service},
        ]},
        {"name": "whole", "domains": ["whole.test"], "routes": [{"match": {"prefix": "/"}, "route": to_service}], **host},
        {"name": "dynamic", "domains": ["*"], "routes": [
            {"name": "anywhere", "match": {"prefix": "/"}, "route": {"cluster": "dynamic", "timeout": "0s"}}]},
    ]  # fmt: skip
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "access_log": [{"name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": str(log),
            "log_format": {"json_format": {"path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
                                           "details": "%RESPONSE_CODE_DETAILS%",
                                           "mcp_proxy": "%DYNAMIC_METADATA(mcp_proxy)%",
                                           "native": "%DYNAMIC_METADATA(envoy.filters.http.mcp)%"}},
        }}],
        "route_config": {"name": "edge", "virtual_hosts": virtual_hosts},
        "http_filters": [
            *filters,
            {"name": "dynamic", "typed_config": {"@type": f"{_FILTERS}dynamic_forward_proxy.v3.FilterConfig",
                                                 "dns_cache_config": _DNS_CACHE}},
            {"name": "router", "typed_config": {"@type": f"{_FILTERS}router.v3.Router"}},
        ],
    }  # fmt: skip
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN}}},
        "static_resources": {
            "listeners": [{
                "name": "edge",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": EDGE}},
                "per_connection_buffer_limit_bytes": 32768,
                "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
            }],
            "clusters": [
                {"name": "service", "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": service_port}}}}]}]}},
                {"name": "dynamic", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
                    "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                        "dns_cache_config": _DNS_CACHE}}},
            ],
        },
    }  # fmt: skip


@dataclass
class Edge:
    """The running Envoy, a worker, and the service."""

    place: Place
    service: Service
    client: Browser
    worker: Program
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.place.port(EDGE)}"

    async def streams(self) -> int:
        """How many requests have been to a worker."""
        found = await own_envoy.stats(self.place.port(ADMIN), "ext_proc.streams_started")
        return sum(found.values())

    async def logged(self, path: str) -> dict[str, Any]:
        """The access log entry of a path, as soon as Envoy wrote it."""
        return await access_log_entry(self.log, {"path": path})


@asynccontextmanager
async def edge(
    folder: Path,
    config: Mapping[str, Any],
    *options: str,
    filters: tuple[Any, ...] = (),
    transport: str = "http2",
    **host: Any,
) -> AsyncIterator[Edge]:
    """All of it, with what ``envoy attach`` makes of these options."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(own_envoy.place(folder, EDGE, ADMIN))
        running = await stack.enter_async_context(service())
        log = folder / "access.log"
        text = json.dumps(config)
        file = folder / "attach.yaml"
        file.write_text(text)
        existing = json.dumps(bootstrap(running.port, log, *(filters or (RBAC,)), **host))
        out, _ = await own_envoy.printed(place, "envoy", "attach", "--config", str(file), "-", *options, stdin=existing)
        worker = await stack.enter_async_context(own_envoy.worker(place, text, "worker", "--transport", transport))
        await stack.enter_async_context(own_envoy.envoy(place, place.moved(out), place.port(EDGE)))
        client = await stack.enter_async_context(own_envoy.browser(place.port(EDGE), host="tools.test"))
        yield Edge(place, running, client, worker, log)
