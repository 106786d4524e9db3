"""Envoy without this gateway: configurations of the systems for comparison.

All have the same listener, route and upstream process, HTTP/1.1 on both sides, and no access log unless one is asked for. They
differ in the filter chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress, SubstitutionFormatString
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.http.mcp.v3 import Mcp, McpTrafficMode
from envoy_data_plane.envoy.extensions.filters.http.mcp_router.v3 import (
    McpRouter,
    McpRouterMcpBackend,
    McpRouterMcpCluster,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any, Struct

from bench.gateway import policy
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import NAMESPACE
from mcp_extproc.envoy.render.access_log import fields

_HOST = "127.0.0.1"

_NAMESPACE = "envoy.filters.http.mcp"
"""Of the mcp filter's metadata, by default and since Envoy 1.38."""

_OF_ROUTER = {
    "mcp.method.name": f"%DYNAMIC_METADATA({_NAMESPACE}:method)%",
    "jsonrpc.request.id": f"%DYNAMIC_METADATA({_NAMESPACE}:id)%",
    "mcp.session.id": "%REQ(MCP-SESSION-ID):16%",
    "mcp.protocol.version": "%REQ(MCP-PROTOCOL-VERSION):64%",
    "mcp.client": "mcp-extproc bench/1",
    "mcp.server": "%UPSTREAM_CLUSTER%",
    "gen_ai.tool.name": f"%DYNAMIC_METADATA({_NAMESPACE}:params:name)%",
    "mcp.name": f"%DYNAMIC_METADATA({_NAMESPACE}:params:name)%",
    "mcp.resource.uri": f"%DYNAMIC_METADATA({_NAMESPACE}:params:uri)%",
    "upstream_host": "%DOWNSTREAM_LOCAL_ADDRESS%",
}
"""What (c) logs where this gateway has its own metadata. Of the client, the name without its prefix, and the upstream's
address, mcp_router tells nothing: in their places is as much of what it does know, so that both write as much."""

FIELDS_OF_ROUTER = {
    name: _OF_ROUTER.get(name, format.replace(f"{NAMESPACE}:", f"{_NAMESPACE}:"))
    for name, format in fields(
        GatewayConfig.model_validate({"servers": {"s1": {"url": "http://127.0.0.1:1/mcp"}}})
    ).items()
}
"""The fields that this gateway has in a configuration like the benchmark's, from the mcp filter's metadata."""

_MAX_BODY = 10_485_760
"""Bytes that the mcp filter parses: its maximum. With its default of 8 KiB, larger calls would not be parsed completely."""


def plain(port: int, upstream: int, servers: Sequence[str], access_log: str = "") -> Bootstrap:
    """A route without filters: the cost of HTTP.

    Args:
        port: of the listener.
        upstream: port of the upstream, which represents all servers.
        servers: their names.
        access_log: its file, or empty for none.
    """
    return _bootstrap(port, upstream, servers, [_router()], access_log)


def parsing(port: int, upstream: int, servers: Sequence[str], access_log: str = "") -> Bootstrap:
    """Envoy's `mcp` filter, which parses a call and writes its metadata, before a route to one server."""
    return _bootstrap(port, upstream, servers, [_mcp(), _router()], access_log)


def routing(port: int, upstream: int, servers: Sequence[str], access_log: str = "") -> Bootstrap:
    """Envoy's `mcp` and `mcp_router`, which merges several servers, as this gateway does.

    `mcp_router` ends the filter chain in place of the router. It prefixes names with `one__` and so on, initializes all
    servers at `initialize`, and stores their session ids in its own, in base64.
    """
    return _bootstrap(port, upstream, servers, [_mcp(), _mcp_router(servers)], access_log)


def strict(port: int, upstream: int, servers: Sequence[str], access_log: str = "") -> Bootstrap:
    """As `routing`, and refuses objects with duplicate keys, as this gateway does: by default the last one wins."""
    return _bootstrap(port, upstream, servers, [_mcp(reject_duplicate_keys=True), _mcp_router(servers)], access_log)


def judged(port: int, upstream: int, servers: Sequence[str], access_log: str = "") -> Bootstrap:
    """As `routing`, under the RBAC policy that this gateway is measured with."""
    typed = {name: value for name, value in policy(_NAMESPACE)["typed_config"].items() if name != "@type"}
    rbac = HttpFilter(name="envoy.filters.http.rbac", typed_config=Any.pack(Rbac.from_dict(typed)))
    return _bootstrap(port, upstream, servers, [_mcp(), rbac, _mcp_router(servers)], access_log)


def _mcp(*, reject_duplicate_keys: bool | None = None) -> HttpFilter:
    # As a gateway would, reject requests that are not MCP, which also makes the filter parse each body completely.
    mcp = Mcp(
        traffic_mode=McpTrafficMode.REJECT_NO_MCP,
        max_request_body_size=_MAX_BODY,
        reject_duplicate_keys=reject_duplicate_keys,
    )
    return HttpFilter(name="envoy.filters.http.mcp", typed_config=Any.pack(mcp))


def _mcp_router(servers: Sequence[str]) -> HttpFilter:
    backends = [
        McpRouterMcpBackend(name=name, mcp_cluster=McpRouterMcpCluster(cluster=name, path="/mcp")) for name in servers
    ]
    return HttpFilter(name="envoy.filters.http.mcp_router", typed_config=Any.pack(McpRouter(servers=backends)))


def _router() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router(suppress_envoy_headers=True)))


def _bootstrap(
    port: int, upstream: int, servers: Sequence[str], filters: Sequence[HttpFilter], access_log: str
) -> Bootstrap:
    return Bootstrap(
        static_resources=BootstrapStaticResources(
            listeners=[_listener(port, servers[0], filters, access_log)],
            clusters=[_cluster(name, upstream) for name in servers],
        )
    )


def _listener(port: int, server: str, filters: Sequence[HttpFilter], access_log: str) -> Listener:
    route = Route(match=RouteMatch(path="/mcp"), route=RouteAction(cluster=server))
    manager = HttpConnectionManager(
        stat_prefix="bench",
        route_config=RouteConfiguration(virtual_hosts=[VirtualHost(name="mcp", domains=["*"], routes=[route])]),
        http_filters=list(filters),
        access_log=[_access_log(access_log)] if access_log else [],
        use_remote_address=True,
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))]
    )
    return Listener(
        name="mcp",
        address=_address(port),
        filter_chains=[chain],
    )


def _access_log(path: str) -> AccessLog:
    """This gateway's, with the same fields."""
    format = SubstitutionFormatString(json_format=Struct.from_dict(FIELDS_OF_ROUTER), omit_empty_values=True)
    file = FileAccessLog(path=path, log_format=format)
    return AccessLog(name="envoy.access_loggers.file", typed_config=Any.pack(file))


def _cluster(name: str, port: int) -> Cluster:
    endpoint = LbEndpoint(endpoint=Endpoint(address=_address(port)))
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=1),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )


def _address(port: int) -> Address:
    return Address(socket_address=SocketAddress(address=_HOST, port_value=port))
