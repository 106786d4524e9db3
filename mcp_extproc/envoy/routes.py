"""Routes: where a request goes once the gateway has decided.

The client's listener matches servers by dynamic metadata, which no client can write, and not by a header, which any can.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import RoutingPriority
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryPriority,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ExtProcPerRoute
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities.v3 import PreviousPrioritiesConfig
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import NAMESPACE, REPAIR_ROUTE, SERVER_HEADER
from mcp_extproc.envoy.layout import LISTENER, REPAIR_LISTENER, UPSTREAMS_LISTENER, cluster_name, repair_host
from mcp_extproc.envoy.messages import ZERO, any_of, seconds
from mcp_extproc.envoy.replies import call_failures

BUFFER = "envoy.filters.http.buffer"
EXT_PROC = "envoy.filters.http.ext_proc"
CUSTOM_RESPONSE = "envoy.filters.http.custom_response"

_LOST_SESSION_STATUSES = [404, 400]
"""What servers answer to a session that they lost: 404 by the specification, 400 by examples of the TypeScript SDK."""


def client_routes(config: GatewayConfig) -> RouteConfiguration:
    """Routes of the clients' listener."""
    return RouteConfiguration(
        name=LISTENER,
        virtual_hosts=[
            VirtualHost(
                name=LISTENER,
                domains=["*"],
                routes=[
                    *(_call_route(config, name) for name in config.servers),
                    _endpoint_route(config),
                    _other_route(),
                ],
                include_request_attempt_count=True,
            )
        ],
    )


def upstream_routes(config: GatewayConfig) -> RouteConfiguration:
    """Routes of the private listener for sub-requests: by header, written by the worker."""
    return RouteConfiguration(
        name=UPSTREAMS_LISTENER,
        virtual_hosts=[
            VirtualHost(
                name=UPSTREAMS_LISTENER,
                domains=["*"],
                include_request_attempt_count=True,
                routes=[
                    route
                    for name in config.servers
                    for route in (_sub_request(config, name, streams=True), _sub_request(config, name, streams=False))
                ],
            )
        ],
    )


def _sub_request(config: GatewayConfig, name: str, *, streams: bool) -> Route:
    headers = [HeaderMatcher(name=SERVER_HEADER, string_match=StringMatcher(exact=name))]
    action = _to_server(config, name)
    if streams:
        # The stream of a GET may be silent for hours.
        headers.append(HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET")))
        action.idle_timeout = ZERO
    return Route(
        name=f"{UPSTREAMS_LISTENER}/{name}{'/streams' if streams else ''}",
        match=RouteMatch(prefix="/", headers=headers),
        route=action,
        request_headers_to_remove=[SERVER_HEADER],
    )


def repair_routes(config: GatewayConfig) -> RouteConfiguration:
    """Routes of the private listener for lost sessions: the same server again, once its session is mended."""
    return RouteConfiguration(
        name=REPAIR_LISTENER,
        virtual_hosts=[
            VirtualHost(
                name=name,
                domains=[repair_host(name)],
                routes=[
                    Route(
                        name=f"{REPAIR_ROUTE}{name}",
                        match=RouteMatch(prefix="/"),
                        route=_to_server(config, name),
                        request_headers_to_remove=["x-envoy-attempt-count"],
                    )
                ],
            )
            for name in config.servers
        ],
    )


def _call_route(config: GatewayConfig, name: str) -> Route:
    action = _to_server(config, name)
    action.retry_policy = RetryPolicy(
        retry_on="retriable-status-codes",
        retriable_status_codes=_LOST_SESSION_STATUSES,
        num_retries=1,
        retry_priority=RetryPolicyRetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=any_of(PreviousPrioritiesConfig(update_frequency=1)),
        ),
    )
    return Route(
        name=f"{LISTENER}/{name}",
        match=RouteMatch(
            prefix="/",
            dynamic_metadata=[
                MetadataMatcher(
                    filter=NAMESPACE,
                    path=[MetadataMatcherPathSegment(key="server")],
                    value=ValueMatcher(string_match=StringMatcher(exact=name)),
                )
            ],
        ),
        route=action,
        request_headers_to_remove=[SERVER_HEADER],
        # SDKs adopt a session id from any answer, so only our own may reach them.
        response_headers_to_remove=["mcp-session-id", "set-cookie", "www-authenticate"],
        typed_per_filter_config={CUSTOM_RESPONSE: any_of(call_failures(name))},
    )


def _to_server(config: GatewayConfig, name: str) -> RouteAction:
    return RouteAction(
        cluster=cluster_name(name),
        priority=RoutingPriority.DEFAULT,
        # An answer may stream for any time; only silence ends it.
        timeout=ZERO,
        idle_timeout=seconds(config.servers[name].timeout),
        auto_host_rewrite=True,
    )


def _endpoint_route(config: GatewayConfig) -> Route:
    # Never answers: the gateway replies, or chooses another route. A request that passed it undecided would end here.
    return Route(
        name=f"{LISTENER}/endpoint",
        match=RouteMatch(path=config.listen.path),
        direct_response=DirectResponseAction(status=500),
    )


def _other_route() -> Route:
    return Route(
        name=f"{LISTENER}/other",
        match=RouteMatch(prefix="/"),
        direct_response=DirectResponseAction(status=404),
        typed_per_filter_config={EXT_PROC: any_of(ExtProcPerRoute(disabled=True))},
    )
