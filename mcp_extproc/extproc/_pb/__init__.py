"""The subset of Envoy's ext_proc messages that the gateway uses.

`ext_proc_pb2.py` and `.pyi` are generated from `protos/mcp_extproc/ext_proc.proto` by `python -m protos.generate`; do not
edit them. The messages have a protobuf package of their own, so they can share a process with Envoy's full API; the gRPC
service keeps Envoy's name.
"""

from mcp_extproc.extproc._pb.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    GrpcStatus,
    HeaderMap,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpBody,
    HttpHeaders,
    HttpStatus,
    HttpTrailers,
    ImmediateResponse,
    Metadata,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
    StreamedBodyResponse,
    StreamedImmediateResponse,
    TrailersResponse,
)

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"
"""Name of Envoy's gRPC service, for registration and for grpc.health.v1."""

PROCESS_METHOD = "Process"
"""Its only method: a stream of ProcessingRequest in, a stream of ProcessingResponse out."""

PROCESS_PATH = f"/{SERVICE_NAME}/{PROCESS_METHOD}"
"""The HTTP/2 `:path` of a call."""

__all__ = [
    "PROCESS_METHOD",
    "PROCESS_PATH",
    "SERVICE_NAME",
    "BodyMutation",
    "BodyResponse",
    "CommonResponse",
    "GrpcStatus",
    "HeaderMap",
    "HeaderMutation",
    "HeaderValue",
    "HeaderValueOption",
    "HeadersResponse",
    "HttpBody",
    "HttpHeaders",
    "HttpStatus",
    "HttpTrailers",
    "ImmediateResponse",
    "Metadata",
    "ProcessingMode",
    "ProcessingRequest",
    "ProcessingResponse",
    "ProtocolConfiguration",
    "StreamedBodyResponse",
    "StreamedImmediateResponse",
    "TrailersResponse",
]
