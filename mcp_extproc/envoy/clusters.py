"""Clusters: one for each MCP server, and the one of the ext_proc workers."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterTransportSocketMatch,
    LoadBalancingPolicy,
    LoadBalancingPolicyPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    Metadata,
    TransportSocket,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HttpProtocolOptions as CommonHttpProtocolOptions,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointAdditionalAddress,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.route.v3 import RouteActionHashPolicy, RouteActionHashPolicyHeader
from envoy_data_plane.envoy.extensions.load_balancing_policies.common.v3 import ConsistentHashingLbConfig
from envoy_data_plane.envoy.extensions.load_balancing_policies.ring_hash.v3 import RingHash
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Struct

from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.envoy import tls
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, SESSION_KEY, Layout, cluster_name, repair_host
from mcp_extproc.envoy.messages import ZERO, any_of, envoy_address, extension, seconds, socket_address
from mcp_extproc.upstreams.address import TcpAddress

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_IDLE_TIMEOUT = 4.0
"""Seconds. Uvicorn and Node close idle connections after 5 s; a request that meets the closing would fail."""

_MAX_RETRIES = 1024
"""At once, for each server. Envoy's default of 3 would let only three calls at a time find a restarted server again."""

_UNLIMITED = 2**32 - 1
"""Each client that listens holds one request to a worker and one connection to each server, for hours. At Envoy's default of
1024 all further requests would fail, calls too."""

_CHECK_INTERVAL = 0.5
"""Seconds between health checks of a worker. Dead ones are found by the first request too; this finds those that hang."""

_CHECK_AGAIN = 0.1
"""Seconds between checks of a worker that failed one: it starts in about a second."""

_CHECK_FAILURES = 2
"""In a row. One alone can be a check that met the worker's GOAWAY."""

_EJECTION = 1.0
"""Seconds without requests after connections failed; a health check that passes ends it."""

_EXTPROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

_REPAIR_MATCH = {"mcp_repair": True}


def clusters(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """All clusters."""
    servers = [_server_cluster(name, server, layout) for name, server in config.servers.items()]
    return [*servers, _extproc_cluster(layout)]


def _server_cluster(name: str, server: Server, layout: Layout) -> Cluster:
    return Cluster(
        name=cluster_name(name),
        type=ClusterDiscoveryType.STATIC if _all_static(server) else ClusterDiscoveryType.STRICT_DNS,
        # Many servers listen on IPv4 only although their name has both.
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=seconds(server.connect_timeout),
        circuit_breakers=_circuit_breakers(),
        load_assignment=ClusterLoadAssignment(
            cluster_name=cluster_name(name),
            endpoints=[
                LocalityLbEndpoints(lb_endpoints=[_replica(server, host, port) for host, port in server.addresses]),
                # Gets only retries: requests that the server answered as if it had lost its session (docs/design.md).
                LocalityLbEndpoints(priority=1, lb_endpoints=[_repair_endpoint(name, layout)]),
            ],
        ),
        transport_socket_matches=[_plain_repair(), _tls_replicas(server)] if server.uses_tls else [],
        typed_extension_protocol_options={
            _HTTP_OPTIONS: any_of(
                HttpProtocolOptions(
                    common_http_protocol_options=CommonHttpProtocolOptions(idle_timeout=seconds(_IDLE_TIMEOUT)),
                    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
                        http_protocol_options=Http1ProtocolOptions()
                    ),
                )
            )
        },
    )


def _circuit_breakers() -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=_UNLIMITED,
                max_pending_requests=_UNLIMITED,
                max_requests=_UNLIMITED,
                max_retries=_MAX_RETRIES,
            )
        ]
    )


def _replica(server: Server, host: str, port: int) -> LbEndpoint:
    # The host name becomes the request's Host (auto_host_rewrite). With a URL it is written there, port as the user wrote it.
    hostname = server.authority if server.url is not None else _authority(host, port)
    additional = [EndpointAdditionalAddress(address=socket_address("::1", port))] if host == "localhost" else []
    return LbEndpoint(
        endpoint=Endpoint(hostname=hostname, address=_address(host, port), additional_addresses=additional)
    )


def _address(host: str, port: int) -> Address:
    # Without DNS, and both families in turn: servers bind "localhost" to either.
    return socket_address("127.0.0.1" if host == "localhost" else host, port)


def _repair_endpoint(name: str, layout: Layout) -> LbEndpoint:
    return LbEndpoint(
        endpoint=Endpoint(hostname=repair_host(name), address=envoy_address(layout.repair)),
        metadata=Metadata(filter_metadata={"envoy.transport_socket_match": Struct.from_dict(_REPAIR_MATCH)}),
    )


def _plain_repair() -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name="repair",
        match=Struct.from_dict(_REPAIR_MATCH),
        transport_socket=TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=any_of(RawBuffer())),
    )


def _tls_replicas(server: Server) -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name="tls",
        match=Struct(),
        transport_socket=tls.to_server(server),
    )


def _extproc_cluster(layout: Layout) -> Cluster:
    shared = layout.shares_sessions
    return Cluster(
        name=EXTPROC_CLUSTER,
        type=ClusterDiscoveryType.STATIC if _is_static(layout) else ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=seconds(1),
        circuit_breakers=_circuit_breakers(),
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
        # One alone gets every request, well or not: nobody else could take it, and so it is back the moment it serves.
        load_balancing_policy=_by_session() if shared else None,
        common_lb_config=_only_to_the_well() if shared else None,
        health_checks=[_health_check()] if shared else [],
        outlier_detection=_outlier_detection() if shared else None,
        typed_extension_protocol_options={
            _HTTP_OPTIONS: any_of(
                HttpProtocolOptions(
                    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
                        http2_protocol_options=Http2ProtocolOptions()
                    )
                )
            )
        },
    )


def _by_session() -> LoadBalancingPolicy:
    """What a worker remembers of a session is where its requests go. Those without a session go anywhere."""
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
        # By default, with half of them dead, the dead would get requests again,
        healthy_panic_threshold=Percent(value=0),
        # and who is well would be looked at once a second.
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
    """After two connections that failed, or exchanges cut off; or five that ended with a gRPC error (Envoy's default)."""
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=2,
        enforcing_consecutive_local_origin_failure=100,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        enforcing_failure_percentage=0,
        interval=seconds(_CHECK_INTERVAL),
        base_ejection_time=seconds(_EJECTION),
        max_ejection_time=seconds(_EJECTION),
        # By default one in ten: none of two.
        max_ejection_percent=100,
    )


def _all_static(server: Server) -> bool:
    return all(host == "localhost" or tls.is_ip(host) for host, _ in server.addresses)


def _is_static(layout: Layout) -> bool:
    return all(tls.is_ip(worker.host) for worker in layout.extproc if isinstance(worker, TcpAddress))


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
