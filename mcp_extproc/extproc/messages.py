"""ext_proc messages to and from the gateway's values. The only place that knows how a decision looks on the wire.

Source: envoy/service/ext_proc/v3/external_processor.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from mcp_extproc.contract import NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.decision import Facts, Forward, Headers, Reply, RequestHead

_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def read_head(headers: pb.HttpHeaders) -> RequestHead:
    """The request's head from the message that carries it."""
    fields: dict[str, str] = {}
    for header in headers.headers.headers:
        value = (header.raw_value or header.value.encode()).decode("latin-1")
        name = header.key.lower()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    # HTTP/2 knows both; Envoy routes by the pseudo-header, so it is the one to judge.
    fields["host"] = fields.pop(":authority", fields.get("host", ""))
    method, path = fields.pop(":method", ""), fields.pop(":path", "")
    for name in [name for name in fields if name.startswith(":")]:
        del fields[name]
    return RequestHead(method, path, fields)


def response_header(message: pb.ProcessingRequest, name: str) -> str:
    """One header of a response's head, such as ``:status``, or empty."""
    for header in message.response_headers.headers.headers:
        if header.key == name:
            return (header.raw_value or header.value.encode()).decode("latin-1")
    return ""


def route_name(message: pb.ProcessingRequest) -> str:
    """The name of Envoy's route, where the filter was told to send it (the repair listener's is), else empty."""
    for attributes in message.attributes.values():
        value = attributes.fields.get("xds.route_name")
        if value is not None:
            return value.string_value
    return ""


def ask_for_body(*, and_response: bool) -> pb.ProcessingResponse:
    """Hold the request and send its whole body; and later the head of the response, if we may have to read that."""
    return pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(),
        mode_override=pb.ProcessingMode(
            request_header_mode=pb.ProcessingMode.SEND,
            # Ordered before we know what the request is: Envoy takes orders only in answers to headers.
            response_header_mode=pb.ProcessingMode.SEND if and_response else pb.ProcessingMode.SKIP,
            request_body_mode=pb.ProcessingMode.BUFFERED,
        ),
    )


def stream_head(facts: Facts) -> pb.ProcessingResponse:
    """Begin to answer the request here with an event stream."""
    fields = ((":status", "200"), ("content-type", "text/event-stream"), ("cache-control", "no-cache"))
    return pb.ProcessingResponse(
        streamed_immediate_response=pb.StreamedImmediateResponse(
            headers_response=pb.HttpHeaders(
                headers=pb.HeaderMap(
                    headers=[pb.HeaderValue(key=name, raw_value=value.encode()) for name, value in fields]
                )
            )
        ),
        dynamic_metadata=metadata({**facts, "answered": True}),
    )


def stream_chunk(chunk: bytes, *, end: bool = False) -> pb.ProcessingResponse:
    """A piece of the stream."""
    return pb.ProcessingResponse(
        streamed_immediate_response=pb.StreamedImmediateResponse(
            body_response=pb.StreamedBodyResponse(body=chunk, end_of_stream=end)
        )
    )


def read_response_body() -> pb.ProcessingResponse:
    """Send us the response's body as it comes. Its length may change."""
    return pb.ProcessingResponse(
        response_headers=pb.HeadersResponse(
            response=pb.CommonResponse(header_mutation=_mutation((), ("content-length",)))
        ),
        mode_override=pb.ProcessingMode(
            response_header_mode=pb.ProcessingMode.SEND, response_body_mode=pb.ProcessingMode.STREAMED
        ),
    )


def response_piece(body: bytes) -> pb.ProcessingResponse:
    """What the client gets for a piece of the response's body."""
    mutation = pb.BodyMutation(body=body) if body else pb.BodyMutation(clear_body=True)
    return pb.ProcessingResponse(response_body=pb.BodyResponse(response=pb.CommonResponse(body_mutation=mutation)))


def more_time(seconds: float) -> pb.ProcessingResponse:
    """Tell Envoy that the answer takes longer than its ``message_timeout``. At most once for each message of Envoy's."""
    timeout = Duration()
    timeout.FromMilliseconds(int(seconds * 1000))
    return pb.ProcessingResponse(override_message_timeout=timeout)


def forward_with_body(decision: Forward, original: bytes) -> pb.ProcessingResponse:
    """Let the request go on, in answer to its body."""
    return pb.ProcessingResponse(
        request_body=pb.BodyResponse(
            response=pb.CommonResponse(
                header_mutation=_mutation(decision.set_headers, decision.remove_headers),
                body_mutation=None if decision.body == original else pb.BodyMutation(body=decision.body),
                clear_route_cache=True,
            )
        ),
        dynamic_metadata=metadata(decision.facts),
    )


def forward_headers(decision: Forward) -> pb.ProcessingResponse:
    """Let the request go on, in answer to its headers; then show us the head of the response."""
    return pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(
            response=pb.CommonResponse(header_mutation=_mutation(decision.set_headers, decision.remove_headers))
        ),
        mode_override=pb.ProcessingMode(
            request_header_mode=pb.ProcessingMode.SEND, response_header_mode=pb.ProcessingMode.SEND
        ),
        dynamic_metadata=metadata(decision.facts),
    )


def reply(decision: Reply) -> pb.ProcessingResponse:
    """Answer the request here."""
    return pb.ProcessingResponse(
        immediate_response=pb.ImmediateResponse(
            status=pb.HttpStatus(code=decision.status),
            headers=_mutation(decision.headers, ()),
            body=decision.body,
            details=f"mcp_{decision.facts.get('error_reason', 'answered')}",
        ),
        dynamic_metadata=metadata({**decision.facts, "answered": True}),
    )


def go_on(message: pb.ProcessingRequest) -> pb.ProcessingResponse:
    """The answer that changes nothing, of the kind that a message after the decision needs."""
    match message.WhichOneof("request"):
        case "response_headers":
            return pb.ProcessingResponse(response_headers=pb.HeadersResponse())
        case "response_body":
            return pb.ProcessingResponse(response_body=pb.BodyResponse())
        case "request_trailers":
            return pb.ProcessingResponse(request_trailers=pb.TrailersResponse())
        case _:
            return pb.ProcessingResponse(response_trailers=pb.TrailersResponse())


def metadata(facts: Facts) -> Struct:
    """Dynamic metadata under :data:`NAMESPACE`."""
    return Struct(fields={NAMESPACE: Value(struct_value=_struct(facts))})


def _struct(mapping: Mapping[str, Any]) -> Struct:
    return Struct(fields={name: _value(value) for name, value in mapping.items()})


def _value(value: Any) -> Value:
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int | float):
        return Value(number_value=value)
    if isinstance(value, list | tuple):
        return Value(list_value=ListValue(values=[_value(item) for item in value]))
    return Value(struct_value=_struct(value))


def _mutation(set_headers: Headers, remove: tuple[str, ...]) -> pb.HeaderMutation:
    return pb.HeaderMutation(
        set_headers=[
            pb.HeaderValueOption(
                header=pb.HeaderValue(key=name, raw_value=value.encode("latin-1")), append_action=_OVERWRITE
            )
            for name, value in set_headers
        ],
        remove_headers=remove,
    )
