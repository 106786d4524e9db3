"""envoy.extensions.access_loggers.grpc.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from mcp_extproc.envoy._api import config_core_v3
from mcp_extproc.envoy.message import Message


class CommonGrpcAccessLogConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig"
    log_name: str = ''
    grpc_service: config_core_v3.GrpcService | None = None
    transport_api_version: config_core_v3.ApiVersion = config_core_v3.ApiVersion.AUTO
    buffer_flush_interval: timedelta | None = None
    buffer_size_bytes: int | None = None
    filter_state_objects_to_log: list[str] = []
    grpc_stream_retry_policy: config_core_v3.RetryPolicy | None = None


class HttpGrpcAccessLogConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    common_config: CommonGrpcAccessLogConfig | None = None
    additional_request_headers_to_log: list[str] = []
    additional_response_headers_to_log: list[str] = []
    additional_response_trailers_to_log: list[str] = []
