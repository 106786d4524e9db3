"""envoy.config.bootstrap.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message, Struct

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_accesslog_v3, config_cluster_v3, config_core_v3, config_listener_v3, config_overload_v3, type_matcher_v3


class Admin(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.bootstrap.v3.Admin"
    access_log: list[config_accesslog_v3.AccessLog] = []
    access_log_path: str = ''
    profile_path: str = ''
    address: config_core_v3.Address | None = None
    socket_options: list[config_core_v3.SocketOption] = []
    ignore_global_conn_limit: bool = False
    allow_paths: list[type_matcher_v3.StringMatcher] = []


class Bootstrap(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.bootstrap.v3.Bootstrap"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'stats_server_version_override'})
    node_context_params: list[str] = []
    static_resources: BootstrapStaticResources | None = None
    flags_path: str = ''
    stats_flush_interval: timedelta | None = None
    stats_flush_on_admin: bool | None = None
    stats_eviction_interval: timedelta | None = None
    layered_runtime: LayeredRuntime | None = None
    admin: Admin | None = None
    overload_manager: config_overload_v3.OverloadManager | None = None
    enable_dispatcher_stats: bool = False
    header_prefix: str = ''
    stats_server_version_override: int | None = None
    use_tcp_for_dns_lookups: bool = False
    typed_dns_resolver_config: config_core_v3.TypedExtensionConfig | None = None
    bootstrap_extensions: list[config_core_v3.TypedExtensionConfig] = []
    config_sources: list[config_core_v3.ConfigSource] = []
    default_config_source: config_core_v3.ConfigSource | None = None
    default_socket_interface: str = ''
    certificate_provider_instances: dict[str, config_core_v3.TypedExtensionConfig] = {}
    perf_tracing_file_path: str = ''
    default_regex_engine: config_core_v3.TypedExtensionConfig | None = None
    xds_delegate_extension: config_core_v3.TypedExtensionConfig | None = None
    xds_config_tracker_extension: config_core_v3.TypedExtensionConfig | None = None
    listener_manager: config_core_v3.TypedExtensionConfig | None = None
    enable_worker_cpu_affinity: bool = False


class BootstrapStaticResources(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.bootstrap.v3.Bootstrap.StaticResources"
    listeners: list[config_listener_v3.Listener] = []
    clusters: list[config_cluster_v3.Cluster] = []


class LayeredRuntime(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.bootstrap.v3.LayeredRuntime"
    layers: list[RuntimeLayer] = []


class RuntimeLayer(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.bootstrap.v3.RuntimeLayer"
    name: str = ''
    static_layer: Struct | None = None
    admin_layer: RuntimeLayerAdminLayer | None = None


class RuntimeLayerAdminLayer(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer"
