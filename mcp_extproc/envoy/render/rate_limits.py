"""Rate limits as Envoy filters: one ``local_ratelimit`` for each local limit, and one ``ratelimit`` for all global ones.

Descriptors are built from the gateway's output: the metadata ``mcp_proxy``, and the headers ``x-mcp-server``,
``mcp-method`` and ``mcp-name`` for limits that match only some requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.policies import SECONDS, By, Principal, RateLimit, RateLimitService
from mcp_extproc.contract import NAMESPACE, SERVER_HEADER
from mcp_extproc.envoy._api.common_ratelimit_v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType, ClusterDnsLookupFamily
from mcp_extproc.envoy._api.config_core_v3 import (
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    RuntimeFractionalPercent,
)
from mcp_extproc.envoy._api.config_endpoint_v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from mcp_extproc.envoy._api.config_ratelimit_v3 import RateLimitServiceConfig
from mcp_extproc.envoy._api.config_route_v3 import (
    HeaderMatcher,
    RateLimitAction,
    RateLimitActionGenericKey,
    RateLimitActionHeaderValueMatch,
    RateLimitActionMetaData,
    RateLimitActionMetaDataSource,
    RateLimitActionRequestHeaders,
    RateLimitOverride,
    RateLimitOverrideDynamicMetadata,
)
from mcp_extproc.envoy._api.config_route_v3 import RateLimit as Descriptors
from mcp_extproc.envoy._api.filters_http_local_ratelimit_v3 import LocalRateLimit
from mcp_extproc.envoy._api.filters_http_ratelimit_v3 import RateLimit as GlobalRateLimit
from mcp_extproc.envoy._api.filters_http_ratelimit_v3 import RateLimitXRateLimitHeadersRfcVersion
from mcp_extproc.envoy._api.filters_http_set_metadata_v3 import Config as SetMetadata
from mcp_extproc.envoy._api.filters_http_set_metadata_v3 import Metadata
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import StringMatcher
from mcp_extproc.envoy._api.type_metadata_v3 import MetadataKey, MetadataKeyPathSegment
from mcp_extproc.envoy._api.type_v3 import FractionalPercent, TokenBucket
from mcp_extproc.envoy._api.upstreams_http_v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from mcp_extproc.envoy.render.typed import any_of, header, seconds, socket_address
from mcp_extproc.mcp.names import header_value

SERVICE_CLUSTER = "mcp_rate_limit_service"
LOCAL_FILTER = "mcp_rate_limit/"
"""Prefix of the filter names of local limits, followed by the limit's index in the configuration."""
GLOBAL_FILTER = "mcp_rate_limit"
_NUMBERS_FILTER = "mcp_rate_limit_numbers"
_NUMBERS = "mcp_extproc.rate_limits"
"""Dynamic metadata with the number and time unit of each global limit, which Envoy sends to the service."""

STAGE = 10
"""Separates the gateway's descriptors from those of an operator's ratelimit filter, whose stage is 0 by default."""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_ALL = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def filters(config: GatewayConfig) -> list[HttpFilter]:
    """The filters of all limits."""
    found = [
        HttpFilter(name=f"{LOCAL_FILTER}{index}", typed_config=any_of(_local(limit, index, config)))
        for index, limit in enumerate(config.rate_limits)
        if limit.scope == "local"
    ]
    limits = _globals(config)
    service = config.rate_limit_service
    if not limits or service is None:
        return found
    numbers = {str(index): _number(limit) for index, limit in limits if limit.requests is not None}
    if numbers:
        fixed = SetMetadata(metadata=[Metadata(metadata_namespace=_NUMBERS, value=numbers)])
        found.append(HttpFilter(name=_NUMBERS_FILTER, typed_config=any_of(fixed)))
    asked = any_of(_global(service))
    return [*found, HttpFilter(name=GLOBAL_FILTER, typed_config=asked)]


def descriptors(config: GatewayConfig) -> list[Descriptors]:
    """The descriptors for the service. On the virtual host, because only there can Envoy add the numbers."""
    return [_descriptors(limit, index, config) for index, limit in _globals(config)]


def _globals(config: GatewayConfig) -> list[tuple[int, RateLimit]]:
    return [(index, limit) for index, limit in enumerate(config.rate_limits) if limit.scope == "global"]


def clusters(config: GatewayConfig) -> list[Cluster]:
    """The cluster of the service, if the gateway has to render it."""
    service = config.rate_limit_service
    if service is None or service.cluster is not None:
        return []
    host, port = service.address.rsplit(":", 1)
    endpoint = Endpoint(address=socket_address(host.strip("[]"), int(port)))
    http2 = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return [
        Cluster(
            name=SERVICE_CLUSTER,
            type=ClusterDiscoveryType.STRICT_DNS,
            dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED,
            connect_timeout=seconds(1),
            load_assignment=ClusterLoadAssignment(
                cluster_name=SERVICE_CLUSTER,
                endpoints=[LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=endpoint)])],
            ),
            typed_extension_protocol_options={_HTTP_OPTIONS: any_of(HttpProtocolOptions(explicit_http_config=http2))},
        )
    ]


def _local(limit: RateLimit, index: int, config: GatewayConfig) -> LocalRateLimit:
    assert limit.requests is not None
    assert limit.per is not None
    interval = SECONDS[limit.per]
    actions = _actions(limit, config) or [_constant(index)]
    return LocalRateLimit(
        stat_prefix=f"{LOCAL_FILTER}{index}",
        filter_enabled=_ALL,
        filter_enforced=_ALL,
        rate_limits=[Descriptors(actions=actions)],
        descriptors=[
            LocalRateLimitDescriptor(
                # An entry without a value has a separate counter for each value.
                entries=_entries(limit, index, config),
                token_bucket=TokenBucket(
                    max_tokens=limit.requests, tokens_per_fill=limit.requests, fill_interval=seconds(interval)
                ),
            )
        ],
        max_dynamic_descriptors=limit.most_keys if limit.by else None,
        # Envoy refills buckets continuously: after this time there is one token again.
        response_headers_to_add=[header("retry-after", str(math.ceil(interval / limit.requests)))],
    )


def _global(service: RateLimitService) -> GlobalRateLimit:
    return GlobalRateLimit(
        domain=service.domain,
        timeout=seconds(service.timeout),
        failure_mode_deny=service.failure_mode_deny,
        rate_limit_service=RateLimitServiceConfig(
            grpc_service=GrpcService(
                envoy_grpc=GrpcServiceEnvoyGrpc(
                    cluster_name=service.cluster or SERVICE_CLUSTER, authority=service.address
                ),
                timeout=seconds(service.timeout),
            )
        ),
        # The time until the next attempt, for clients and the JSON-RPC error.
        enable_x_ratelimit_headers=RateLimitXRateLimitHeadersRfcVersion.DRAFT_VERSION_03,
        disable_x_envoy_ratelimited_header=True,
        stage=STAGE,
    )


def _descriptors(limit: RateLimit, index: int, config: GatewayConfig) -> Descriptors:
    actions = _actions(limit, config) or [_constant(index)]
    if limit.requests is None:
        return Descriptors(actions=actions, stage=STAGE)
    number = MetadataKey(key=_NUMBERS, path=[MetadataKeyPathSegment(key=str(index))])
    override = RateLimitOverride(dynamic_metadata=RateLimitOverrideDynamicMetadata(metadata_key=number))
    return Descriptors(actions=actions, limit=override, stage=STAGE)


def _number(limit: RateLimit) -> dict[str, object]:
    assert limit.per is not None
    return {"requests_per_unit": limit.requests, "unit": limit.per.upper()}


# -- What is counted ----------------------------------------------------------------------------------------------------


def _actions(limit: RateLimit, config: GatewayConfig) -> list[RateLimitAction]:
    """In the order of :func:`_entries`. A request for which one of them finds no value is not counted."""
    return [
        *(_matching(key, value) for key, value in _fixed(limit)),
        *(action for what in limit.by for action in _by(what, config)),
    ]


def _entries(limit: RateLimit, index: int, config: GatewayConfig) -> list[RateLimitDescriptorEntry]:
    fixed = [RateLimitDescriptorEntry(key=key, value=value) for key, value in _fixed(limit)]
    each = [RateLimitDescriptorEntry(key=key) for what in limit.by for key in _keys(what, config)]
    return [*fixed, *each] or [RateLimitDescriptorEntry(key="limit", value=str(index))]


def _fixed(limit: RateLimit) -> list[tuple[str, str]]:
    match = limit.match
    pairs = (("server", match.server), ("tool", match.tool), ("method", match.method))
    return [(f"match_{key}", value) for key, value in pairs if value is not None]


def _keys(what: By, config: GatewayConfig) -> tuple[str, ...]:
    # Different servers may have tools of the same name, and different issuers callers.
    if what == "principal" and config.authenticates:
        return ("issuer", "principal")
    return ("server", "tool") if what == "tool" else (what,)


def _by(what: By, config: GatewayConfig) -> list[RateLimitAction]:
    if what == "principal":
        if not config.authenticates:
            assert config.envoy.principal is not None
            return [_principal(config.envoy.principal)]
        # Anonymous callers are one principal. Not everybody has an issuer.
        return [_metadata(key, NAMESPACE, [key], absent="-") for key in _keys(what, config)]
    return [_metadata(key, NAMESPACE, [key]) for key in _keys(what, config)]


def _principal(principal: Principal) -> RateLimitAction:
    if principal.header is not None:
        return RateLimitAction(
            request_headers=RateLimitActionRequestHeaders(header_name=principal.header, descriptor_key="principal")
        )
    namespace, *path = principal.metadata
    return _metadata("principal", namespace, path)


def _metadata(key: str, namespace: str, path: Sequence[str], absent: str = "") -> RateLimitAction:
    where = MetadataKey(key=namespace, path=[MetadataKeyPathSegment(key=part) for part in path])
    return RateLimitAction(
        metadata=RateLimitActionMetaData(
            descriptor_key=key,
            metadata_key=where,
            default_value=absent,
            source=RateLimitActionMetaDataSource.DYNAMIC,
        )
    )


def _matching(key: str, value: str) -> RateLimitAction:
    headers = {
        "match_server": {SERVER_HEADER: value},
        "match_tool": {"mcp-method": "tools/call", "mcp-name": header_value(value)},
        "match_method": {"mcp-method": value},
    }[key]
    return RateLimitAction(
        header_value_match=RateLimitActionHeaderValueMatch(
            descriptor_key=key,
            descriptor_value=value,
            headers=[
                HeaderMatcher(name=name, string_match=StringMatcher(exact=exact)) for name, exact in headers.items()
            ],
        )
    )


def _constant(index: int) -> RateLimitAction:
    return RateLimitAction(generic_key=RateLimitActionGenericKey(descriptor_key="limit", descriptor_value=str(index)))
