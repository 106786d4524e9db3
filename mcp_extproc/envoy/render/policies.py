"""Order of the operator's filters, and the routes by which each request passes them before it is processed.

With ``policies: all`` each request is shown to them first, as the client sent it. That takes two passes through a worker where
policies may read the body: the first (``mcp_judge/`` routes) writes metadata and changes nothing; the second (``mcp_act/``
routes) decides. Where they read none, the first one decides an ordinary call, and changes nothing but its body and metadata;
Envoy changes the rest behind them. ``policies: calls`` needs one, and policies see what is forwarded to a server
(docs/policies.md).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.envoy_message import Raw
from mcp_extproc.contract import ACT_ROUTE, EARLY_FACT, JUDGE_ROUTE, NAMESPACE
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType
from mcp_extproc.envoy._api.config_route_v3 import Route, RouteAction, RouteMatch
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy.layout import LISTENER
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render import cors, onward, rate_limits, verbatim
from mcp_extproc.envoy.render.arrangements import ARRANGEMENTS, EXT_PROC, STREAM
from mcp_extproc.envoy.render.judging import Judging
from mcp_extproc.envoy.render.typed import seconds

JUDGE = "mcp_judge"
"""Name of the filter of the first pass."""

JUDGED_LENGTH = "mcp_judged_length"
"""Restores content-length behind that filter, where it replaces bodies."""

LENGTH = "mcp_length"
"""The same behind the filter that decides."""

VETTING = "mcp_vetting"
"""Name of the filter that asks users about calls, behind all policies."""

NOWHERE = "mcp_nowhere"
"""A cluster without endpoints. Filters such as cors and ratelimit ignore requests whose route is a direct response."""


def before(config: GatewayConfig, ours: list[HttpFilter], buffer: str) -> list[HttpFilter]:
    """The gateway's first filters, with the operator's that authenticate in their place.

    Args:
        config: has the operator's filters.
        ours: in their order.
        buffer: name of the filter that follows authentication: the first that buffers a client's body.
    """
    found: list[HttpFilter] = []
    for item in ours:
        if item.name == buffer:
            found += [_raw(theirs) for theirs in config.envoy.http_filters_before]
        found.append(item)
    return found


def filters(config: GatewayConfig) -> list[HttpFilter]:
    """The operator's filters that judge requests."""
    return [*(_raw(item) for item in config.envoy.http_filters), *rate_limits.filters(config)]


def clusters(config: GatewayConfig) -> list[Cluster]:
    """The clusters for these filters and routes."""
    return [
        Cluster(name=NOWHERE, type=ClusterDiscoveryType.STATIC, connect_timeout=seconds(1)),
        *rate_limits.clusters(config),
        *map(verbatim.cluster, config.envoy.clusters),
    ]


def _raw(item: Raw) -> HttpFilter:
    return HttpFilter(name=item["name"], typed_config=verbatim.typed(item.get("typed_config", item.get("typedConfig"))))


def for_the_endpoint(config: GatewayConfig) -> dict[str, Any]:
    """The operator's per-route filter configuration for the whole endpoint."""
    return per_filter(config.envoy.typed_per_filter_config)


@dataclass(frozen=True)
class EndpointRoutes:
    """The routes of requests to the MCP endpoints."""

    calls: Mapping[str, Route]
    """By server: where a request goes once the gateway has decided."""
    waiting: Mapping[str, Route]
    """By server: the same for a call whose user is asked first. It goes nowhere."""
    first: Sequence[Route]
    """Of each endpoint, until then: one for each arrangement (:mod:`mcp_extproc.envoy.render.arrangements`)."""


def through(config: GatewayConfig, routes: EndpointRoutes, judging: Judging) -> list[Route]:
    """The routes of the MCP endpoints, for the order of the filters. Those of :attr:`EndpointRoutes.first` come last.

    Args:
        config: has the operator's configuration of filters for single servers.
        routes: those to the servers, and the endpoints'.
        judging: when policies do.
    """
    if judging is not Judging.FIRST:
        for name, route in (*routes.calls.items(), *routes.waiting.items()):
            route.typed_per_filter_config |= per_filter(config.servers[name].typed_per_filter_config)
    if not judging.has_policies:
        return [*routes.waiting.values(), *routes.calls.values(), *routes.first]
    for route in routes.calls.values():
        assert route.match is not None
        route.match.dynamic_metadata.append(_is_true("forwarded"))
    for route in routes.first:
        _begins(route, judging)
    early = [_early(config, name, route) for name, route in routes.calls.items()] if judging is Judging.EARLY else []
    judged = [
        arrangement.on(_judged(config, server))
        for server in (*config.servers, None)
        for arrangement in ARRANGEMENTS
        if server is None or arrangement is not STREAM  # GETs belong to no server
    ]
    return [*routes.waiting.values(), *early, *routes.calls.values(), *judged, *routes.first]


def _early(config: GatewayConfig, name: str, route: Route) -> Route:
    """From the first pass to the server."""
    early = copy.deepcopy(route)
    assert early.match is not None
    early.match.dynamic_metadata[-1] = _is_true(EARLY_FACT)
    early.name += "/early"
    onward.act_on(early, config.servers[name], LENGTH)
    return early


def _begins(route: Route, judging: Judging) -> None:
    """Have a route be that of the first pass."""
    route.name = f"{JUDGE_ROUTE}{route.name.removeprefix(f'{LISTENER}/')}"
    mode = route.typed_per_filter_config.pop(EXT_PROC, None)
    if mode is not None and judging is Judging.EARLY:
        route.typed_per_filter_config[JUDGE] = mode


def _judged(config: GatewayConfig, server: str | None) -> Route:
    """From the first pass to the second. Like the endpoint's route it has no upstream: an undecided request ends here."""
    metadata = [_is_true("shown")]
    configs = {}
    if server is not None:
        metadata.append(_server_is(server))
        configs = per_filter(config.servers[server].typed_per_filter_config)
    return Route(
        name=f"{ACT_ROUTE}{server or 'endpoint'}",
        match=RouteMatch(prefix="/", dynamic_metadata=metadata),
        route=RouteAction(cluster=NOWHERE),
        response_headers_to_add=[cors.DEPENDS_ON_ORIGIN],
        typed_per_filter_config=configs,
    )


def per_filter(configs: Mapping[str, Raw]) -> dict[str, Any]:
    """The operator's ``typed_per_filter_config``."""
    return {name: verbatim.typed(config) for name, config in configs.items()}


def _is_true(key: str) -> MetadataMatcher:
    return _metadata(key, ValueMatcher(bool_match=True))


def _server_is(server: str) -> MetadataMatcher:
    return _metadata("server", ValueMatcher(string_match=StringMatcher(exact=server)))


def _metadata(key: str, value: ValueMatcher) -> MetadataMatcher:
    return MetadataMatcher(filter=NAMESPACE, path=[MetadataMatcherPathSegment(key=key)], value=value)
