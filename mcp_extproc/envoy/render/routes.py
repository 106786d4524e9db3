"""Routes of requests after the gateway's decision.

The clients' listener matches servers by dynamic metadata, which clients can't write, instead of by a header, which they
can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import Endpoint, endpoints
from mcp_extproc.contract import (
    ASKED_HEADER,
    BRIDGE_HEADER,
    CALL_KEY,
    CONNECTION_HEADER,
    NAMESPACE,
    OVER_SSE,
    REPAIR_ROUTE,
    SERVER_HEADER,
    VETTING_NAMESPACE,
    route_of,
)
from mcp_extproc.envoy._api.config_core_v3 import Metadata, RoutingPriority
from mcp_extproc.envoy._api.config_route_v3 import (
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
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import ExtProcPerRoute
from mcp_extproc.envoy._api.retry_priority_previous_priorities_v3 import PreviousPrioritiesConfig
from mcp_extproc.envoy._api.type_matcher_v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy.layout import LISTENER, REPAIR_LISTENER, UPSTREAMS_LISTENER, Layout, cluster_name, repair_host
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render import (
    cors,
    judging,
    local_replies,
    lost_sessions,
    policies,
    rate_limits,
    resilience,
    sticky,
    token_endpoints,
    trailing_slash,
)
from mcp_extproc.envoy.render.arrangements import ARRANGEMENTS, EXT_PROC
from mcp_extproc.envoy.render.authentication import api_keys, challenges, documents
from mcp_extproc.envoy.render.authentication import filters as authentication
from mcp_extproc.envoy.render.authentication.sections import sections
from mcp_extproc.envoy.render.endpoint_match import match_of
from mcp_extproc.envoy.render.policies import EndpointRoutes
from mcp_extproc.envoy.render.typed import ZERO, any_of, seconds
from mcp_extproc.gateway.headers import left_to_routes
from mcp_extproc.gateway.relay.lost_sessions import STATUSES

BUFFER = "envoy.filters.http.buffer"
RESPONSES = "mcp_responses"
"""Reads the responses that have to be read."""
CUSTOM_RESPONSE = "envoy.filters.http.custom_response"


def client_routes(config: GatewayConfig, layout: Layout, filter_names: list[str]) -> RouteConfiguration:
    """Routes of the clients' listener. ``filter_names``: of all its filters."""
    without_filters = _without_filters(config, layout)
    return RouteConfiguration(
        name=LISTENER,
        virtual_hosts=[
            VirtualHost(
                name=LISTENER,
                domains=["*"],
                routes=[
                    *documents.routes(endpoints(config), layout, filter_names, BUFFER),
                    *policies.through(config, endpoint_routes(config, layout), judging.of(config)),
                    *_redirects(config, without_filters),
                    _other_route(without_filters),
                ],
                typed_per_filter_config={
                    **policies.for_the_endpoint(config),
                    **api_keys.on_virtual_host(sections(config)),
                },
                rate_limits=rate_limits.descriptors(config),
                include_request_attempt_count=True,
            )
        ],
    )


def endpoint_routes(config: GatewayConfig, layout: Layout) -> EndpointRoutes:
    """The routes of requests to the MCP endpoints, and of no others."""
    filters, told = authentication.on_routes(config, layout), challenges.on_routes(config)
    return EndpointRoutes(
        calls={name: _call_route(config, name) for name in config.servers},
        waiting={name: _waiting_route(name) for name in config.servers} if config.vetting else {},
        first=[
            arrangement.on(_endpoint_route(endpoint, told[endpoint.name], filters[endpoint.name]))
            for endpoint in _in_order(endpoints(config))
            for arrangement in ARRANGEMENTS
        ],
    )


def _in_order(found: Sequence[Endpoint]) -> list[Endpoint]:
    """The main endpoint comes behind those that share its path, and in front of all others: they cost its requests nothing."""
    virtual = [one for one in found if one.name]
    main = [one for one in found if not one.name]
    shared = [one for one in virtual if one.path in {one.path for one in main}]
    return [*shared, *main, *(one for one in virtual if one not in shared)]


def upstream_routes(config: GatewayConfig) -> RouteConfiguration:
    """Routes of the private listener for sub-requests, by a header that the worker sets."""
    return RouteConfiguration(
        name=UPSTREAMS_LISTENER,
        virtual_hosts=[
            VirtualHost(
                name=UPSTREAMS_LISTENER,
                domains=["*"],
                # Requests from here that end up at the repair listener are no repairs: the worker there rejects
                # requests without an attempt count.
                include_request_attempt_count=not any(map(resilience.fails_over, config.servers.values())),
                routes=[
                    route
                    for name, server in config.servers.items()
                    for render in ((_sub_request, _over_sse) if server.transport == "sse" else (_sub_request,))
                    for route in (render(config, name, streams=True), render(config, name, streams=False))
                ]
                + token_endpoints.routes(config),
            )
        ],
    )


def _sub_request(config: GatewayConfig, name: str, *, streams: bool) -> Route:
    server = config.servers[name]
    headers = [HeaderMatcher(name=SERVER_HEADER, string_match=StringMatcher(exact=name))]
    action = _to_server(config, name)
    action.retry_policy = resilience.sub_request_retries(server)
    if streams:
        # A GET stream may be idle for hours.
        headers.append(HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET")))
        action.idle_timeout = ZERO
    return Route(
        name=f"{UPSTREAMS_LISTENER}/{name}{'/streams' if streams else ''}",
        match=RouteMatch(prefix="/", headers=headers),
        route=action,
        request_headers_to_remove=[SERVER_HEADER],
        typed_per_filter_config=sticky.on_sub_request_route(server),
    )


def _over_sse(config: GatewayConfig, name: str, *, streams: bool) -> Route:
    """The bridge's own request to a server that speaks HTTP+SSE."""
    route = _sub_request(config, name, streams=streams)
    itself = f"{name}{OVER_SSE}"
    route.name = f"{UPSTREAMS_LISTENER}/{itself}{'/streams' if streams else ''}"
    assert route.match is not None
    assert route.route is not None
    route.match.headers[0] = HeaderMatcher(name=SERVER_HEADER, string_match=StringMatcher(exact=itself))
    route.route.cluster = cluster_name(itself)
    route.route.hash_policy = resilience.by_header(CONNECTION_HEADER)
    return route


def questions(config: GatewayConfig, layout: Layout) -> RouteConfiguration:
    """Each question has the filters of the section that it names. What passes them is answered."""
    filters, told = authentication.on_routes(config, layout), challenges.on_routes(config)
    each = [
        Route(
            match=RouteMatch(
                prefix="/", headers=[HeaderMatcher(name=ASKED_HEADER, string_match=StringMatcher(exact=section.label))]
            ),
            metadata=told[section.endpoints[0].name],
            direct_response=DirectResponseAction(status=204),
            typed_per_filter_config=filters[section.endpoints[0].name],
        )
        for section in sections(config)
    ]
    return RouteConfiguration(virtual_hosts=[VirtualHost(name="nowhere", domains=["*"], routes=each)])


def repair_routes(config: GatewayConfig) -> RouteConfiguration:
    """Routes of the private listener for lost sessions: the same server again, with a new session."""
    return RouteConfiguration(
        name=REPAIR_LISTENER,
        virtual_hosts=[
            VirtualHost(
                name=name,
                domains=[repair_host(name)],
                routes=[_repair_route(config, name)],
            )
            for name in config.servers
        ],
    )


def _repair_route(config: GatewayConfig, name: str) -> Route:
    server = config.servers[name]
    action = _to_server(config, name)
    action.retry_policy = resilience.direct_retries(server)
    failures = (
        {CUSTOM_RESPONSE: any_of(local_replies.failures_of_repairs())} if resilience.ejects_by_answers(server) else {}
    )
    return Route(
        name=f"{REPAIR_ROUTE}{name}",
        match=RouteMatch(prefix="/"),
        route=action,
        request_headers_to_remove=["x-envoy-attempt-count"],
        typed_per_filter_config={**failures, **sticky.on_repair_route(server)},
    )


def _call_route(config: GatewayConfig, name: str) -> Route:
    server = config.servers[name]
    action = _to_server(config, name)
    no_connection = f",{resilience.NO_CONNECTION}" if server.safe_retries is not None else ""
    # The bridge says of sessions what the specification does.
    lost = "retriable-status-codes" if server.is_bridged else "retriable-headers"
    action.retry_policy = RetryPolicy(
        retry_on=f"{lost}{no_connection}",
        retry_back_off=resilience.retry_back_off(server),
        retriable_status_codes=[int(status) for status in STATUSES] if server.is_bridged else [],
        retriable_headers=[] if server.is_bridged else [lost_sessions.marked()],
        num_retries=1,
        retry_priority=RetryPolicyRetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=any_of(PreviousPrioritiesConfig(update_frequency=1)),
        ),
    )
    replaced = local_replies.call_failures(
        name, fails_over=resilience.fails_over(server), passes_challenges=server.credentials.pass_through
    )
    return Route(
        name=f"{LISTENER}/{name}",
        match=RouteMatch(
            prefix="/",
            dynamic_metadata=[_is_for(name)],
        ),
        route=action,
        request_headers_to_remove=[SERVER_HEADER, *left_to_routes(server.written_headers)],
        # SDKs adopt a session id from any response, so only the gateway's own may reach them. What else passes is the
        # cluster's to say.
        response_headers_to_remove=["mcp-session-id", BRIDGE_HEADER],
        response_headers_to_add=[cors.TO_THE_CALLER],
        typed_per_filter_config={
            CUSTOM_RESPONSE: any_of(replaced),
            **sticky.on_call_route(server),
        },
    )


def _waiting_route(name: str) -> Route:
    """Of a call whose user is asked first. The filter behind the policies answers it; one that passed it would end here."""
    waits = MetadataMatcher(
        filter=VETTING_NAMESPACE,
        path=[MetadataMatcherPathSegment(key=CALL_KEY)],
        value=ValueMatcher(present_match=True),
    )
    return Route(
        name=f"{LISTENER}/{name}/waiting",
        match=RouteMatch(prefix="/", dynamic_metadata=[_is_for(name), waits]),
        # The worker ends it; the event stream may be silent for longer than others.
        route=RouteAction(cluster=policies.NOWHERE, timeout=ZERO, idle_timeout=ZERO),
        response_headers_to_add=[cors.DEPENDS_ON_ORIGIN],
    )


def _is_for(server: str) -> MetadataMatcher:
    return MetadataMatcher(
        filter=NAMESPACE,
        path=[MetadataMatcherPathSegment(key="server")],
        value=ValueMatcher(string_match=StringMatcher(exact=server)),
    )


def _to_server(config: GatewayConfig, name: str) -> RouteAction:
    return RouteAction(
        cluster=cluster_name(name),
        priority=RoutingPriority.DEFAULT,
        # A response may stream for any time; only idle ones time out.
        timeout=ZERO,
        idle_timeout=seconds(config.servers[name].timeout),
        auto_host_rewrite=True,
        hash_policy=resilience.hash_policy(config.servers[name]),
    )


def _endpoint_route(endpoint: Endpoint, told: Metadata | None, filters: Mapping[str, Any]) -> Route:
    # The gateway replies, or chooses another route. A request that passed it undecided would end here.
    return Route(
        name=f"{LISTENER}/{route_of(endpoint.name)}",
        match=match_of(endpoint),
        route=RouteAction(cluster=policies.NOWHERE),
        metadata=told,
        response_headers_to_add=[cors.DEPENDS_ON_ORIGIN],
        typed_per_filter_config={
            **cors.policy(endpoint),
            **filters,
            **policies.per_filter(endpoint.typed_per_filter_config),
        },
    )


def _redirects(config: GatewayConfig, without_filters: dict[str, Any]) -> list[Route]:
    found = [route for endpoint in endpoints(config) for route in trailing_slash.redirects(endpoint)]
    for route in found:
        route.typed_per_filter_config = dict(without_filters)
    return found


def _other_route(without_filters: dict[str, Any]) -> Route:
    return Route(
        name=f"{LISTENER}/other",
        match=RouteMatch(prefix="/"),
        direct_response=DirectResponseAction(status=404),
        typed_per_filter_config=without_filters,
    )


def _without_filters(config: GatewayConfig, layout: Layout) -> dict[str, Any]:
    """The configuration of a route that is no endpoint's: nobody has to be proven there, and nothing is decided."""
    deciding = (policies.JUDGE, EXT_PROC) if config.judges_first else (EXT_PROC,)
    off = {name: any_of(ExtProcPerRoute(disabled=True)) for name in deciding}
    return off | authentication.without(config, layout)
