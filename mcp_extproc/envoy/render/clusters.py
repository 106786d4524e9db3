"""Clusters: one for each MCP server, and one for the ext_proc workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mcp_extproc.address import Address as OurAddress
from mcp_extproc.address import TcpAddress, UnixAddress
from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.config.resilience import CircuitBreakers
from mcp_extproc.config.tls import is_ip
from mcp_extproc.contract import CONNECTION_HEADER, EJECTION, OVER_SSE
from mcp_extproc.envoy._api.config_cluster_v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterLbPolicy,
    ClusterTransportSocketMatch,
    LoadBalancingPolicy,
    LoadBalancingPolicyPolicy,
    OutlierDetection,
)
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation
from mcp_extproc.envoy._api.config_core_v3 import (
    Address,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    Http2ProtocolOptionsSettingsParameter,
    Metadata,
)
from mcp_extproc.envoy._api.config_core_v3 import (
    HttpProtocolOptions as CommonHttpProtocolOptions,
)
from mcp_extproc.envoy._api.config_endpoint_v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointAdditionalAddress,
    EndpointHealthCheckConfig,
    LbEndpoint,
    LocalityLbEndpoints,
)
from mcp_extproc.envoy._api.config_route_v3 import RouteActionHashPolicy, RouteActionHashPolicyHeader
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation as HeaderMutationFilter
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import Mutations
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.load_balancing_policies_common_v3 import ConsistentHashingLbConfig
from mcp_extproc.envoy._api.load_balancing_policies_ring_hash_v3 import RingHash
from mcp_extproc.envoy._api.type_v3 import Percent
from mcp_extproc.envoy._api.upstreams_http_v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, SESSION_KEY, Layout, cluster_name, repair_host
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render import (
    client_credentials,
    lost_sessions,
    policies,
    records,
    resilience,
    tls,
    token_endpoints,
    upstream_headers,
)
from mcp_extproc.envoy.render.authentication import documents
from mcp_extproc.envoy.render.authentication import filters as authentication
from mcp_extproc.envoy.render.typed import ZERO, any_of, envoy_address, extension, seconds, socket_address
from mcp_extproc.envoy.render.upstream_tls import REPAIR_MATCH, transport_socket_matches

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_BRIDGE_HTTP_OPTIONS = HttpProtocolOptions(
    common_http_protocol_options=CommonHttpProtocolOptions(idle_timeout=seconds(4.0)),
    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions()),
)

_CONNECTS_TO = "envoy.http11_proxy_transport_socket.proxy_address"
"""Metadata of an endpoint: the address to which Envoy connects instead of the endpoint's own. What is sent there stays the
same, as the endpoint has another transport socket than the one in the name."""

_NOBODYS_PORT = 0
"""Nobody can listen at it, should Envoy ever connect there."""

_LARGE_FRAMES = Http2ProtocolOptionsSettingsParameter(identifier=5, value=1 << 20)
"""SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2): a worker may send bodies in frames of that size, not of 16 KiB."""

_CHECK_INTERVAL = 0.5
"""Seconds between health checks of a worker. Dead ones are detected by the first request; these checks detect hanging
ones."""

_CHECK_AGAIN = 0.1
"""Seconds between checks of an unhealthy worker: a restart takes about a second."""

_CHECK_FAILURES = 2
"""Consecutive failures. A single one can be a check that met the worker's GOAWAY."""

_EXTPROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


def clusters(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """All clusters."""
    servers = [cluster for name, server in config.servers.items() for cluster in _of_server(name, server, layout)]
    return [
        *servers,
        *client_credentials.clusters(config, layout),
        *token_endpoints.clusters(config),
        extproc_cluster(layout),
        *records.cluster(config, layout),
        *authentication.clusters(config, layout),
        *policies.clusters(config),
    ]


def cluster_alone(name: str, server: Server, headers: Mapping[str, str]) -> Cluster:
    """The cluster of a server in front of which there is no gateway.

    Args:
        name: of the cluster.
        server: what is configured of it.
        headers: for its requests, as Envoy's formats.
    """
    options = _http_options(server)
    added = [
        HeaderMutation(
            append=HeaderValueOption(
                header=HeaderValue(key=key, value=value),
                append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        )
        for key, value in headers.items()
    ]
    credentials = HttpFilter(
        name="envoy.filters.http.header_mutation",
        typed_config=any_of(HeaderMutationFilter(mutations=Mutations(request_mutations=added))),
    )
    options.http_filters = [credentials, upstream_headers.CODEC] if added else []
    cluster = _cluster(name, server, [LocalityLbEndpoints(lb_endpoints=_replicas(server))], options)
    cluster.transport_socket = tls.to_server(name, server, None) if server.uses_tls else None
    if not _all_static(_hosts(server)):
        resilience.look_up(cluster, server.dns)
    resilience.add_to_cluster(cluster, server)
    return cluster


def _of_server(name: str, server: Server, layout: Layout) -> list[Cluster]:
    if not server.is_bridged:
        repair = _repair(name, server, layout, _hosts(server))
        options = _http_options(server)
        options.http_filters = [
            *client_credentials.filters(name, server, layout),
            *_answer_filters(name, server, layout),
        ]
        return [_at_addresses(cluster_name(name), server, options, _tls(name, server, layout), repair)]
    if server.command is not None:
        return [_bridged(name, server, layout, layout.stdio_bridge)]
    options = _http_options(server)
    options.http_filters = [
        _without(CONNECTION_HEADER),
        upstream_headers.NO_FAILURES,
        upstream_headers.passing(layout),
        upstream_headers.CODEC,
    ]
    itself = _at_addresses(cluster_name(f"{name}{OVER_SSE}"), server, options, _tls(name, server, layout))
    itself.lb_policy = ClusterLbPolicy.RING_HASH
    return [_bridged(name, server, layout, layout.bridge), itself]


def _bridged(name: str, server: Server, layout: Layout, bridge: OurAddress) -> Cluster:
    hosts = [bridge.host] if isinstance(bridge, TcpAddress) else []
    endpoints = [LocalityLbEndpoints(lb_endpoints=[_bridge(server, bridge)]), _repair(name, server, layout, hosts)]
    cluster = _cluster(cluster_name(name), server, endpoints, _BRIDGE_HTTP_OPTIONS)
    if not _all_static(hosts):
        cluster.type = ClusterDiscoveryType.STRICT_DNS
    cluster.circuit_breakers = resilience.circuit_breakers(server.circuit_breakers)
    return cluster


def _cluster(name: str, server: Server, endpoints: list[LocalityLbEndpoints], options: HttpProtocolOptions) -> Cluster:
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        # For host names. Many servers listen only on IPv4, even if their name has both.
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=seconds(server.connect_timeout),
        load_assignment=ClusterLoadAssignment(cluster_name=name, endpoints=endpoints),
        typed_extension_protocol_options={_HTTP_OPTIONS: any_of(options)},
    )


def _without(header: str) -> HttpFilter:
    """Removes a header once the replica is chosen. A route would remove it before: the choice depends on it."""
    removed = Mutations(request_mutations=[HeaderMutation(remove=header)])
    return HttpFilter(
        name="envoy.filters.http.header_mutation", typed_config=any_of(HeaderMutationFilter(mutations=removed))
    )


def _tls(name: str, server: Server, layout: Layout) -> list[ClusterTransportSocketMatch]:
    return transport_socket_matches(name, server, layout.secrets)


def _at_addresses(
    name: str,
    server: Server,
    options: HttpProtocolOptions,
    matches: list[ClusterTransportSocketMatch],
    *others: LocalityLbEndpoints,
) -> Cluster:
    endpoints = [LocalityLbEndpoints(lb_endpoints=_replicas(server)), *others]
    cluster = _cluster(name, server, endpoints, options)
    cluster.transport_socket_matches = matches
    if not _all_static(_hosts(server)):
        resilience.look_up(cluster, server.dns)
    resilience.add_to_cluster(cluster, server)
    return cluster


def _http_options(server: Server) -> HttpProtocolOptions:
    explicit = HttpProtocolOptionsExplicitHttpConfig()
    if server.http2:
        explicit.http2_protocol_options = Http2ProtocolOptions(connection_keepalive=resilience.http2_keepalive(server))
    else:
        explicit.http_protocol_options = Http1ProtocolOptions()
    return HttpProtocolOptions(
        common_http_protocol_options=CommonHttpProtocolOptions(
            idle_timeout=seconds(server.connection_idle_timeout),
            max_requests_per_connection=server.max_requests_per_connection,
        ),
        explicit_http_config=explicit,
    )


def _answer_filters(name: str, server: Server, layout: Layout) -> list[HttpFilter]:
    """Of a server's cluster, in which the repair listener is, too. Responses meet them from the end."""
    has_login = server.credentials.pass_through
    return [
        *([documents.narrowed()] if has_login else []),
        lost_sessions.doubted(repair_host(name)),
        upstream_headers.passing(layout, challenges=has_login),
        upstream_headers.CODEC,
    ]


def _bridge(server: Server, bridge: OurAddress) -> LbEndpoint:
    # One process for all such servers; the path says which one is meant.
    at = _address(bridge.host, bridge.port) if isinstance(bridge, TcpAddress) else envoy_address(bridge)
    return LbEndpoint(endpoint=Endpoint(hostname=server.authority, address=at))


def _hosts(server: Server) -> list[str]:
    """Of its replicas; none where it is at a Unix socket."""
    return [] if server.unix_socket is not None else [host for host, _ in server.addresses]


def _replicas(server: Server) -> list[LbEndpoint]:
    if server.unix_socket is None:
        return [_replica(server, host, port) for host, port in server.addresses]
    at = envoy_address(UnixAddress(server.unix_socket))
    return [LbEndpoint(endpoint=Endpoint(hostname=server.authority, address=at))]


def _replica(server: Server, host: str, port: int) -> LbEndpoint:
    # The host name becomes the request's Host (auto_host_rewrite). With a URL it is the URL's host, with the port as
    # written.
    hostname = server.authority if server.url is not None else str(TcpAddress(host, port))
    additional = [EndpointAdditionalAddress(address=socket_address("::1", port))] if host == "localhost" else []
    return LbEndpoint(
        endpoint=Endpoint(hostname=hostname, address=_address(host, port), additional_addresses=additional)
    )


def _address(host: str, port: int) -> Address:
    # Without DNS, alternating between both families: servers bind "localhost" to either.
    return socket_address("127.0.0.1" if host == "localhost" else host, port)


def _repair(name: str, server: Server, layout: Layout, hosts: list[str]) -> LocalityLbEndpoints:
    """The repair listener, as another priority of a server's cluster. It gets only retries: requests for which the server's
    response indicates a lost session (docs/design.md).

    A cluster that looks names up can have no endpoint at a Unix socket: Envoy would look up an empty name. So there the
    listener goes by the hosts of the replicas, and its metadata says where to connect. An address that needs no lookup
    would not do: with the first address that it has, a cluster is ready, and Envoy would serve before it knows the replicas.

    Args:
        name: the server's.
        server: what is configured of it.
        layout: where the listener is.
        hosts: of the cluster's other endpoints; none where they are at Unix sockets.
    """
    listener = envoy_address(layout.repair)
    if _all_static(hosts):
        endpoints = [_repair_endpoint(name, server, listener)]
    else:
        endpoints = [
            _repair_endpoint(name, server, _address(host, _NOBODYS_PORT), {_CONNECTS_TO: any_of(listener)})
            for host in dict.fromkeys(hosts)
        ]
    return LocalityLbEndpoints(priority=1, lb_endpoints=endpoints)


def _repair_endpoint(name: str, server: Server, address: Address, more: dict[str, Any] | None = None) -> LbEndpoint:
    match = dict(REPAIR_MATCH)
    filters = {"envoy.transport_socket_match": match}
    if server.safe_retries is not None:
        filters["envoy.lb"] = match
    return LbEndpoint(
        endpoint=Endpoint(
            hostname=repair_host(name),
            address=address,
            # The repair listener is always available, and does not respond to health checks for servers.
            health_check_config=EndpointHealthCheckConfig(disable_active_health_check=True)
            if server.health_check is not None
            else None,
        ),
        metadata=Metadata(filter_metadata=filters, typed_filter_metadata=more or {}),
    )


def extproc_cluster(layout: Layout) -> Cluster:
    shared = layout.shares_sessions
    return Cluster(
        name=EXTPROC_CLUSTER,
        type=ClusterDiscoveryType.STATIC if _is_static(layout) else ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=seconds(1),
        circuit_breakers=resilience.circuit_breakers(CircuitBreakers()),
        load_assignment=ClusterLoadAssignment(
            cluster_name=EXTPROC_CLUSTER,
            endpoints=[
                LocalityLbEndpoints(
                    lb_endpoints=[
                        LbEndpoint(endpoint=Endpoint(address=envoy_address(worker))) for worker in layout.extproc
                    ]
                )
            ],
        ),
        transport_socket=tls.to_workers(layout),
        # A single worker gets every request, healthy or not: there is no alternative, and it is used as soon as it
        # serves again.
        load_balancing_policy=_by_session() if shared else None,
        common_lb_config=_only_to_the_well() if shared else None,
        health_checks=[_health_check()] if shared else [],
        outlier_detection=_outlier_detection() if shared else None,
        typed_extension_protocol_options={
            _HTTP_OPTIONS: any_of(
                HttpProtocolOptions(
                    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
                        http2_protocol_options=Http2ProtocolOptions(custom_settings_parameters=[_LARGE_FRAMES])
                    )
                )
            )
        },
    )


def _by_session() -> LoadBalancingPolicy:
    """A session's requests go to the worker that has its state. Requests without a session go to any worker."""
    by_key = RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=SESSION_KEY))
    policy = RingHash(consistent_hashing_lb_config=ConsistentHashingLbConfig(hash_policy=[by_key]))
    return LoadBalancingPolicy(
        policies=[
            LoadBalancingPolicyPolicy(
                typed_extension_config=extension("envoy.load_balancing_policies.ring_hash", policy)
            )
        ]
    )


def _only_to_the_well() -> ClusterCommonLbConfig:
    return ClusterCommonLbConfig(
        # By default, with half of the workers dead, dead ones would get requests again,
        healthy_panic_threshold=Percent(value=0),
        # and changes of health would be applied once a second.
        update_merge_window=ZERO,
    )


def _health_check() -> HealthCheck:
    return HealthCheck(
        timeout=seconds(1),
        interval=seconds(_CHECK_INTERVAL),
        no_traffic_interval=seconds(_CHECK_INTERVAL),
        unhealthy_interval=seconds(_CHECK_AGAIN),
        unhealthy_edge_interval=seconds(_CHECK_AGAIN),
        unhealthy_threshold=_CHECK_FAILURES,
        healthy_threshold=1,
        grpc_health_check=HealthCheckGrpcHealthCheck(service_name=_EXTPROC_SERVICE),
    )


def _outlier_detection() -> OutlierDetection:
    """Ejects after two failed connections or broken exchanges, or five gRPC errors (Envoy's default)."""
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=2,
        enforcing_consecutive_local_origin_failure=100,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        enforcing_failure_percentage=0,
        interval=seconds(_CHECK_INTERVAL),
        base_ejection_time=seconds(EJECTION),
        max_ejection_time=seconds(EJECTION),
        # The default is 10 %: of two workers, none.
        max_ejection_percent=100,
    )


def _all_static(hosts: Iterable[str]) -> bool:
    return all(host == "localhost" or is_ip(host) for host in hosts)


def _is_static(layout: Layout) -> bool:
    return all(is_ip(worker.host) for worker in layout.extproc if isinstance(worker, TcpAddress))
