"""Listeners: the one for clients, and the private ones for the gateway's own requests."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import MAX_MESSAGE_TIMEOUT, NAMESPACE
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutationRules
from mcp_extproc.envoy._api.config_core_v3 import (
    BackoffStrategy,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    Http1ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    SocketOptionsOverride,
)
from mcp_extproc.envoy._api.config_listener_v3 import AdditionalAddress, Filter, FilterChain, Listener
from mcp_extproc.envoy._api.config_route_v3 import RouteConfiguration
from mcp_extproc.envoy._api.filters_http_buffer_v3 import Buffer
from mcp_extproc.envoy._api.filters_http_custom_response_v3 import CustomResponse
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_http_router_v3 import Router
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpFilter,
    LocalReplyConfig,
)
from mcp_extproc.envoy._api.retry_host_previous_hosts_v3 import PreviousHostsPredicate
from mcp_extproc.envoy._api.type_matcher_v3 import ListStringMatcher, StringMatcher
from mcp_extproc.envoy._api.type_v3 import HttpStatus, StatusCode
from mcp_extproc.envoy.layout import (
    BATCHES_LISTENER,
    EXTPROC_CLUSTER,
    LISTENER,
    REPAIR_LISTENER,
    SESSION_KEY,
    UPSTREAMS_LISTENER,
    Layout,
)
from mcp_extproc.envoy.render import cors, downstream, local_replies, policies, resilience, routes, sticky
from mcp_extproc.envoy.render.access_log import access_log
from mcp_extproc.envoy.render.typed import ZERO, any_of, envoy_address, header, seconds

MESSAGE_TIMEOUT = 5.0
"""Seconds that a worker has for each message. Most take microseconds; fan-outs request more (``max_message_timeout``)."""

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


def client_filters(config: GatewayConfig, layout: Layout, *, judges_first: bool) -> list[HttpFilter]:
    """The gateway's HTTP filters on the clients' listener together with the configured ones, in their order: first those
    for browsers. A router follows them."""
    ours = [
        *cors.filters(),
        HttpFilter(name=routes.CUSTOM_RESPONSE, typed_config=any_of(CustomResponse())),
        HttpFilter(name=routes.BUFFER, typed_config=any_of(whole_bodies(config))),
        *([_session_key()] if layout.shares_sessions else []),
        HttpFilter(name=routes.EXT_PROC, typed_config=any_of(ext_proc(layout, config.more_namespaces, repairs=False))),
        *sticky.client_filters(config),
    ]
    return policies.around(config, ours, routes.BUFFER, routes.EXT_PROC, judges_first=judges_first)


def _clients(config: GatewayConfig, layout: Layout) -> Listener:
    address = TcpAddress(config.listen.address, config.listen.port)
    manager = _for_clients(config, layout, LISTENER)
    downstream.limit_requests(manager, config.listen.limits)
    listener = _listener(LISTENER, address, manager)
    downstream.secure(listener, config.listen.tls, config.listen.limits)
    return listener


def _batches(config: GatewayConfig, layout: Layout) -> Listener:
    # The same filters as for clients, so that each message of a batch passes the same policies as a single message.
    manager = _for_clients(config, layout, BATCHES_LISTENER)
    if config.has_policies:
        # The client's address is the last in x-forwarded-for, from its original request.
        manager.use_remote_address = False
    listener = _listener(BATCHES_LISTENER, layout.batches, manager)
    downstream.exempt(listener)
    return listener


def _for_clients(config: GatewayConfig, layout: Layout, name: str) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix=name,
        route_config=routes.client_routes(config),
        http_filters=[*client_filters(config, layout, judges_first=config.judges_first), _router()],
        access_log=access_log(config.log.access),
        local_reply_config=local_replies.local_replies(config),
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
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
    return _private(UPSTREAMS_LISTENER, layout.upstreams, routing, filters, local_replies.failure_headers())


def _repair(config: GatewayConfig, layout: Layout) -> Listener:
    servers = config.servers.values()
    ejects = any(map(resilience.ejects_by_answers, servers))
    filters = [
        *([HttpFilter(name=routes.CUSTOM_RESPONSE, typed_config=any_of(CustomResponse()))] if ejects else []),
        *sticky.repair_filters(config),
        HttpFilter(name=routes.EXT_PROC, typed_config=any_of(ext_proc(layout, (), repairs=True))),
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


def ext_proc(layout: Layout, more_namespaces: Sequence[str], *, repairs: bool) -> ExternalProcessor:
    """The ext_proc filter.

    Args:
        layout: whether there are several workers.
        more_namespaces: further metadata namespaces that the worker may write.
        repairs: for the repair listener, which the worker recognizes by the route's name. Clients can't set it.
    """
    return ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER, skip_envoy_headers=True),
            timeout=ZERO,
            retry_policy=before_anything_was_read(),
            initial_metadata=[HeaderValue(key=SESSION_KEY, value=f"%REQ({SESSION_KEY})%")]
            if layout.shares_sessions
            else [],
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        processing_mode=headers_first(),
        # Most requests need no response, and DELETE no body.
        allow_mode_override=True,
        message_timeout=seconds(MESSAGE_TIMEOUT),
        max_message_timeout=seconds(MAX_MESSAGE_TIMEOUT),
        mutation_rules=HeaderMutationRules(allow_envoy=True),
        forward_rules=None if repairs else _what_the_worker_sees(layout),
        request_attributes=["xds.route_name"] if repairs else [],
        metadata_options=MetadataOptions(
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NAMESPACE, *more_namespaces])
        ),
    )


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


def headers_first() -> ProcessingMode:
    """Only the request's headers are sent unasked; the response to them requests further parts.

    With another mode for bodies than NONE, requests would lose their content-length.
    """
    return ProcessingMode(
        request_header_mode=ProcessingModeHeaderSendMode.SEND,
        response_header_mode=ProcessingModeHeaderSendMode.SKIP,
        request_body_mode=ProcessingModeBodySendMode.NONE,
        response_body_mode=ProcessingModeBodySendMode.NONE,
        request_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
        response_trailer_mode=ProcessingModeHeaderSendMode.SKIP,
    )


def before_anything_was_read() -> RetryPolicy:
    """For exchanges that did not reach a worker: it is dead, or sent GOAWAY. Requests that may have had an effect are
    not repeated.

    A status is retried only before any response, even a request for the body. grpc.aio returns CANCELLED for exchanges that
    arrive at the beginning of its shutdown.
    """
    return RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request,unavailable,cancelled",
        num_retries=3,
        retry_back_off=BackoffStrategy(base_interval=seconds(0.005), max_interval=seconds(0.05)),
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=any_of(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=20,
    )


_NOT_SENT = (
    "accept-encoding", "content-length", "date", "server", "x-envoy-upstream-service-time",
    "x-forwarded-proto", "x-request-id",
)  # fmt: skip
"""Headers that the worker neither reads nor removes. Without them the headers of similar requests and responses are
identical, so known ones need not be parsed again."""


def _what_the_worker_sees(layout: Layout) -> HeaderForwardingRules:
    names = (*_NOT_SENT, SESSION_KEY) if layout.shares_sessions else _NOT_SENT
    return HeaderForwardingRules(
        disallowed_headers=ListStringMatcher(patterns=[StringMatcher(exact=name) for name in names])
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
