"""envoy.extensions.filters.network.http_connection_manager.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Any, Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_accesslog_v3, config_core_v3, config_route_v3, type_v3, xds_type_matcher_v3


class HttpConnectionManagerPathWithEscapedSlashesAction(StrEnum):
    IMPLEMENTATION_SPECIFIC_DEFAULT = "IMPLEMENTATION_SPECIFIC_DEFAULT"
    KEEP_UNCHANGED = "KEEP_UNCHANGED"
    REJECT_REQUEST = "REJECT_REQUEST"
    UNESCAPE_AND_REDIRECT = "UNESCAPE_AND_REDIRECT"
    UNESCAPE_AND_FORWARD = "UNESCAPE_AND_FORWARD"


class HttpConnectionManager(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    stat_prefix: str = ''
    route_config: config_route_v3.RouteConfiguration | None = None
    http_filters: list[HttpFilter] = []
    add_user_agent: bool | None = None
    common_http_protocol_options: config_core_v3.HttpProtocolOptions | None = None
    http1_safe_max_connection_duration: bool = False
    http_protocol_options: config_core_v3.Http1ProtocolOptions | None = None
    http2_protocol_options: config_core_v3.Http2ProtocolOptions | None = None
    server_name: str = ''
    max_request_headers_kb: int | None = None
    stream_idle_timeout: timedelta | None = None
    stream_flush_timeout: timedelta | None = None
    request_timeout: timedelta | None = None
    request_headers_timeout: timedelta | None = None
    drain_timeout: timedelta | None = None
    drain_timeout_jitter: type_v3.Percent | None = None
    delayed_close_timeout: timedelta | None = None
    access_log: list[config_accesslog_v3.AccessLog] = []
    access_log_flush_interval: timedelta | None = None
    flush_access_log_on_new_request: bool = False
    use_remote_address: bool | None = None
    xff_num_trusted_hops: int = 0
    original_ip_detection_extensions: list[config_core_v3.TypedExtensionConfig] = []
    early_header_mutation_extensions: list[config_core_v3.TypedExtensionConfig] = []
    skip_xff_append: bool = False
    via: str = ''
    generate_request_id: bool | None = None
    preserve_external_request_id: bool = False
    always_set_request_id_in_response: bool = False
    forward_client_cert_matcher: xds_type_matcher_v3.Matcher | None = None
    proxy_100_continue: bool = False
    represent_ipv4_remote_address_as_ipv4_mapped_ipv6: bool = False
    normalize_path: bool | None = None
    merge_slashes: bool = False
    path_with_escaped_slashes_action: HttpConnectionManagerPathWithEscapedSlashesAction = HttpConnectionManagerPathWithEscapedSlashesAction.IMPLEMENTATION_SPECIFIC_DEFAULT
    local_reply_config: LocalReplyConfig | None = None
    strip_matching_host_port: bool = False
    strip_any_host_port: bool | None = None
    stream_error_on_invalid_http_message: bool | None = None
    strip_trailing_host_dot: bool = False
    typed_header_validation_config: config_core_v3.TypedExtensionConfig | None = None
    append_x_forwarded_port: bool = False
    append_local_overload: bool = False
    add_proxy_protocol_connection_state: bool | None = None


class HttpFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"
    name: str = ''
    typed_config: Any | None = None
    is_optional: bool = False
    disabled: bool = False


class LocalReplyConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig"
    mappers: list[ResponseMapper] = []
    body_format: config_core_v3.SubstitutionFormatString | None = None


class ResponseMapper(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper"
    filter: config_accesslog_v3.AccessLogFilter | None = None
    status_code: int | None = None
    body: config_core_v3.DataSource | None = None
    body_format_override: config_core_v3.SubstitutionFormatString | None = None
    headers_to_add: list[config_core_v3.HeaderValueOption] = []
