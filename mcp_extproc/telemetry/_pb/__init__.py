"""The subset of Envoy's access log service that the collector reads.

`access_log_pb2.py` and `.pyi` are generated from `protos/mcp_extproc/access_log.proto` by `python -m protos.generate`; do not
edit them.
"""

from mcp_extproc.telemetry._pb.access_log_pb2 import (
    AccessLogCommon,
    Address,
    HTTPAccessLogEntry,
    HTTPRequestProperties,
    HTTPResponseProperties,
    Metadata,
    Pipe,
    SocketAddress,
    StreamAccessLogsMessage,
)

SERVICE_NAME = "envoy.service.accesslog.v3.AccessLogService"
"""Name of Envoy's gRPC service."""

STREAM_METHOD = "StreamAccessLogs"
"""Its only method: a stream of StreamAccessLogsMessage in, one empty answer out."""

STREAM_PATH = f"/{SERVICE_NAME}/{STREAM_METHOD}"
"""The HTTP/2 `:path` of a call."""

__all__ = [
    "SERVICE_NAME",
    "STREAM_METHOD",
    "STREAM_PATH",
    "AccessLogCommon",
    "Address",
    "HTTPAccessLogEntry",
    "HTTPRequestProperties",
    "HTTPResponseProperties",
    "Metadata",
    "Pipe",
    "SocketAddress",
    "StreamAccessLogsMessage",
]
