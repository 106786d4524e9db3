"""Listeners: the one for clients, and the private ones for the gateway's own requests."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import CERTIFICATE_HEADER
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_core_v3 import (
    Http1ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    SocketOptionsOverride,
)
from mcp_extproc.envoy._api.config_listener_v3 import AdditionalAddress, Filter, FilterChain, Listener
from mcp_extproc.envoy._api.config_route_v3 import RouteConfiguration
from mcp_extproc.envoy._api.filters_http_buffer_v3 import Buffer
from mcp_extproc.envoy._api.filters_http_custom_response_v3 import CustomResponse
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import ExternalProcessor
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_http_router_v3 import Router
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpFilter,
    LocalReplyConfig,
)
from mcp_extproc.envoy.layout import (
    BATCHES_LISTENER,
    LISTENER,
    QUESTIONS_LISTENER,
    REPAIR_LISTENER,
    SESSION_KEY,
    UPSTREAMS_LISTENER,
    Layout,
)
from mcp_extproc.envoy.render import (
    cors,
    downstream,
    judging,
    local_replies,
    onward,
    policies,
    processors,
    records,
    refusals,
    resilience,
    routes,
    sticky,
)
from mcp_extproc.envoy.render.access_log import access_log
from mcp_extproc.envoy.render.arrangements import EXT_PROC
from mcp_extproc.envoy.render.authentication import certificates, proven
from mcp_extproc.envoy.render.authentication import filters as authentication
from mcp_extproc.envoy.render.authentication.sections import sections
from mcp_extproc.envoy.render.judging import Judging
from mcp_extproc.envoy.render.typed import ZERO, any_of, envoy_address, header

_LONGER = 64 * 1024
"""Bytes by which a body that is sent to a server may be longer than the client's: an id that is marked, a longer URI."""

_SESSION_KEY_CHARS = 24
"""Length of the prefix of a session token that contains its nonce, which is unique and reveals nothing."""


def listeners(config: GatewayConfig, layout: Layout) -> list[Listener]:
    """All listeners."""
    clients = _clients(config, layout)
    if config.counts_locally and config.listen.tls is None:  # Workers use no TLS on Unix sockets.
        # One listener with two addresses: a separate listener for batches would have its own rate limit buckets.
        # A Unix socket has none of TCP's options.
        clients.additional_addresses = [
            AdditionalAddress(address=envoy_address(layout.batches), socket_options=SocketOptionsOverride())
        ]
        return [clients, *own_listeners(config, layout)]
    return [clients, *own_listeners(config, layout), _batches(config, layout)]


def own_listeners(config: GatewayConfig, layout: Layout) -> list[Listener]:
    """The private listeners for sub-requests and lost sessions, the same for every kind of clients' listener."""
    return [_upstreams(config, layout), _repair(config, layout)]


def questions(config: GatewayConfig, layout: Layout, address: Address) -> Listener:
    """Where each request is one about which a service that says who calls is asked, as it is asked about clients'.

    Args:
        config: with such services.
        layout: of this Envoy.
        address: of the listener.
    """
    alone = authentication.services_alone(config)
    return _private(
        QUESTIONS_LISTENER,
        address,
        routes.questions(alone, layout),
        authentication.filters(alone, layout),
        local_replies.local_replies(alone),
    )


def client_filters(config: GatewayConfig, layout: Layout, judging: Judging) -> list[HttpFilter]:
    """The gateway's HTTP filters on the clients' listener together with the configured ones, in their order: first those
    for browsers. A router follows them.

    Args:
        config: the whole configuration.
        layout: of this Envoy.
        judging: how policies judge requests.
    """
    ours = [
        *cors.filters(*authentication.marks(config)),
        *authentication.filters(config, layout),
        HttpFilter(name=routes.CUSTOM_RESPONSE, typed_config=any_of(CustomResponse())),
        HttpFilter(name=routes.BUFFER, typed_config=any_of(whole_bodies(config))),
        *([_session_key()] if layout.shares_sessions else []),
    ]
    namespaces = (*config.more_namespaces, *records.namespaces(config, layout))
    identity = authentication.namespaces(config)
    asks = bool(config.vetting)
    deciding = processors.deciding(layout, namespaces, is_judged=judging.has_policies, identity=identity, asks=asks)
    first = _first_visit(layout, judging, namespaces, identity)
    if config.virtual_servers:
        processors.tell_route(deciding if first is None else first)
        if first is not None:
            processors.tell_endpoint(deciding)
    last = processors.not_again(deciding) if judging is Judging.EARLY else deciding
    decided = [
        HttpFilter(name=EXT_PROC, typed_config=any_of(last)),
        HttpFilter(name=routes.RESPONSES, typed_config=any_of(processors.reading(layout))),
        refusals.reading_errors(layout),
        HttpFilter(name=policies.LENGTH, typed_config=any_of(_lengths(config))),
    ]
    filters = policies.filters(config)
    if first is None:
        in_order = [*decided, *filters]
    else:
        shown = HttpFilter(name=policies.JUDGE, typed_config=any_of(first))
        if judging is Judging.EARLY:
            behind = onward.filters(config.envoy.http_filters)
            in_order = [shown, _judged_length(config), *filters, *behind, *decided]
        else:
            in_order = [shown, *filters, *decided]
    if asks:
        vetting = processors.vetting(layout, namespaces)
        in_order.append(HttpFilter(name=policies.VETTING, typed_config=any_of(vetting)))
    return [*policies.before(config, ours, routes.BUFFER), *in_order, *sticky.client_filters(config)]


def _first_visit(
    layout: Layout, judging: Judging, namespaces: Sequence[str], identity: Sequence[str]
) -> ExternalProcessor | None:
    """The filter in front of policies, if they judge requests before these are decided."""
    match judging:
        case Judging.NEVER:
            return None
        case Judging.EARLY:
            return processors.foreseeing(layout, namespaces, identity)
        case Judging.FIRST:
            return processors.judging(layout, namespaces, identity)


def _clients(config: GatewayConfig, layout: Layout) -> Listener:
    address = TcpAddress(config.listen.address, config.listen.port)
    manager = _for_clients(config, layout, LISTENER)
    downstream.limit_requests(manager, config.listen.limits)
    listener = _listener(LISTENER, address, manager)
    downstream.secure(listener, config.listen, layout.secrets, accepted=authentication.authorities_of_clients(config))
    return listener


def _batches(config: GatewayConfig, layout: Layout) -> Listener:
    # The same filters as for clients, so that each message of a batch passes the same policies as a single message.
    manager = _for_clients(config, layout, BATCHES_LISTENER)
    # Workers have no certificate. They say what the batch's was, where clients can't: at this listener.
    manager.http_filters = [
        item for item in manager.http_filters if item.name not in certificates.names(sections(config))
    ]
    told = [name for name in authentication.identity_headers(config) if name != CERTIFICATE_HEADER]
    manager.early_header_mutation_extensions = proven.early(told)
    if config.has_policies:
        # The client's address is the last in x-forwarded-for, from its original request.
        manager.use_remote_address = False
    listener = _listener(BATCHES_LISTENER, layout.batches, manager)
    downstream.exempt(listener)
    return listener


def _for_clients(config: GatewayConfig, layout: Layout, name: str) -> HttpConnectionManager:
    filters = client_filters(config, layout, judging.of(config))
    return HttpConnectionManager(
        stat_prefix=name,
        route_config=routes.client_routes(config, layout, [item.name for item in filters]),
        http_filters=[*filters, _router()],
        access_log=[*access_log(config), *records.log(config, layout)],
        local_reply_config=local_replies.local_replies(config),
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        early_header_mutation_extensions=proven.early(authentication.identity_headers(config)),
        common_http_protocol_options=HttpProtocolOptions(
            # Some filters and services treat `x_mcp_server` as `x-mcp-server`.
            headers_with_underscores_action=HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
        ),
        # HTTP/1.0 is what some reverse proxies speak by default. The others get a 426 that they can't do anything with.
        http_protocol_options=Http1ProtocolOptions(accept_http_10=True),
    )


def _upstreams(config: GatewayConfig, layout: Layout) -> Listener:
    filters = sticky.sub_request_filters(config)
    routing = routes.upstream_routes(config)
    return _private(UPSTREAMS_LISTENER, layout.upstreams, routing, filters, local_replies.failure_headers(config))


def _repair(config: GatewayConfig, layout: Layout) -> Listener:
    servers = config.servers.values()
    ejects = any(map(resilience.ejects_by_answers, servers))
    filters = [
        *([HttpFilter(name=routes.CUSTOM_RESPONSE, typed_config=any_of(CustomResponse()))] if ejects else []),
        *sticky.repair_filters(config),
        HttpFilter(name=EXT_PROC, typed_config=any_of(processors.repairing(layout))),
        *sticky.sub_request_filters(config),
    ]
    local = local_replies.repair_replies() if any(map(resilience.fails_over, servers)) else None
    return _private(REPAIR_LISTENER, layout.repair, routes.repair_routes(config), filters, local)


def whole_bodies(config: GatewayConfig) -> Buffer:
    """Buffers bodies in front of the ext_proc filter, and rejects larger ones with 413.

    ext_proc buffers, too, but in Envoy 1.40 a burst beyond the limit that arrives while the headers are with the worker
    makes it wait for data that Envoy, above its watermark, no longer reads.
    """
    return Buffer(max_request_bytes=config.limits.request_bytes)


def _lengths(config: GatewayConfig) -> Buffer:
    """Gives requests to servers a content-length again: ext_proc takes it away where it replaces the body."""
    return Buffer(max_request_bytes=config.limits.request_bytes + _LONGER)


def _judged_length(config: GatewayConfig) -> HttpFilter:
    """Before policies, for those that ask for it."""
    return HttpFilter(name=policies.JUDGED_LENGTH, typed_config=any_of(_lengths(config)))


def _session_key() -> HttpFilter:
    """Copies the start of the session token to a header, by which the session's worker is selected, also on the repair
    listener.

    There ``Mcp-Session-Id`` is the server's. The header is not sent to workers, which would remove it.
    """
    key = header(SESSION_KEY, f"%REQ(mcp-session-id):{_SESSION_KEY_CHARS}%")
    mutations = Mutations(request_mutations=[OneMutation(remove=SESSION_KEY), OneMutation(append=key)])
    return HttpFilter(
        name="envoy.filters.http.header_mutation", typed_config=any_of(HeaderMutation(mutations=mutations))
    )


def _private(
    name: str,
    address: Address,
    route_config: RouteConfiguration,
    filters: list[HttpFilter],
    local: LocalReplyConfig | None,
) -> Listener:
    manager = HttpConnectionManager(
        stat_prefix=name,
        route_config=route_config,
        http_filters=[*filters, _router()],
        local_reply_config=local,
        # The request keeps its original id and addresses.
        use_remote_address=False,
        skip_xff_append=True,
        generate_request_id=False,
        stream_idle_timeout=ZERO,
    )
    listener = _listener(name, address, manager)
    downstream.exempt(listener)
    return listener


def _listener(name: str, address: Address, manager: HttpConnectionManager) -> Listener:
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(manager))]
    )
    return Listener(name=name, address=envoy_address(address), filter_chains=[chain])


def _router() -> HttpFilter:
    # Servers and clients get no x-envoy-* headers.
    return HttpFilter(name="envoy.filters.http.router", typed_config=any_of(Router(suppress_envoy_headers=True)))
