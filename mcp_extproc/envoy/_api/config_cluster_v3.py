"""envoy.config.cluster.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy._api import config_core_v3
from mcp_extproc.envoy.message import Any, Message, Struct

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_endpoint_v3, type_v3, xds_type_matcher_v3


class ClusterDiscoveryType(StrEnum):
    STATIC = "STATIC"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    EDS = "EDS"
    ORIGINAL_DST = "ORIGINAL_DST"


class ClusterDnsLookupFamily(StrEnum):
    AUTO = "AUTO"
    V4_ONLY = "V4_ONLY"
    V6_ONLY = "V6_ONLY"
    V4_PREFERRED = "V4_PREFERRED"
    ALL = "ALL"


class ClusterLbPolicy(StrEnum):
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RING_HASH = "RING_HASH"
    RANDOM = "RANDOM"
    MAGLEV = "MAGLEV"
    CLUSTER_PROVIDED = "CLUSTER_PROVIDED"
    LOAD_BALANCING_POLICY_CONFIG = "LOAD_BALANCING_POLICY_CONFIG"


class CircuitBreakers(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.CircuitBreakers"
    thresholds: list[CircuitBreakersThresholds] = []
    per_host_thresholds: list[CircuitBreakersThresholds] = []


class CircuitBreakersThresholds(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.CircuitBreakers.Thresholds"
    priority: config_core_v3.RoutingPriority = config_core_v3.RoutingPriority.DEFAULT
    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    track_remaining: bool = False
    max_connection_pools: int | None = None


class Cluster(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.Cluster"
    transport_socket_matches: list[ClusterTransportSocketMatch] = []
    transport_socket_matcher: xds_type_matcher_v3.Matcher | None = None
    name: str = ''
    alt_stat_name: str = ''
    type: ClusterDiscoveryType | None = None
    cluster_type: ClusterCustomClusterType | None = None
    connect_timeout: timedelta | None = None
    per_connection_buffer_limit_bytes: int | None = None
    per_connection_buffer_high_watermark_timeout: timedelta | None = None
    lb_policy: ClusterLbPolicy = ClusterLbPolicy.ROUND_ROBIN
    load_assignment: config_endpoint_v3.ClusterLoadAssignment | None = None
    health_checks: list[config_core_v3.HealthCheck] = []
    max_requests_per_connection: int | None = None
    circuit_breakers: CircuitBreakers | None = None
    common_http_protocol_options: config_core_v3.HttpProtocolOptions | None = None
    http_protocol_options: config_core_v3.Http1ProtocolOptions | None = None
    http2_protocol_options: config_core_v3.Http2ProtocolOptions | None = None
    typed_extension_protocol_options: dict[str, Any] = {}
    dns_refresh_rate: timedelta | None = None
    dns_jitter: timedelta | None = None
    respect_dns_ttl: bool = False
    dns_lookup_family: ClusterDnsLookupFamily = ClusterDnsLookupFamily.AUTO
    dns_resolvers: list[config_core_v3.Address] = []
    use_tcp_for_dns_lookups: bool = False
    typed_dns_resolver_config: config_core_v3.TypedExtensionConfig | None = None
    wait_for_warm_on_init: bool | None = None
    outlier_detection: OutlierDetection | None = None
    cleanup_interval: timedelta | None = None
    common_lb_config: ClusterCommonLbConfig | None = None
    transport_socket: config_core_v3.TransportSocket | None = None
    metadata: config_core_v3.Metadata | None = None
    upstream_connection_options: UpstreamConnectionOptions | None = None
    close_connections_on_host_health_failure: bool = False
    ignore_health_on_host_removal: bool = False
    load_balancing_policy: LoadBalancingPolicy | None = None
    lrs_server: config_core_v3.ConfigSource | None = None
    lrs_report_endpoint_metrics: list[str] = []
    track_timeout_budgets: bool = False
    upstream_config: config_core_v3.TypedExtensionConfig | None = None
    connection_pool_per_downstream_connection: bool = False


class ClusterCommonLbConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.Cluster.CommonLbConfig"
    healthy_panic_threshold: type_v3.Percent | None = None
    update_merge_window: timedelta | None = None
    ignore_new_hosts_until_first_hc: bool = False
    close_connections_on_host_set_change: bool = False


class ClusterCustomClusterType(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.Cluster.CustomClusterType"
    name: str = ''
    typed_config: Any | None = None


class ClusterTransportSocketMatch(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.Cluster.TransportSocketMatch"
    name: str = ''
    match: Struct | None = None
    transport_socket: config_core_v3.TransportSocket | None = None


class LoadBalancingPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.LoadBalancingPolicy"
    policies: list[LoadBalancingPolicyPolicy] = []


class LoadBalancingPolicyPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.LoadBalancingPolicy.Policy"
    typed_extension_config: config_core_v3.TypedExtensionConfig | None = None


class OutlierDetection(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.OutlierDetection"
    consecutive_5xx: int | None = None
    interval: timedelta | None = None
    base_ejection_time: timedelta | None = None
    max_ejection_percent: int | None = None
    enforcing_consecutive_5xx: int | None = None
    enforcing_success_rate: int | None = None
    success_rate_minimum_hosts: int | None = None
    success_rate_request_volume: int | None = None
    success_rate_stdev_factor: int | None = None
    consecutive_gateway_failure: int | None = None
    enforcing_consecutive_gateway_failure: int | None = None
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int | None = None
    enforcing_consecutive_local_origin_failure: int | None = None
    enforcing_local_origin_success_rate: int | None = None
    failure_percentage_threshold: int | None = None
    enforcing_failure_percentage: int | None = None
    enforcing_failure_percentage_local_origin: int | None = None
    failure_percentage_minimum_hosts: int | None = None
    failure_percentage_request_volume: int | None = None
    max_ejection_time: timedelta | None = None
    max_ejection_time_jitter: timedelta | None = None
    successful_active_health_check_uneject_host: bool | None = None
    monitors: list[config_core_v3.TypedExtensionConfig] = []
    always_eject_one_host: bool | None = None
    detect_degraded_hosts: bool | None = None


class UpstreamConnectionOptions(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.cluster.v3.UpstreamConnectionOptions"
    tcp_keepalive: config_core_v3.TcpKeepalive | None = None
    set_local_interface_name_on_upstream_connections: bool = False
