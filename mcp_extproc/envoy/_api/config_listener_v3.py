"""envoy.config.listener.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Any, Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_accesslog_v3, config_core_v3, xds_type_matcher_v3


class AdditionalAddress(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.listener.v3.AdditionalAddress"
    address: config_core_v3.Address | None = None
    socket_options: config_core_v3.SocketOptionsOverride | None = None
    tcp_keepalive: config_core_v3.TcpKeepalive | None = None


class Filter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.listener.v3.Filter"
    name: str = ''
    typed_config: Any | None = None


class FilterChain(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.listener.v3.FilterChain"
    filters: list[Filter] = []
    use_proxy_proto: bool | None = None
    metadata: config_core_v3.Metadata | None = None
    transport_socket: config_core_v3.TransportSocket | None = None
    transport_socket_connect_timeout: timedelta | None = None
    name: str = ''


class Listener(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.listener.v3.Listener"
    name: str = ''
    address: config_core_v3.Address | None = None
    additional_addresses: list[AdditionalAddress] = []
    stat_prefix: str = ''
    filter_chains: list[FilterChain] = []
    filter_chain_matcher: xds_type_matcher_v3.Matcher | None = None
    use_original_dst: bool | None = None
    default_filter_chain: FilterChain | None = None
    per_connection_buffer_limit_bytes: int | None = None
    per_connection_buffer_high_watermark_timeout: timedelta | None = None
    metadata: config_core_v3.Metadata | None = None
    listener_filters_timeout: timedelta | None = None
    continue_on_listener_filters_timeout: bool = False
    transparent: bool | None = None
    freebind: bool | None = None
    socket_options: list[config_core_v3.SocketOption] = []
    tcp_fast_open_queue_length: int | None = None
    reuse_port: bool = False
    enable_reuse_port: bool | None = None
    access_log: list[config_accesslog_v3.AccessLog] = []
    tcp_backlog_size: int | None = None
    max_connections_to_accept_per_socket_event: int | None = None
    bind_to_port: bool | None = None
    enable_mptcp: bool = False
    ignore_global_conn_limit: bool = False
    bypass_overload_manager: bool = False
    tcp_keepalive: config_core_v3.TcpKeepalive | None = None
