"""Records of Envoy's access log service as :class:`Exchange`. Only this module knows how they are spelled.

Source: envoy/data/accesslog/v3/accesslog.proto. Of dynamic metadata only what is named here is looked at: others, the internal
namespaces among them, hold credentials.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from mcp_extproc.contract import (
    AGE_KEY,
    ARGUMENTS_KEY,
    ERROR_HEADER,
    LISTED_KEY,
    NAMESPACE,
    ONCE_CONSENTED,
    ONCE_MORE,
    PASSED_ON_KEY,
    RULE_KEY,
    SAMPLED_KEY,
    SERVER_ERROR,
    SPANS_KEY,
    STATE_KEY,
    TELEMETRY_NAMESPACE,
)
from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE, RequestSpans, SpanContext, context_of, spans_of
from mcp_extproc.telemetry import _pb as pb
from mcp_extproc.telemetry.exchange import CODES, Exchange, Peer

REQUEST_HEADERS: Final = (TRACEPARENT, TRACESTATE)
"""Headers that Envoy has to put into its records."""

RESPONSE_HEADERS: Final = (ERROR_HEADER,)

_METHODS: Final = {
    1: "GET", 2: "HEAD", 3: "POST", 4: "PUT", 5: "DELETE", 6: "CONNECT", 7: "OPTIONS", 8: "TRACE", 9: "PATCH",
}  # fmt: skip
"""envoy.config.core.v3.RequestMethod."""

_VERSIONS: Final = {1: "1.0", 2: "1.1", 3: "2", 4: "3"}

_GIVEN: Final = "given"

_MAX_DETAILS: Final = 256
"""Characters of Envoy's details, which may quote what a server wrote."""


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
    params = facts["params"].struct_value.fields if "params" in facts else _NOTHING
    spans = _spans(more)
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
        method=_text(facts, "method"),
        id=_plain(_text(facts, "id_json")),
        session=_text(facts, "session"),
        protocol_version=_text(facts, "protocol_version"),
        principal=_text(facts, "principal"),
        issuer=_text(facts, "issuer"),
        endpoint=_text(facts, "endpoint"),
        server=_text(facts, "server"),
        tool=_text(facts, "tool"),
        prompt=_text(facts, "prompt"),
        listed=LISTED_KEY in more and more[LISTED_KEY].bool_value,
        asked_for=_text(params, "name"),
        uri=_text(params, "uri"),
        batch=_number(facts, "batch"),
        consent=_text(facts, "consent"),
        code=_number(facts, "error_code"),
        reason=_reason(facts, entry),
        details=response.response_code_details[:_MAX_DETAILS] or None,
        decided_by=_text(more, RULE_KEY),
        arguments=_text(more, ARGUMENTS_KEY),
        has_another=_has_another(_text(more, PASSED_ON_KEY), facts),
        session_seconds=_number(more, AGE_KEY),
        spans=spans,
        is_left_out=_denies(more, SAMPLED_KEY),
        header=_context(request.request_headers) if spans is None else None,
    )


# Members of a Struct. Others than the expected type are as absent ones. To look whether there is one takes a tenth of getting
# it, and most are absent.


def _text(fields: Fields, key: str) -> str | None:
    return fields[key].string_value or None if key in fields else None


def _number(fields: Fields, key: str) -> int | None:
    if key not in fields or not (value := fields[key]).HasField("number_value"):
        return None
    return int(value.number_value)


def _denies(fields: Fields, key: str) -> bool:
    """Whether it says no, and does not say nothing."""
    return key in fields and (value := fields[key]).HasField("bool_value") and not value.bool_value


def _spans(fields: Fields) -> RequestSpans | None:
    text = _text(fields, SPANS_KEY)
    return None if text is None else spans_of(text, _text(fields, STATE_KEY) or "")


def _has_another(when: str | None, facts: Fields) -> bool:
    """Whether the request has passed Envoy once more, as what its record is about."""
    if when == ONCE_CONSENTED:
        return _text(facts, "consent") == _GIVEN
    return when == ONCE_MORE and _text(facts, "error_reason") is None


def _context(headers: Mapping[str, str]) -> SpanContext | None:
    return context_of(headers) if TRACEPARENT in headers else None


def _reason(facts: Fields, entry: pb.HTTPAccessLogEntry) -> str | None:
    """What the error is. Envoy's own answer to what was sent to no server is read as a server's would be."""
    reason, word = _text(facts, "error_reason"), _word(entry.response.response_headers)
    was_sent = entry.common_properties.HasField("time_to_first_upstream_tx_byte")
    return word or reason if reason == SERVER_ERROR and not was_sent else reason or word


def _word(headers: Mapping[str, str]) -> str | None:
    """The word of an error that Envoy answers with. A server may send a header of that name, too: others are none."""
    if ERROR_HEADER not in headers:
        return None
    word = headers[ERROR_HEADER]
    return word if word in CODES else None


def _upstream(common: pb.AccessLogCommon) -> tuple[int, int] | None:
    if not common.HasField("time_to_first_upstream_tx_byte"):
        return None
    begin = _nanoseconds(common.time_to_first_upstream_tx_byte)
    # Without one the server never answered, or not to the end: that took until the end of all.
    ends = common.HasField("time_to_last_upstream_rx_byte")
    return begin, max(begin, _nanoseconds(common.time_to_last_upstream_rx_byte if ends else common.duration))


def _nanoseconds(duration: Duration | Timestamp) -> int:
    # Not by the messages' own method, which takes as long as a third of a record.
    return duration.seconds * 1_000_000_000 + duration.nanos


def _peer(address: pb.Address) -> Peer | None:
    socket = address.socket_address
    if text := socket.address:
        return Peer(text, socket.port_value)
    return Peer(path) if (path := address.pipe.path) else None


def _plain(id: str | None) -> str | None:
    """A JSON-RPC id without its quotes."""
    if id is None or not id.startswith('"'):
        return id
    try:
        text = json.loads(id)
    except ValueError:
        return id
    return text if isinstance(text, str) else id
