"""The clients' side: TLS, limits of the listener, and Envoy's overload manager. Options that are not set are not
rendered."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import DataSource, HttpProtocolOptions, TransportSocket
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.overload.v3 import (
    OverloadAction,
    OverloadManager,
    ResourceMonitor,
    ThresholdTrigger,
    Trigger,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import DownstreamConnectionsConfig
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    TlsCertificate,
)

from mcp_extproc.config.resilience import ListenLimits, ListenTls, Overload
from mcp_extproc.envoy.render.typed import any_of, seconds

_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"

_HEAP_ACTIONS = (
    ("envoy.overload_actions.disable_http_keepalive", 0.90),
    ("envoy.overload_actions.stop_accepting_requests", 0.95),
    ("envoy.overload_actions.stop_accepting_connections", 0.98),
)


def limit_requests(manager: HttpConnectionManager, limits: ListenLimits) -> None:
    """Limits of the HTTP connection manager."""
    manager.max_request_headers_kb = limits.max_request_headers_kb
    options = manager.common_http_protocol_options or HttpProtocolOptions()
    options.max_headers_count = limits.max_headers_count
    options.max_requests_per_connection = limits.max_requests_per_connection
    if limits.idle_timeout is not None:
        options.idle_timeout = seconds(limits.idle_timeout)
    if limits.max_connection_duration is not None:
        options.max_connection_duration = seconds(limits.max_connection_duration)
    manager.common_http_protocol_options = options


def secure(listener: Listener, tls: ListenTls | None, limits: ListenLimits) -> None:
    """TLS and per-connection limits."""
    listener.per_connection_buffer_limit_bytes = limits.per_connection_buffer_limit_bytes
    if tls is not None:
        for chain in listener.filter_chains:
            chain.transport_socket = TransportSocket(
                name="envoy.transport_sockets.tls", typed_config=any_of(_context(tls))
            )


def _context(tls: ListenTls) -> DownstreamTlsContext:
    certificate = TlsCertificate(
        certificate_chain=DataSource(filename=tls.certificate), private_key=DataSource(filename=tls.key)
    )
    trusted = None
    if tls.client_ca is not None:
        trusted = CertificateValidationContext(trusted_ca=DataSource(filename=tls.client_ca))
    return DownstreamTlsContext(
        require_client_certificate=True if tls.client_ca is not None else None,
        common_tls_context=CommonTlsContext(
            tls_certificates=[certificate], validation_context=trusted, alpn_protocols=list(tls.alpn)
        ),
    )


def is_limited(overload: Overload) -> bool:
    """Whether the overload manager is needed."""
    return overload.max_active_downstream_connections is not None or overload.max_heap_size_bytes is not None


def exempt(listener: Listener, overload: Overload) -> None:
    """Private listeners have no limits: their traffic belongs to requests that were accepted."""
    if is_limited(overload):
        listener.ignore_global_conn_limit = True
        listener.bypass_overload_manager = True


def overload_manager(overload: Overload) -> OverloadManager | None:
    """The overload manager, if configured."""
    if not is_limited(overload):
        return None
    monitors = []
    if overload.max_active_downstream_connections is not None:
        connections = DownstreamConnectionsConfig(
            max_active_downstream_connections=overload.max_active_downstream_connections
        )
        monitors.append(ResourceMonitor(name=_CONNECTIONS, typed_config=any_of(connections)))
    if overload.max_heap_size_bytes is None:
        return OverloadManager(resource_monitors=monitors)
    heap = FixedHeapConfig(max_heap_size_bytes=overload.max_heap_size_bytes)
    monitors.append(ResourceMonitor(name=_HEAP, typed_config=any_of(heap)))
    actions = [
        OverloadAction(name=name, triggers=[Trigger(name=_HEAP, threshold=ThresholdTrigger(value=value))])
        for name, value in _HEAP_ACTIONS
    ]
    return OverloadManager(refresh_interval=seconds(0.25), resource_monitors=monitors, actions=actions)
