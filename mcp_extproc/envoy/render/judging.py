"""Whether the operator's policies let a call be decided before they have judged it: that puts its new body in front of them.

Known by the types of Envoy 1.40's filters (api-v3/extensions/filters/http). What is not known may read the body, or whatever
is secret in a request's metadata.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import ONWARD_NAMESPACE

_FILTERS: Final = "envoy.extensions.filters.http."

_BLIND: Final = frozenset({
    "api_key_auth.v3.ApiKeyAuth", "basic_auth.v3.BasicAuth", "cors.v3.Cors", "csrf.v3.CsrfPolicy", "ext_authz.v3.ExtAuthz",
    "fault.v3.HTTPFault", "header_mutation.v3.HeaderMutation", "ip_tagging.v3.IPTagging", "jwt_authn.v3.JwtAuthentication",
    "local_ratelimit.v3.LocalRateLimit", "ratelimit.v3.RateLimit", "rate_limit_quota.v3.RateLimitQuotaFilterConfig",
    "rbac.v3.RBAC",
})  # fmt: skip
"""Filters that read no body and write no metadata of ours. (Wrappers, as of filters that run for some requests, are none.)"""

_DISCREET: Final = frozenset({
    "adaptive_concurrency.v3.AdaptiveConcurrency", "admission_control.v3.AdmissionControl",
    "bandwidth_limit.v3.BandwidthLimit", "buffer.v3.Buffer", "compressor.v3.Compressor", "decompressor.v3.Decompressor",
    "gcp_authn.v3.GcpAuthnFilterConfig", "grpc_web.v3.GrpcWeb", "header_to_metadata.v3.Config",
    "health_check.v3.HealthCheck", "oauth2.v3.OAuth2", "set_filter_state.v3.Config", "set_metadata.v3.Config",
})  # fmt: skip
"""Further filters that look at no metadata but what their configuration names."""

_OPTIONS: Final = frozenset({
    # ext_authz
    "with_request_body", "withRequestBody",
    # Envoy would add the query to the server's path.
    "query_parameter_mutations", "queryParameterMutations",
})  # fmt: skip
"""Fields with which even those of :data:`_BLIND` need two visits, on a route too."""

_KEEP_PATH: Final = frozenset({
    "cors.v3.Cors", "csrf.v3.CsrfPolicy", "fault.v3.HTTPFault", "local_ratelimit.v3.LocalRateLimit",
    "ratelimit.v3.RateLimit", "rate_limit_quota.v3.RateLimitQuotaFilterConfig", "rbac.v3.RBAC",
})  # fmt: skip
"""Those of :data:`_BLIND` that write nothing into a request whose name somebody else chooses, and so no query to its path."""


class Judging(enum.Enum):
    """When policies judge a request."""

    NEVER = "no policies judge requests before they are decided: one visit"
    EARLY = "policies read no body: one visit for an ordinary call, which is decided before"
    FIRST = "policies may read the body: two visits"

    @property
    def has_policies(self) -> bool:
        """Whether there is a visit before policies."""
        return self is not Judging.NEVER


def of(config: GatewayConfig) -> Judging:
    """That of the gateway's own listener."""
    if not config.judges_first:
        return Judging.NEVER
    envoy = config.envoy
    is_early = are_blind(envoy.http_filters, of_routes(config)) and show_nothing(
        envoy.http_filters_before, [config.log.access]
    )
    return Judging.EARLY if is_early else Judging.FIRST


def of_routes(config: GatewayConfig) -> list[Any]:
    """All that the operator configures of filters on routes."""
    servers = (server.typed_per_filter_config for server in config.servers.values())
    return [config.envoy.typed_per_filter_config, *servers]


def are_blind(filters: Iterable[Mapping[str, Any]], routes: Iterable[Any]) -> bool:
    """Whether none of these reads bodies, or what only servers may see.

    Args:
        filters: HTTP filters that judge requests.
        routes: configuration of such filters on routes.
    """
    theirs = list(filters)
    return all(_kind(item) in _BLIND for item in theirs) and not any(map(_may_see, [*theirs, *routes]))


def show_nothing(filters: Iterable[Mapping[str, Any]], others: Iterable[Any]) -> bool:
    """Whether none of these shows metadata that only servers may see.

    Args:
        filters: HTTP filters in front of the first visit. They see responses, and metadata with them.
        others: whatever else may name metadata, such as access logs.
    """
    theirs = list(filters)
    is_known = all(_kind(item) in _BLIND | _DISCREET for item in theirs)
    return is_known and not any(ONWARD_NAMESPACE in word for word in _words([*theirs, *others]))


def may_add_queries(filters: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of these may add a query to the path of a request."""
    return any(_kind(item) not in _KEEP_PATH for item in filters)


def _kind(item: Mapping[str, Any]) -> str:
    """The type of an HTTP filter among Envoy's own, or else what is none of them."""
    config = item.get("typed_config", item.get("typedConfig"))
    kind = str(config.get("@type") if isinstance(config, Mapping) else None).rpartition("/")[2]
    return kind.removeprefix(_FILTERS) if kind.startswith(_FILTERS) else ""


def _may_see(value: Any) -> bool:
    return any(word in _OPTIONS or ONWARD_NAMESPACE in word for word in _words(value))


def _words(value: Any) -> Iterator[str]:
    """All keys and texts, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _words(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
