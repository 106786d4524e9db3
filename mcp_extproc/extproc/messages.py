"""Conversion between ext_proc messages and the gateway's values. Only this module knows how a decision is serialized.

Source: envoy/service/ext_proc/v3/external_processor.proto; the field numbers are those of protos/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from google.protobuf.duration_pb2 import Duration

from mcp_extproc.contract import (
    EARLY_FACT,
    EARLY_HIDES,
    EARLY_SHOWS,
    LOST_HEADER,
    MARKER_NAMESPACE,
    MAX_MESSAGE_TIMEOUT,
    NAMESPACE,
    READ_KEY,
    RESPONSE_NAMESPACE,
)
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.detail import FULL, Detail
from mcp_extproc.gateway.decision import Forward, Preview, Reply
from mcp_extproc.gateway.facts import Metadata, RequestFacts
from mcp_extproc.gateway.policy.inspect import Pass, Refusal
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.gateway.relay.outcomes import ANSWERED
from mcp_extproc.gateway.request import Headers, RequestHead
from mcp_extproc.mcp import transport
from mcp_extproc.wire import field, heads, number_field, struct_of

_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


class Unannounced(Exception):
    """Envoy sent what its filter for responses does not send."""


class Unreadable(ValueError):
    """The bytes are not an ext_proc message."""


# -- From Envoy -----------------------------------------------------------------------------------------------------------


def read(raw: bytes) -> pb.ProcessingRequest:
    """Parse a message from Envoy.

    Raises:
        Unreadable: it is not a valid message.
    """
    try:
        return pb.ProcessingRequest.FromString(raw)
    except Exception:  # noqa: BLE001 - the library's two implementations raise different ones
        raise Unreadable("not a ProcessingRequest") from None


def without_metadata(raw: bytes) -> tuple[bytes, bytes]:
    """A serialized message with headers, and what filters wrote about its request: Envoy sends that with each message, its
    maps in another order each time. Other messages, which may be large, stay as they are.

    Raises:
        Unreadable: it is not a valid message.
    """
    if (head := _BEFORE_HEAD.match(raw)) is None:
        return raw, b""
    at = _end(head)
    if at == len(raw) or (context := _BEFORE_CONTEXT.match(raw, at)) is None:
        if at > len(raw):
            raise Unreadable("not a ProcessingRequest")
        return raw, b""
    end = _end(context)
    if end > len(raw):
        raise Unreadable("not a ProcessingRequest")
    return raw[:at] + raw[end:], raw[context.end() : end]


def _end(found: re.Match[bytes]) -> int:
    """Where the field ends whose tag and length were found."""
    if found[1] is None:
        raise Unreadable("not a ProcessingRequest")
    return found.end() + _number(found[1])


def read_metadata(raw: bytes) -> pb.Metadata:
    """Parse what filters wrote about a request.

    Raises:
        Unreadable: it is not valid.
    """
    try:
        return pb.Metadata.FromString(raw)
    except Exception:  # noqa: BLE001 - as above
        raise Unreadable("not a Metadata") from None


def whole_body(raw: bytes) -> bytes | None:
    """The body in a serialized ``request_body`` without other fields, bypassing the protobuf library, which would copy
    it twice more. ``None`` if the message is different.

    Envoy 1.40 puts ``metadata_context`` behind it, often an empty one.
    """
    found = _body_in(raw, _BEFORE_REQUEST_BODY)
    return None if found is None else found[0]


def piece_of_response(raw: bytes) -> tuple[bytes, bool] | None:
    """A piece of a response's body and whether it is the last, read in the same way. ``None`` if the message is different.

    Envoy puts the metadata behind each piece, as behind the head.
    """
    found = _body_in(raw, _BEFORE_RESPONSE_BODY)
    return None if found is None else (found[0], found[1] == _END_OF_STREAM)


def _body_in(raw: bytes, before: re.Pattern[bytes]) -> tuple[bytes, bytes] | None:
    """The body in a message, and what its ``HttpBody`` has behind it. ``None`` if something else is in the message."""
    if (found := before.match(raw)) is None:
        return None
    start = found.end()
    end, over = start + _number(found[2]), found.end(1) + _number(found[1])
    if not end <= over <= len(raw) or (behind := raw[end:over]) not in _ENDS_OF_BODY:
        return None
    if raw[over:] not in (b"", _EMPTY_CONTEXT) and not _is_context(raw, over):
        return None
    return raw[start:end], behind


def _is_context(raw: bytes, position: int) -> bool:
    """Whether the rest of a message is ``metadata_context``."""
    try:
        start, size = _sized(raw, position, _METADATA_CONTEXT)
    except (IndexError, ValueError):
        return False
    return start + size == len(raw)


@lru_cache(maxsize=4096)
def _number(varint: bytes) -> int:
    """The number that a varint is."""
    return sum((byte & 0x7F) << 7 * index for index, byte in enumerate(varint))


def is_bare_end(raw: bytes) -> bool:
    """Whether a piece of a response's body is empty and the last, as most event streams end, with no metadata behind it."""
    return raw in _BARE_ENDS


def _sized(raw: bytes, position: int, tag: int) -> tuple[int, int]:
    """Start and size of a length-delimited field's payload.

    Raises:
        ValueError: another field, or an impossible length.
        IndexError: the message is truncated.
    """
    if raw[position] != tag:
        raise ValueError(position)
    if (size := raw[position + 1]) < 0x80:
        return position + 2, size
    if (more := raw[position + 2]) < 0x80:
        return position + 3, size & 0x7F | more << 7  # as heads and what filters wrote mostly are
    size = shift = 0
    while True:
        position += 1
        byte = raw[position]
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return position + 1, size
        if shift > 28:
            raise ValueError(position)


_REQUEST_BODY: Final = pb.ProcessingRequest.REQUEST_BODY_FIELD_NUMBER << 3 | 2
_RESPONSE_BODY: Final = pb.ProcessingRequest.RESPONSE_BODY_FIELD_NUMBER << 3 | 2
_METADATA_CONTEXT: Final = pb.ProcessingRequest.METADATA_CONTEXT_FIELD_NUMBER << 3 | 2
OF_RESPONSE: Final = frozenset(
    bytes((number << 3 | 2,))
    for number in (
        pb.ProcessingRequest.RESPONSE_HEADERS_FIELD_NUMBER,
        pb.ProcessingRequest.RESPONSE_BODY_FIELD_NUMBER,
        pb.ProcessingRequest.RESPONSE_TRAILERS_FIELD_NUMBER,
    )
)
"""First byte of a message that is a part of a response: Envoy writes that in front of everything else in it."""
_BODY: Final = pb.HttpBody.BODY_FIELD_NUMBER << 3 | 2
_END_OF_STREAM: Final = number_field(2, 1)
_ENDS_OF_BODY: Final = (b"", _END_OF_STREAM, number_field(2, 0))
"""``end_of_stream``, false or true."""
_EMPTY_CONTEXT: Final = bytes((_METADATA_CONTEXT, 0))
_BARE_ENDS: Final = tuple(bytes((_RESPONSE_BODY, 2)) + _END_OF_STREAM + behind for behind in (b"", _EMPTY_CONTEXT))
_VARINT: Final = rb"([\x80-\xff]{0,4}[\x00-\x7f])"
_HEADS: Final = bytes(
    (
        pb.ProcessingRequest.REQUEST_HEADERS_FIELD_NUMBER << 3 | 2,
        pb.ProcessingRequest.RESPONSE_HEADERS_FIELD_NUMBER << 3 | 2,
    )
)
_BEFORE_HEAD: Final = re.compile(b"[" + re.escape(_HEADS) + b"]" + _VARINT + b"?")
_BEFORE_CONTEXT: Final = re.compile(re.escape(bytes((_METADATA_CONTEXT,))) + _VARINT + b"?")
"""Without a number the message is cut off."""
_BEFORE_REQUEST_BODY: Final = re.compile(
    re.escape(bytes((_REQUEST_BODY,))) + _VARINT + re.escape(bytes((_BODY,))) + _VARINT
)
_BEFORE_RESPONSE_BODY: Final = re.compile(
    re.escape(bytes((_RESPONSE_BODY,))) + _VARINT + re.escape(bytes((_BODY,))) + _VARINT
)


def read_head(
    headers: pb.HttpHeaders,
    principal: Principal = ANONYMOUS,
    endpoint: str | None = "",
    *,
    is_judged: bool = False,
    awaits_policies: bool = False,
    hidden: tuple[str, ...] = (),
    one: Callable[[str], str] = str,
) -> RequestHead:
    """The request headers of a message.

    Args:
        headers: of the message.
        principal: who sent it.
        endpoint: see :attr:`RequestHead.endpoint`.
        is_judged: see :attr:`RequestHead.is_judged`.
        awaits_policies: see :attr:`RequestHead.awaits_policies`.
        hidden: see :attr:`RequestHead.hidden`.
        one: an equal text that others hold already (:class:`mcp_extproc.bounded.Alike`), for heads that are kept.
    """
    fields: dict[str, str] = {}
    repeated: dict[str, tuple[str, ...]] = {}
    for header in headers.headers.headers:
        value = one((header.raw_value or header.value.encode()).decode("latin-1"))
        name = one(header.key.lower())
        if name in fields:
            repeated[name] = (*repeated.get(name, (fields[name],)), value)
            value = f"{fields[name]}, {value}"
        fields[name] = value
    # HTTP/2 allows both. Envoy routes by the pseudo-header, so that one is checked.
    fields["host"] = fields.pop(":authority", fields.get("host", ""))
    repeated.pop("host", None)
    scheme = fields.pop(EARLY_HIDES, None)
    if scheme is None:
        # As Envoy makes one of the other; that may be a list, of proxies, or anything where Envoy trusts what comes.
        scheme = "https" if fields.pop(EARLY_SHOWS, "http") == "https" else "http"
        repeated.pop(EARLY_SHOWS, None)
    method, path = fields.pop(":method", ""), fields.pop(":path", "")
    for name in [name for name in fields if name.startswith(":") or name in hidden]:
        del fields[name]
        repeated.pop(name, None)
    return RequestHead(
        method,
        path,
        fields,
        principal,
        repeated,
        is_judged=is_judged,
        endpoint=endpoint,
        awaits_policies=awaits_policies,
        scheme=scheme,
        hidden=hidden,
    )


def is_early(headers: pb.HttpHeaders) -> bool | None:
    """Whether a request comes from the filter in front of policies that read no body; ``None`` if it does not say."""
    names = {header.key for header in headers.headers.headers}
    return False if EARLY_HIDES in names else True if EARLY_SHOWS in names else None


def request_header(headers: pb.HttpHeaders, name: str) -> str | None:
    """One request header; ``None`` where it is not there.

    Raises:
        Unreadable: it is there more than once.
    """
    found = [header for header in headers.headers.headers if header.key == name]
    if len(found) > 1:
        raise Unreadable(f"{name} is there more than once")
    return (found[0].raw_value or found[0].value.encode()).decode("latin-1") if found else None


def response_header(message: pb.ProcessingRequest, name: str) -> str:
    """One response header, such as ``:status``, or an empty string."""
    for header in message.response_headers.headers.headers:
        if header.key == name:
            return (header.raw_value or header.value.encode()).decode("latin-1")
    return ""


def told(message: pb.ProcessingRequest) -> dict[str, str]:
    """The strings in the metadata that goes with a response (:data:`RESPONSE_NAMESPACE`)."""
    entries = message.metadata_context.filter_metadata[RESPONSE_NAMESPACE].fields
    return {name: value.string_value for name, value in entries.items()}


def text_in(metadata: pb.Metadata, namespace: str, key: str) -> str:
    """A text that a filter wrote, or an empty one."""
    return metadata.filter_metadata[namespace].fields[key].string_value


def brings_response(message: pb.ProcessingRequest) -> bool:
    """Whether Envoy will send the response on the stream that this message begins."""
    return message.protocol_config.response_body_mode == pb.ProcessingMode.STREAMED


def route_name(message: pb.ProcessingRequest) -> str:
    """The name of Envoy's route, if the filter sends it (the repair listener's does), otherwise empty."""
    for attributes in message.attributes.values():
        value = attributes.fields.get("xds.route_name")
        if value is not None:
            return value.string_value
    return ""


# -- To Envoy, serialized --------------------------------------------------------------------------------------------------


ASK_FOR_BODY: Final = pb.ProcessingResponse(
    request_headers=pb.HeadersResponse(),
    mode_override=pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        response_header_mode=pb.ProcessingMode.SKIP,
        request_body_mode=pb.ProcessingMode.BUFFERED,
    ),
).SerializeToString()
"""Hold the request and send its whole body. For the filter in front of policies: the one that decides sends it unasked."""

_ABOUT_A_BODY: Final = (
    "accept-ranges", "content-digest", "content-encoding", "content-language", "content-length", "content-location",
    "content-md5", "content-range", "digest", "etag", "last-modified", "repr-digest",
)  # fmt: skip
"""Headers about the body that the server wrote (RFC 9110 section 8, RFC 9530)."""

_ABOUT_ANOTHER_BODY: Final = (*(name for name in _ABOUT_A_BODY if name != "content-length"), "location")
"""Of them, those that go when the body is replaced by one whose length is known, and where the server's own leads."""

READ_RESPONSE_BODY: Final = pb.ProcessingResponse(
    response_headers=pb.HeadersResponse(
        response=pb.CommonResponse(header_mutation=pb.HeaderMutation(remove_headers=_ABOUT_A_BODY))
    ),
).SerializeToString()
"""The response's body will be read. What the client gets may be another one."""

_ANOTHER_BODY: Final = field(2, pb.HeaderMutation(remove_headers=_ABOUT_A_BODY).SerializeToString())

GO_ON: Final = {
    "response_headers": pb.ProcessingResponse(response_headers=pb.HeadersResponse()).SerializeToString(),
    "response_body": pb.ProcessingResponse(response_body=pb.BodyResponse()).SerializeToString(),
    "request_trailers": pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString(),
    "response_trailers": pb.ProcessingResponse(response_trailers=pb.TrailersResponse()).SerializeToString(),
}
"""Responses without changes, by kind of message after the decision."""


_LOST: Final = pb.CommonResponse(
    header_mutation=pb.HeaderMutation(
        set_headers=[
            pb.HeaderValueOption(header=pb.HeaderValue(key=LOST_HEADER, raw_value=b"1"), append_action=_OVERWRITE)
        ]
    )
)
MARK_AS_LOST: Final = {
    "response_headers": pb.ProcessingResponse(response_headers=pb.HeadersResponse(response=_LOST)).SerializeToString(),
    "response_body": pb.ProcessingResponse(response_body=pb.BodyResponse(response=_LOST)).SerializeToString(),
}
"""The response says that the server lost the session. By kind of message, in answer to the last one."""


def more_time(seconds: float) -> bytes:
    """Extend Envoy's ``message_timeout``. At most once for each message from Envoy."""
    timeout = Duration()
    timeout.FromMilliseconds(int(min(seconds, MAX_MESSAGE_TIMEOUT) * 1000))
    return pb.ProcessingResponse(override_message_timeout=timeout).SerializeToString()


def preview(decision: Preview, detail: Detail, internal: bytes = b"", *, has_body: bool) -> bytes:
    """Let the request go on to the policies, in answer to its body, or to its headers where it has none."""
    common = field(2, mutation(decision.set_headers, decision.remove_headers)) + CLEAR_ROUTE_CACHE
    return field(3 if has_body else 1, field(1, common)) + _metadata(decision.facts, detail, _SHOWN, internal)


def preview_with(body: bytes, decision: Preview, detail: Detail, internal: bytes = b"") -> bytes:
    """The same in answer to the headers of a request whose body was sent in the meantime: it gets the same again."""
    headers = field(2, mutation(decision.set_headers, decision.remove_headers))
    common = REPLACE + headers + field(3, field(1, body)) + CLEAR_ROUTE_CACHE
    return field(1, field(1, common)) + _metadata(decision.facts, detail, _SHOWN, internal)


def mutation_of(headers: Headers, removed: tuple[str, ...]) -> bytes:
    """Changes of one request's headers, which are not those of the next one."""
    return b"".join([_one_header(name, value) for name, value in headers]) + _removal(removed)


def _one_header(name: str, value: str) -> bytes:
    """A header whose value is hardly ever the same, and mostly as long as the one before."""
    raw = value.encode("latin-1")
    before, after = _around_value(name, len(raw))
    return before + raw + after


@lru_cache(maxsize=1024)
def _around_value(name: str, size: int) -> tuple[bytes, bytes]:
    before, _, after = _new_header(name, "\0" * size).partition(b"\0" * size)
    return before, after


@lru_cache(maxsize=64)
def _removal(names: tuple[str, ...]) -> bytes:
    return mutation((), names)


def forward_headers(decision: Forward) -> bytes:
    """Let the request continue, in response to its headers; then send the response headers."""
    common = field(2, mutation(decision.set_headers, decision.remove_headers))
    mode = number_field(1, pb.ProcessingMode.SEND) + number_field(2, pb.ProcessingMode.SEND)
    return field(1, field(1, common)) + _metadata(decision.facts) + field(9, mode)


REPLACE: Final = number_field(1, pb.CommonResponse.CONTINUE_AND_REPLACE)
CLEAR_ROUTE_CACHE: Final = number_field(5, 1)


def reply(decision: Reply, detail: Detail = FULL, internal: bytes = b"") -> bytes:
    """Answer the request here."""
    reason = "answered" if decision.facts.error is None else decision.facts.error[1]
    return _immediate(decision, reason) + _metadata(decision.facts, detail, _ANSWERED, internal)


def instead_of_response(body: bytes, content_type: str, facts: Metadata) -> bytes:
    """Give the client this in place of the server's response. Where Envoy has sent a part of that already, it resets the
    stream: the response does not look complete."""
    reply = Reply(200, body, (("content-type", content_type),))
    return _immediate(reply, "response_cut_off") + _under_namespaces(struct_of(facts))


def another_response(body: bytes, facts: RequestFacts, *, has_body: bool = True) -> bytes:
    """Give the client this JSON in place of the response whose body Envoy holds, or which has none."""
    fields = ((":status", "200"), ("content-type", "application/json"), ("content-length", str(len(body))))
    common = field(2, mutation(fields, _ABOUT_ANOTHER_BODY)) + field(3, field(1, body))
    if has_body:
        return field(4, field(1, common)) + _metadata(facts)
    return field(2, field(1, REPLACE + common)) + _metadata(facts)


def _immediate(decision: Reply, reason: str) -> bytes:
    details = f"mcp_{reason}"
    immediate = (
        field(1, number_field(1, decision.status))
        + field(2, mutation(decision.headers, ()))
        + field(3, decision.body)
        + field(5, details.encode())
    )
    return field(7, immediate)


# -- Pass-through, serialized ----------------------------------------------------------------------------------------------


def _hold(mode: pb.ProcessingMode.BodySendMode) -> bytes:
    override = pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        response_header_mode=pb.ProcessingMode.SKIP,
        request_body_mode=mode,
    )
    return pb.ProcessingResponse(request_headers=pb.HeadersResponse(), mode_override=override).SerializeToString()


HOLD_ALL: Final = _hold(pb.ProcessingMode.BUFFERED)
"""Send the body, which is known to fit."""

HOLD_WHAT_FITS: Final = _hold(pb.ProcessingMode.BUFFERED_PARTIAL)
"""Send the body up to the buffer limit. For a larger one the gateway decides, instead of a 413 from Envoy."""

IN_ANSWER_TO_HEAD: Final = 1
IN_ANSWER_TO_BODY: Final = 3
"""Fields of ``ProcessingResponse``."""


def let_pass(decision: Pass, phase: int, detail: Detail, *, clear_route_cache: bool) -> bytes:
    """Let the request continue unchanged, in response to its headers or its body."""
    common = field(2, mutation(decision.set_headers, decision.remove_headers))
    if clear_route_cache:
        common += number_field(5, 1)
    return field(phase, field(1, common)) + _metadata_of_read(decision.facts, detail, of_mcp=decision.is_mcp)


def refuse_to_pass(decision: Refusal, detail: Detail) -> bytes:
    """Answer the request here."""
    facts = {**decision.facts, "answered": True}
    return _immediate(decision.reply, facts["error_reason"]) + _metadata_of_read(facts, detail, of_mcp=True)


def _metadata_of_read(facts: Metadata, detail: Detail, *, of_mcp: bool) -> bytes:
    """Facts in all namespaces; the mark only for messages that were parsed."""
    value = field(2, field(5, detail.entries(facts)))
    told = b"".join([field(1, key + value) for key in (NAMESPACE_KEY, *detail.more)])
    return field(8, told + _READ_MARK if of_mcp else told)


_READ_MARK = field(1, field(1, MARKER_NAMESPACE.encode()) + field(2, field(5, struct_of({READ_KEY: True}))))


def stream_head(facts: RequestFacts, detail: Detail = FULL, internal: bytes = b"") -> bytes:
    """Begin to answer the request here with an event stream."""
    # Chromium sends a DELETE twice if it could have stored a stream of the same URL that was aborted before.
    fields = (
        (":status", "200"), ("content-type", transport.SSE), ("cache-control", "no-store"), transport.UNBUFFERED,
    )  # fmt: skip
    headers = pb.HeaderMap(headers=[pb.HeaderValue(key=name, raw_value=value.encode()) for name, value in fields])
    streamed = pb.StreamedImmediateResponse(headers_response=pb.HttpHeaders(headers=headers))
    head = pb.ProcessingResponse(streamed_immediate_response=streamed).SerializeToString()
    return head + _metadata(facts, detail, _ANSWERED, internal)


def stream_end(facts: Metadata, detail: Detail = FULL) -> bytes:
    """The end of the stream, and what is known by then."""
    return stream_chunk(b"", end=True) + _under_namespaces(detail.entries(facts), detail)


def stream_chunk(chunk: bytes, *, end: bool = False) -> bytes:
    """A chunk of the stream."""
    body = field(1, chunk) + (number_field(2, 1) if end else b"")
    return field(11, field(2, body))


def whole_response(body: bytes, facts: Metadata | None) -> bytes:
    """All of the response's body, in answer to its head, and what is known with it. Envoy drops what else the server sends."""
    return b"".join((_before_whole(len(body)), body, _known_with(facts)))


@lru_cache(maxsize=4096)
def _before_whole(size: int) -> bytes:
    common = REPLACE + _ANOTHER_BODY + heads(size, 1, 3)
    return heads(len(common) + size, 1, 2) + common


def response_piece(body: bytes, facts: Metadata | None = None) -> bytes:
    """The replacement for a chunk of the response body, and what is known with it."""
    known = _known_with(facts)
    if not body:
        return NOTHING_MORE + known
    return b"".join((heads(len(body), 1, 3, 1, 4), body, known))


def _known_with(facts: Metadata | None) -> bytes:
    if facts is None:
        return b""
    return _ONLY_ANSWERED if facts is ANSWERED else _under_namespaces(struct_of(facts))


NOTHING_MORE: Final = field(4, field(1, field(3, number_field(2, 1))))
"""A chunk of the response body that the client does not get: ``clear_body``."""


def _metadata(facts: RequestFacts, detail: Detail = FULL, mark: bytes = b"", internal: bytes = b"") -> bytes:
    """``dynamic_metadata`` under :data:`NAMESPACE`, and under more namespaces."""
    return _under_namespaces(detail.entries(facts.metadata()) + mark, detail, internal)


def _under_namespaces(entries: bytes, detail: Detail = FULL, internal: bytes = b"") -> bytes:
    if not detail.more:
        return field(8, field(1, NAMESPACE_KEY + field(2, field(5, entries))) + internal)
    value = field(2, field(5, detail.native + entries))
    return field(8, b"".join([field(1, key + value) for key in (NAMESPACE_KEY, *detail.more)]) + internal)


NAMESPACE_KEY = field(1, NAMESPACE.encode())
_ONLY_ANSWERED: Final = _under_namespaces(struct_of(ANSWERED))
"""What is known of nearly all answers."""
_SHOWN: Final = struct_of({"shown": True})
_ANSWERED: Final = struct_of({"answered": True})
EARLY: Final = struct_of({"shown": True, EARLY_FACT: True})
"""The marks of a request that the worker has decided, and that policies have yet to judge: for them, it is like any other."""
FORWARDED: Final = struct_of({"forwarded": True})
"""The mark of a request that policies have judged, and that the worker has decided: its route goes by it."""


def mutation(headers: Headers, remove: tuple[str, ...]) -> bytes:
    """The content of a ``HeaderMutation``."""
    return set_headers(headers) + b"".join([field(2, name.encode()) for name in remove])


def set_headers(headers: Headers) -> bytes:
    """That part of it which sets headers."""
    return b"".join([_set_header(name, value) for name, value in headers])


def _set_header(name: str, value: str) -> bytes:
    return (_known_header if len(value) <= _CACHED_CHARS else _new_header)(name, value)


def _new_header(name: str, value: str) -> bytes:
    header = field(1, name.encode()) + field(3, value.encode("latin-1"))
    return field(1, field(1, header) + number_field(3, _OVERWRITE))


_known_header = lru_cache(maxsize=4096)(_new_header)
_CACHED_CHARS = 64
