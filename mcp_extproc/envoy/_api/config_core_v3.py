"""envoy.config.core.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy._api import type_v3
from mcp_extproc.envoy.message import Any, Message, Struct

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import type_matcher_v3


class ApiVersion(StrEnum):
    AUTO = "AUTO"
    V2 = "V2"
    V3 = "V3"


class HeaderValueOptionHeaderAppendAction(StrEnum):
    APPEND_IF_EXISTS_OR_ADD = "APPEND_IF_EXISTS_OR_ADD"
    ADD_IF_ABSENT = "ADD_IF_ABSENT"
    OVERWRITE_IF_EXISTS_OR_ADD = "OVERWRITE_IF_EXISTS_OR_ADD"
    OVERWRITE_IF_EXISTS = "OVERWRITE_IF_EXISTS"


class HttpProtocolOptionsHeadersWithUnderscoresAction(StrEnum):
    ALLOW = "ALLOW"
    REJECT_REQUEST = "REJECT_REQUEST"
    DROP_HEADER = "DROP_HEADER"


class RoutingPriority(StrEnum):
    DEFAULT = "DEFAULT"
    HIGH = "HIGH"


class SocketOptionSocketState(StrEnum):
    STATE_PREBIND = "STATE_PREBIND"
    STATE_BOUND = "STATE_BOUND"
    STATE_LISTENING = "STATE_LISTENING"


class Address(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.Address"
    socket_address: SocketAddress | None = None
    pipe: Pipe | None = None


class BackoffStrategy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.BackoffStrategy"
    base_interval: timedelta | None = None
    max_interval: timedelta | None = None


class ConfigSource(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.ConfigSource"
    path: str | None = None
    path_config_source: PathConfigSource | None = None
    initial_fetch_timeout: timedelta | None = None
    resource_api_version: ApiVersion = ApiVersion.AUTO


class DataSource(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.DataSource"
    filename: str | None = None
    inline_string: str | None = None
    environment_variable: str | None = None


class GrpcService(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.GrpcService"
    envoy_grpc: GrpcServiceEnvoyGrpc | None = None
    timeout: timedelta | None = None
    initial_metadata: list[HeaderValue] = []
    retry_policy: RetryPolicy | None = None


class GrpcServiceEnvoyGrpc(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.GrpcService.EnvoyGrpc"
    cluster_name: str = ''
    authority: str = ''
    retry_policy: RetryPolicy | None = None
    max_receive_message_length: int | None = None
    skip_envoy_headers: bool = False


class HeaderValue(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HeaderValue"
    key: str = ''
    value: str = ''


class HeaderValueOption(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HeaderValueOption"
    header: HeaderValue | None = None
    append: bool | None = None
    append_action: HeaderValueOptionHeaderAppendAction = HeaderValueOptionHeaderAppendAction.APPEND_IF_EXISTS_OR_ADD
    keep_empty_value: bool = False


class HealthCheck(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HealthCheck"
    timeout: timedelta | None = None
    interval: timedelta | None = None
    initial_jitter: timedelta | None = None
    interval_jitter: timedelta | None = None
    interval_jitter_percent: int = 0
    unhealthy_threshold: int | None = None
    healthy_threshold: int | None = None
    alt_port: int | None = None
    reuse_connection: bool | None = None
    http_health_check: HealthCheckHttpHealthCheck | None = None
    tcp_health_check: HealthCheckTcpHealthCheck | None = None
    grpc_health_check: HealthCheckGrpcHealthCheck | None = None
    no_traffic_interval: timedelta | None = None
    no_traffic_healthy_interval: timedelta | None = None
    unhealthy_interval: timedelta | None = None
    unhealthy_edge_interval: timedelta | None = None
    healthy_edge_interval: timedelta | None = None
    event_log_path: str = ''
    event_logger: list[TypedExtensionConfig] = []
    always_log_health_check_failures: bool = False
    always_log_health_check_success: bool = False
    transport_socket_match_criteria: Struct | None = None


class HealthCheckGrpcHealthCheck(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HealthCheck.GrpcHealthCheck"
    service_name: str = ''
    authority: str = ''
    initial_metadata: list[HeaderValueOption] = []


class HealthCheckHttpHealthCheck(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HealthCheck.HttpHealthCheck"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'response_buffer_size'})
    host: str = ''
    path: str = ''
    response_buffer_size: int | None = None
    request_headers_to_add: list[HeaderValueOption] = []
    request_headers_to_remove: list[str] = []
    expected_statuses: list[type_v3.Int64Range] = []
    retriable_statuses: list[type_v3.Int64Range] = []
    codec_client_type: type_v3.CodecClientType = type_v3.CodecClientType.HTTP1
    service_name_matcher: type_matcher_v3.StringMatcher | None = None


class HealthCheckTcpHealthCheck(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HealthCheck.TcpHealthCheck"


class Http1ProtocolOptions(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.Http1ProtocolOptions"
    allow_absolute_url: bool | None = None
    accept_http_10: bool = False
    default_host_for_http_10: str = ''
    enable_trailers: bool = False
    allow_chunked_length: bool = False
    override_stream_error_on_invalid_http_message: bool | None = None
    send_fully_qualified_url: bool = False
    use_balsa_parser: bool | None = None
    allow_custom_methods: bool = False
    ignore_http_11_upgrade: list[type_matcher_v3.StringMatcher] = []


class Http2ProtocolOptions(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.Http2ProtocolOptions"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'max_metadata_size', 'stream_reset_burst', 'stream_reset_rate'})
    hpack_table_size: int | None = None
    max_concurrent_streams: int | None = None
    initial_stream_window_size: int | None = None
    initial_connection_window_size: int | None = None
    allow_connect: bool = False
    allow_metadata: bool = False
    max_outbound_frames: int | None = None
    max_outbound_control_frames: int | None = None
    max_consecutive_inbound_frames_with_empty_payload: int | None = None
    max_inbound_priority_frames_per_stream: int | None = None
    max_inbound_window_update_frames_per_data_frame_sent: int | None = None
    stream_error_on_invalid_http_messaging: bool = False
    override_stream_error_on_invalid_http_message: bool | None = None
    custom_settings_parameters: list[Http2ProtocolOptionsSettingsParameter] = []
    connection_keepalive: KeepaliveSettings | None = None
    use_oghttp2_codec: bool | None = None
    max_metadata_size: int | None = None
    enable_huffman_encoding: bool | None = None
    max_header_field_size_kb: int | None = None
    disallow_obs_text: bool | None = None
    stream_reset_burst: int | None = None
    stream_reset_rate: int | None = None


class Http2ProtocolOptionsSettingsParameter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.Http2ProtocolOptions.SettingsParameter"
    identifier: int | None = None
    value: int | None = None


class HttpProtocolOptions(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HttpProtocolOptions"
    idle_timeout: timedelta | None = None
    max_connection_duration: timedelta | None = None
    max_connection_duration_jitter: type_v3.Percent | None = None
    max_headers_count: int | None = None
    max_response_headers_kb: int | None = None
    max_stream_duration: timedelta | None = None
    headers_with_underscores_action: HttpProtocolOptionsHeadersWithUnderscoresAction = HttpProtocolOptionsHeadersWithUnderscoresAction.ALLOW
    max_requests_per_connection: int | None = None


class HttpUri(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.HttpUri"
    uri: str = ''
    cluster: str | None = None
    timeout: timedelta | None = None


class KeepaliveSettings(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.KeepaliveSettings"
    interval: timedelta | None = None
    timeout: timedelta | None = None
    interval_jitter: type_v3.Percent | None = None
    connection_idle_interval: timedelta | None = None


class KeyValueMutation(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.KeyValueMutation"
    remove: str = ''


class Metadata(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.Metadata"
    filter_metadata: dict[str, Struct] = {}
    typed_filter_metadata: dict[str, Any] = {}


class PathConfigSource(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.PathConfigSource"
    path: str = ''


class Pipe(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.Pipe"
    path: str = ''
    mode: int = 0


class RetryPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.RetryPolicy"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'host_selection_retry_max_attempts'})
    retry_back_off: BackoffStrategy | None = None
    num_retries: int | None = None
    retry_on: str = ''
    retry_host_predicate: list[RetryPolicyRetryHostPredicate] = []
    host_selection_retry_max_attempts: int = 0


class RetryPolicyRetryHostPredicate(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.RetryPolicy.RetryHostPredicate"
    name: str = ''
    typed_config: Any | None = None


class RuntimeFractionalPercent(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.RuntimeFractionalPercent"
    default_value: type_v3.FractionalPercent | None = None
    runtime_key: str = ''


class RuntimeUInt32(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.RuntimeUInt32"
    default_value: int = 0
    runtime_key: str = ''


class SocketAddress(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.SocketAddress"
    address: str = ''
    port_value: int | None = None
    named_port: str | None = None
    resolver_name: str = ''
    ipv4_compat: bool = False
    network_namespace_filepath: str = ''


class SocketOption(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.SocketOption"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'level', 'name', 'int_value'})
    description: str = ''
    level: int = 0
    name: int = 0
    int_value: int | None = None
    state: SocketOptionSocketState = SocketOptionSocketState.STATE_PREBIND


class SocketOptionsOverride(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.SocketOptionsOverride"
    socket_options: list[SocketOption] = []


class SubstitutionFormatString(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.SubstitutionFormatString"
    text_format: str | None = None
    json_format: Struct | None = None
    text_format_source: DataSource | None = None
    omit_empty_values: bool = False
    content_type: str = ''
    formatters: list[TypedExtensionConfig] = []


class TcpKeepalive(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.TcpKeepalive"
    keepalive_probes: int | None = None
    keepalive_time: int | None = None
    keepalive_interval: int | None = None


class TransportSocket(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.TransportSocket"
    name: str = ''
    typed_config: Any | None = None


class TypedExtensionConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.core.v3.TypedExtensionConfig"
    name: str = ''
    typed_config: Any | None = None
