"""Reads messages of Envoy's access log service, as :class:`Exchange`. Whoever serves it gives it their bytes
(:mod:`mcp_extproc.telemetry.collector.als`).

Source: envoy/data/accesslog/v3/accesslog.proto. Of dynamic metadata only what is named here is looked at: others, the internal
namespaces among them, hold credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from mcp_extproc.contract import ERROR_HEADER, NAMESPACE, RECORD_KEY, TELEMETRY_NAMESPACE
from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE, SpanContext, context_of
from mcp_extproc.telemetry import _pb as pb
from mcp_extproc.telemetry.exchange import MAX_DETAILS, Exchange, Peer, reason_of, times_at_server
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.telemetry.records.worker_note import Note

REQUEST_HEADERS: Final = (TRACEPARENT, TRACESTATE)
"""Headers that Envoy has to put into its records."""

RESPONSE_HEADERS: Final = (ERROR_HEADER,)

_METHODS: Final = {
    1: "GET", 2: "HEAD", 3: "POST", 4: "PUT", 5: "DELETE", 6: "CONNECT", 7: "OPTIONS", 8: "TRACE", 9: "PATCH",
}  # fmt: skip
"""envoy.config.core.v3.RequestMethod."""

_VERSIONS: Final = {1: "1.0", 2: "1.1", 3: "2", 4: "3"}

Fields = Mapping[str, Value]

_NOTHING: Final[Fields] = {}


class Unreadable(ValueError):
    """The bytes are not a message of the access log service."""


def read(raw: bytes) -> Iterator[Exchange]:
    """The exchanges of one message.

    Raises:
        Unreadable: it is none.
    """
    try:
        message = pb.StreamAccessLogsMessage.FromString(raw)
    except DecodeError as error:
        raise Unreadable(str(error)) from None
    return map(exchange, message.http_logs.log_entry)


def exchange(entry: pb.HTTPAccessLogEntry) -> Exchange:
    """One record."""
    common, request, response = entry.common_properties, entry.request, entry.response
    known = common.metadata.filter_metadata
    facts = known[NAMESPACE].fields if NAMESPACE in known else _NOTHING
    more = known[TELEMETRY_NAMESPACE].fields if TELEMETRY_NAMESPACE in known else _NOTHING
    told = worker_note.read(_text(more, RECORD_KEY) or "") or _UNSEEN
    kind, who, rest = told.kind, told.who, told.more
    consent, reason = _text(facts, "consent"), _text(facts, "error_reason")
    return Exchange(
        started=_nanoseconds(common.start_time),
        duration=_nanoseconds(common.duration),
        upstream=_upstream(common),
        attempts=common.upstream_request_attempt_count,
        http_method=_METHODS.get(request.request_method, "_OTHER"),
        http_version=_VERSIONS.get(entry.protocol_version),
        status=response.response_code.value,
        request_bytes=request.request_body_bytes,
        response_bytes=response.response_body_bytes,
        request_id=request.request_id or None,
        client=_peer(common.downstream_remote_address),
        upstream_peer=_peer(common.upstream_remote_address),
        method=kind.method,
        id=told.id,
        session=who.session,
        protocol_version=kind.protocol_version,
        principal=who.principal,
        issuer=who.issuer,
        endpoint=kind.endpoint,
        server=kind.server,
        tool=kind.tool,
        prompt=kind.prompt,
        listed=kind.is_listed,
        asked_for=rest.asked_for,
        uri=rest.uri,
        batch=kind.batch,
        consent=consent,
        code=_number(facts, "error_code"),
        reason=_reason(reason, entry),
        details=response.response_code_details[:MAX_DETAILS] or None,
        decided_by=kind.rule,
        arguments=told.arguments,
        has_another=kind.has_another(consent, reason),
        session_seconds=rest.session_seconds,
        spans=told.spans,
        is_left_out=told.is_left_out,
        header=_context(request.request_headers) if told.spans is None else None,
    )


_UNSEEN: Final = Note(worker_note.NO_KIND, worker_note.NOBODY)
"""Of what no worker saw."""


# Members of a Struct. Others than the expected type are as absent ones. To look whether there is one takes a tenth of getting
# it, and most are absent.


def _text(fields: Fields, key: str) -> str | None:
    return fields[key].string_value or None if key in fields else None


def _number(fields: Fields, key: str) -> int | None:
    if key not in fields or not (value := fields[key]).HasField("number_value"):
        return None
    return int(value.number_value)


def _context(headers: Mapping[str, str]) -> SpanContext | None:
    return context_of(headers) if TRACEPARENT in headers else None


def _reason(reason: str | None, entry: pb.HTTPAccessLogEntry) -> str | None:
    headers = entry.response.response_headers
    word = headers.get(ERROR_HEADER)
    return reason_of(reason, word, was_sent=entry.common_properties.HasField("time_to_first_upstream_tx_byte"))


def _upstream(common: pb.AccessLogCommon) -> tuple[int, int] | None:
    if not common.HasField("time_to_first_upstream_tx_byte"):
        return None
    ends = common.HasField("time_to_last_upstream_rx_byte")
    return times_at_server(
        _nanoseconds(common.time_to_first_upstream_tx_byte),
        _nanoseconds(common.time_to_last_upstream_rx_byte) if ends else None,
        _nanoseconds(common.duration),
    )


def _nanoseconds(duration: Duration | Timestamp) -> int:
    # Not by the messages' own method, which takes as long as a third of a record.
    return duration.seconds * 1_000_000_000 + duration.nanos


def _peer(address: pb.Address) -> Peer | None:
    socket = address.socket_address
    if text := socket.address:
        return Peer(text, socket.port_value)
    return Peer(path) if (path := address.pipe.path) else None
