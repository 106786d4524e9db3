"""The clients' side: TLS, limits of the listener, and Envoy's overload manager. Options without a default that are not set are
not rendered."""

from __future__ import annotations

import socket
from pathlib import Path

from mcp_extproc.config import Listen
from mcp_extproc.config.resilience import ListenLimits, Overload
from mcp_extproc.config.tls import ListenTls
from mcp_extproc.envoy._api.config_core_v3 import (
    DataSource,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    SocketOption,
    SocketOptionSocketState,
    TransportSocket,
)
from mcp_extproc.envoy._api.config_listener_v3 import Listener
from mcp_extproc.envoy._api.config_overload_v3 import (
    BufferFactoryConfig,
    OverloadAction,
    OverloadManager,
    ResourceMonitor,
    ScaledTrigger,
    ThresholdTrigger,
    Trigger,
)
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpConnectionManager
from mcp_extproc.envoy._api.resource_monitors_downstream_connections_v3 import DownstreamConnectionsConfig
from mcp_extproc.envoy._api.resource_monitors_fixed_heap_v3 import FixedHeapConfig
from mcp_extproc.envoy._api.transport_sockets_tls_v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
)
from mcp_extproc.envoy.render import own_certificates
from mcp_extproc.envoy.render.typed import any_of, seconds

_RESET_STREAMS = "envoy.overload_actions.reset_high_memory_stream"
_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"

_STREAM_WINDOW = 64 * 1024
_CONNECTION_WINDOW = 1024 * 1024
"""Of HTTP/2, in bytes: what a client may send before the worker or a server takes it, and what Envoy writes ahead of what the
client takes. As Envoy's documentation advises for edge proxies; its own defaults are 16 and 24 MiB."""

_LARGE_STREAM_BITS = 20
"""HTTP/2 streams that hold more than this power of two in bytes are reset first."""

_TCP_USER_TIMEOUT = 18
"""Of tcp(7), Linux. Python has no such name on other systems, for which the bootstrap may be printed."""

_HEAP_ACTIONS = (
    ("envoy.overload_actions.disable_http_keepalive", 0.90),
    ("envoy.overload_actions.stop_accepting_requests", 0.95),
    ("envoy.overload_actions.stop_accepting_connections", 0.98),
)


def limit_requests(manager: HttpConnectionManager, limits: ListenLimits) -> None:
    """Limits of the HTTP connection manager."""
    manager.max_request_headers_kb = limits.max_request_headers_kb
    manager.request_timeout = seconds(limits.request_timeout)
    manager.request_headers_timeout = seconds(limits.request_headers_timeout)
    # HTTP/2 only: a connection may be read while a stream of it is not. See also `secure`.
    manager.stream_flush_timeout = seconds(limits.unread_timeout)
    manager.http2_protocol_options = Http2ProtocolOptions(
        max_concurrent_streams=limits.max_concurrent_streams,
        initial_stream_window_size=_STREAM_WINDOW,
        initial_connection_window_size=_CONNECTION_WINDOW,
    )
    options = manager.common_http_protocol_options or HttpProtocolOptions()
    options.max_headers_count = limits.max_headers_count
    options.max_requests_per_connection = limits.max_requests_per_connection
    options.idle_timeout = seconds(limits.idle_timeout)
    if limits.max_connection_duration is not None:
        options.max_connection_duration = seconds(limits.max_connection_duration)
    manager.common_http_protocol_options = options


def secure(listener: Listener, listen: Listen, secrets: Path | None, *, accepted: str | None) -> None:
    """TLS and per-connection limits. ``accepted``: file of authorities whose certificates clients may have, but need not."""
    limits = listen.limits
    listener.per_connection_buffer_limit_bytes = limits.per_connection_buffer_limit_bytes
    # Also for clients that are there and take nothing: their window stays shut (tcp(7), TCP_USER_TIMEOUT).
    listener.socket_options = [
        SocketOption(
            description="TCP_USER_TIMEOUT",
            level=socket.IPPROTO_TCP,
            name=_TCP_USER_TIMEOUT,
            int_value=round(1000 * limits.unread_timeout),
            state=SocketOptionSocketState.STATE_LISTENING,
        )
    ]
    if listen.tls is not None:
        for chain in listener.filter_chains:
            chain.transport_socket_connect_timeout = seconds(limits.request_headers_timeout)
            chain.transport_socket = TransportSocket(
                name="envoy.transport_sockets.tls", typed_config=any_of(_context(listen.tls, secrets, accepted))
            )


def _context(tls: ListenTls, secrets: Path | None, accepted: str | None) -> DownstreamTlsContext:
    trusted = None
    if (authorities := tls.client_ca or accepted) is not None:
        trusted = CertificateValidationContext(trusted_ca=DataSource(filename=authorities))
    common = CommonTlsContext(validation_context=trusted, alpn_protocols=list(tls.alpn))
    own_certificates.present(common, tls, own_certificates.LISTENER, secrets)
    return DownstreamTlsContext(
        require_client_certificate=True if tls.client_ca is not None else None, common_tls_context=common
    )


def exempt(listener: Listener) -> None:
    """Private listeners have no limits: their traffic belongs to requests that were accepted."""
    listener.ignore_global_conn_limit = True
    listener.bypass_overload_manager = True


def overload_manager(overload: Overload) -> OverloadManager:
    """The overload manager."""
    connections = DownstreamConnectionsConfig(
        max_active_downstream_connections=overload.max_active_downstream_connections
    )
    monitors = [ResourceMonitor(name=_CONNECTIONS, typed_config=any_of(connections))]
    if overload.max_heap_size_bytes is None:
        return OverloadManager(resource_monitors=monitors)
    heap = FixedHeapConfig(max_heap_size_bytes=overload.max_heap_size_bytes)
    monitors.append(ResourceMonitor(name=_HEAP, typed_config=any_of(heap)))
    largest = ScaledTrigger(scaling_threshold=0.85, saturation_threshold=0.95)
    actions = [
        OverloadAction(name=_RESET_STREAMS, triggers=[Trigger(name=_HEAP, scaled=largest)]),
        *(
            OverloadAction(name=name, triggers=[Trigger(name=_HEAP, threshold=ThresholdTrigger(value=value))])
            for name, value in _HEAP_ACTIONS
        ),
    ]
    return OverloadManager(
        refresh_interval=seconds(0.25),
        resource_monitors=monitors,
        actions=actions,
        buffer_factory_config=BufferFactoryConfig(minimum_account_to_track_power_of_two=_LARGE_STREAM_BITS),
    )
