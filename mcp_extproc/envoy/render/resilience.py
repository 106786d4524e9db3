"""A server's resilience as Envoy's cluster and route options. Options that are not set are not rendered."""

from __future__ import annotations

from mcp_extproc.config import Server
from mcp_extproc.config.resilience import MAX_COUNT, Dns, Keepalive
from mcp_extproc.config.resilience import CircuitBreakers as Breakers
from mcp_extproc.config.resilience import HealthCheck as Checks
from mcp_extproc.config.resilience import OutlierDetection as Outliers
from mcp_extproc.envoy._api.clusters_common_dns_v3 import DnsLookupFamily
from mcp_extproc.envoy._api.clusters_dns_v3 import DnsCluster, DnsClusterRefreshRate
from mcp_extproc.envoy._api.config_cluster_v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterCustomClusterType,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterLbPolicy,
    OutlierDetection,
    UpstreamConnectionOptions,
)
from mcp_extproc.envoy._api.config_core_v3 import (
    HealthCheck,
    HealthCheckHttpHealthCheck,
    HealthCheckTcpHealthCheck,
    KeepaliveSettings,
    Metadata,
    TcpKeepalive,
)
from mcp_extproc.envoy._api.config_endpoint_v3 import ClusterLoadAssignmentPolicy
from mcp_extproc.envoy._api.config_route_v3 import (
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    RouteActionHashPolicy,
    RouteActionHashPolicyHeader,
)
from mcp_extproc.envoy._api.retry_host_omit_host_metadata_v3 import OmitHostMetadataConfig
from mcp_extproc.envoy._api.retry_host_previous_hosts_v3 import PreviousHostsPredicate
from mcp_extproc.envoy._api.type_v3 import CodecClientType, Int64Range, Percent
from mcp_extproc.envoy.render.typed import ZERO, any_of, seconds
from mcp_extproc.envoy.render.upstream_tls import REPAIR_MATCH

NO_CONNECTION = "connect-failure,refused-stream"
"""Failures that are known to have had no effect: no server has read any of the request."""

_LB_POLICIES = {
    "least_request": ClusterLbPolicy.LEAST_REQUEST,
    "random": ClusterLbPolicy.RANDOM,
    "ring_hash": ClusterLbPolicy.RING_HASH,
}

_LOOKUP_FAMILIES = {
    "v4_preferred": DnsLookupFamily.V4_PREFERRED,
    "v6_preferred": DnsLookupFamily.AUTO,
    "v4_only": DnsLookupFamily.V4_ONLY,
    "v6_only": DnsLookupFamily.V6_ONLY,
    "all": DnsLookupFamily.ALL,
}

_ANY_ONE_SUFFICES = 100_000
"""Percent. By default Envoy moves traffic to the next priority when fewer than 1/1.4 of the replicas are healthy; here
the next priority is the repair listener, not a replica."""

_TRIES = 20
"""Attempts to find a host that was not tried yet. The last one may be the repair listener, which rejects the request."""


def fails_over(server: Server) -> bool:
    """Whether replicas can be unavailable, so that a request may find none or be retried. The bridge never is."""
    return not server.is_bridged and (ejects(server) or server.safe_retries is not None)


def ejects_by_answers(server: Server) -> bool:
    """Whether answers of servers decide on who gets requests. Those of the bridge don't."""
    return not server.is_bridged and server.outlier_detection is not None


def ejects(server: Server) -> bool:
    """Whether replicas can become unhealthy."""
    return server.health_check is not None or server.outlier_detection is not None


def add_to_cluster(cluster: Cluster, server: Server) -> None:
    """All options of the cluster itself."""
    cluster.circuit_breakers = circuit_breakers(server.circuit_breakers)
    cluster.lb_policy = _LB_POLICIES.get(server.load_balancing, ClusterLbPolicy.ROUND_ROBIN)
    if server.health_check is not None:
        cluster.health_checks = [_health_check(server, server.health_check)]
    if server.outlier_detection is not None:
        cluster.outlier_detection = _outlier_detection(server.outlier_detection)
    if ejects(server) and cluster.load_assignment is not None:
        cluster.common_lb_config = ClusterCommonLbConfig(
            healthy_panic_threshold=Percent(value=0),
            # By default Envoy's threads update health once a second.
            update_merge_window=ZERO,
        )
        cluster.load_assignment.policy = ClusterLoadAssignmentPolicy(overprovisioning_factor=_ANY_ONE_SUFFICES)
    if server.keepalive is not None:
        cluster.upstream_connection_options = UpstreamConnectionOptions(tcp_keepalive=_tcp_keepalive(server.keepalive))


def look_up(cluster: Cluster, dns: Dns) -> None:
    """Resolve the server's host names: each address is a replica."""
    if not dns.model_fields_set:
        cluster.type = ClusterDiscoveryType.STRICT_DNS
        return
    failures = None
    if dns.failure_refresh_rate is not None:
        rate = seconds(dns.failure_refresh_rate)
        failures = DnsClusterRefreshRate(base_interval=rate, max_interval=rate)
    resolution = DnsCluster(
        dns_refresh_rate=seconds(dns.refresh_rate),
        dns_failure_refresh_rate=failures,
        respect_dns_ttl=dns.respect_ttl,
        dns_lookup_family=_LOOKUP_FAMILIES[dns.lookup_family],
    )
    cluster.type = None
    cluster.dns_lookup_family = ClusterDnsLookupFamily.AUTO  # Envoy's own default; the rate above applies.
    cluster.cluster_type = ClusterCustomClusterType(name="envoy.cluster.dns", typed_config=any_of(resolution))


def circuit_breakers(limits: Breakers) -> CircuitBreakers:
    """No limit by default.

    Each client with an open stream holds a request to a worker and a connection to each server for hours. With Envoy's
    default of 1024, all further requests would fail, calls included. With its default of 3 retries, only three calls at a
    time could recover after a server's restart.
    """
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=_or_unlimited(limits.max_connections),
                max_pending_requests=_or_unlimited(limits.max_pending_requests),
                max_requests=_or_unlimited(limits.max_requests),
                max_retries=limits.max_retries,
            )
        ]
    )


def _or_unlimited(count: int | None) -> int:
    return MAX_COUNT if count is None else count


def _health_check(server: Server, check: Checks) -> HealthCheck:
    return HealthCheck(
        timeout=seconds(check.timeout),
        interval=seconds(check.interval),
        # The default is a minute: a server without traffic would be found dead only by its next user.
        no_traffic_interval=seconds(check.interval),
        unhealthy_threshold=check.unhealthy_threshold,
        healthy_threshold=check.healthy_threshold,
        tcp_health_check=HealthCheckTcpHealthCheck() if check.path is None else None,
        http_health_check=None if check.path is None else _http_check(server, check, check.path),
    )


def _http_check(server: Server, check: Checks, path: str) -> HealthCheckHttpHealthCheck:
    return HealthCheckHttpHealthCheck(
        host=server.authority,
        path=path,
        expected_statuses=[_range(statuses) for statuses in check.expected_statuses],
        codec_client_type=CodecClientType.HTTP2 if server.http2 else CodecClientType.HTTP1,
    )


def _range(statuses: str) -> Int64Range:
    first, _, last = statuses.partition("-")
    return Int64Range(start=int(first), end=int(last or first) + 1)  # Envoy's range excludes its end.


def _outlier_detection(outliers: Outliers) -> OutlierDetection:
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_5xx=outliers.consecutive_5xx or None,
        enforcing_consecutive_5xx=_enforced(outliers.consecutive_5xx),
        consecutive_gateway_failure=outliers.consecutive_gateway_failure or None,
        enforcing_consecutive_gateway_failure=_enforced(outliers.consecutive_gateway_failure),
        consecutive_local_origin_failure=outliers.consecutive_local_origin_failure or None,
        enforcing_consecutive_local_origin_failure=_enforced(outliers.consecutive_local_origin_failure),
        # Success rates over all hosts would include the repair listener, which is not comparable.
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        enforcing_failure_percentage=0,
        interval=seconds(outliers.interval),
        base_ejection_time=seconds(outliers.base_ejection_time),
        max_ejection_time=seconds(outliers.max_ejection_time),
        max_ejection_percent=outliers.max_ejection_percent,
    )


def _enforced(count: int) -> int:
    return 100 if count else 0


def _tcp_keepalive(keepalive: Keepalive) -> TcpKeepalive:
    return TcpKeepalive(
        keepalive_probes=keepalive.probes,
        keepalive_time=int(keepalive.time),
        keepalive_interval=int(keepalive.interval),
    )


def http2_keepalive(server: Server) -> KeepaliveSettings | None:
    """HTTP/2 PINGs, if configured."""
    keepalive = server.keepalive
    if keepalive is None or keepalive.http2_interval is None:
        return None
    return KeepaliveSettings(interval=seconds(keepalive.http2_interval), timeout=seconds(keepalive.http2_timeout))


# -- Routes ---------------------------------------------------------------------------------------------------------------


def hash_policy(server: Server) -> list[RouteActionHashPolicy]:
    """Hash policy of ``ring_hash``. Without the header, a replica is selected at random."""
    if server.load_balancing != "ring_hash":
        return []
    return by_header("mcp-session-id")


def by_header(name: str) -> list[RouteActionHashPolicy]:
    """Hash policy by which requests with one value of a header go to one replica."""
    return [RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=name))]


def sub_request_retries(server: Server) -> RetryPolicy | None:
    """Retries of the worker's own requests, all of which are idempotent.

    With sticky sessions, a 503 comes from the only replica that could respond.
    """
    policy = direct_retries(server)
    if policy is None:
        return None
    policy.retry_on += ",reset"
    if not server.sticky_sessions:
        policy.retry_on += ",retriable-status-codes"
        policy.retriable_status_codes = [503]
    return policy


def direct_retries(server: Server) -> RetryPolicy | None:
    """Retries at another replica, never at the repair listener."""
    retries = server.safe_retries
    if retries is None:
        return None
    omit = OmitHostMetadataConfig(metadata_match=Metadata(filter_metadata={"envoy.lb": dict(REPAIR_MATCH)}))
    return RetryPolicy(
        retry_on=NO_CONNECTION,
        num_retries=retries.num_retries,
        retry_back_off=retry_back_off(server),
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=any_of(PreviousHostsPredicate())
            ),
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.omit_host_metadata", typed_config=any_of(omit)
            ),
        ],
        host_selection_retry_max_attempts=_TRIES,
    )


def retry_back_off(server: Server) -> RetryPolicyRetryBackOff | None:
    """Back-off between retries, if configured."""
    retries = server.safe_retries
    if retries is None:
        return None
    return RetryPolicyRetryBackOff(
        base_interval=seconds(retries.base_interval), max_interval=seconds(retries.max_interval)
    )
