"""Spans and log records as OTLP has them.

Of opentelemetry-sdk only the resource is used here. Its encoder of spans takes 60 µs for each, as much as all the
rest of the collector for a request, and its tracer would choose ids that the server has been told of already. Tests read what
is written here with the official messages.

Source: opentelemetry-proto 1.x: trace/v1/trace.proto, logs/v1/logs.proto, common/v1/common.proto.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from mcp_extproc import __version__
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry.spans import Kind, Pairs, Shared, Span
from mcp_extproc.wire import field, fixed_field, head, number_field, varint

SCOPE: Final = "mcp_extproc"

_KINDS: Final = {Kind.SERVER: number_field(6, 2), Kind.CLIENT: number_field(6, 3)}
_ERROR: Final = field(15, number_field(3, 2))
"""A status."""
_SCOPE: Final = field(1, field(1, SCOPE.encode()) + field(2, __version__.encode()))
_INFO: Final = number_field(2, 9) + field(3, b"INFO")
"""Severity, as a number and as a text."""

# Flags (field 16 of a span, 6 of a link, 8 of a log record) are a `fixed32`: those of the trace, whether it is known where
# the parent is (0x100), and whether that is somewhere else (0x200).
_PARENT_HERE: Final = b"\x85\x01\x00\x01\x00\x00"
_PARENT_ELSEWHERE: Final = b"\x85\x01\x00\x03\x00\x00"
_LINK_ELSEWHERE: Final = b"\x35\x00\x03\x00\x00"
_LOG_FLAGS: Final = {False: b"\x45\x00\x00\x00\x00", True: b"\x45\x01\x00\x00\x00"}

_DOUBLE: Final = struct.Struct("<d")

_OF_ONE_REQUEST: Final = frozenset({
    names.REQUEST_ID, names.URI, "time", "duration", "request_id", "uri", "arguments",
})  # fmt: skip
"""Attributes whose values are hardly ever the same twice."""


_MAX_KEPT: Final = 128
"""Characters of a value that is written but once. Clients may send thousands of longer ones."""


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """The resource, with the version of the gateway and of the SDK."""
    return Resource.create({"service.version": __version__, **attributes})


# -- Requests -------------------------------------------------------------------------------------------------------------


def request_of(resource: Resource, items: Sequence[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest`` of spans, or an ``ExportLogsServiceRequest`` of log records: their fields have the same
    numbers.

    Args:
        resource: whose they are.
        items: each made by :func:`item`, or several of them together.
    """
    whose = field(1, b"".join([_attribute(1, key, value) for key, value in resource.attributes.items()]))
    # They are many, so they are copied only once.
    inner = head(2, size := len(_SCOPE) + sum(map(len, items)))
    return b"".join((head(1, len(whose) + len(inner) + size), whose, inner, _SCOPE, *items))


def item(record: bytes) -> bytes:
    """A span, or a log record, as it stands in a request."""
    return field(2, record)


# -- Spans ----------------------------------------------------------------------------------------------------------------


def span(found: Span) -> bytes:
    """A ``Span``."""
    context = found.context
    is_remote = found.parent is not None and found.parent_is_remote
    flags = _PARENT_ELSEWHERE if is_remote else _PARENT_HERE
    trace, own = bytes.fromhex(context.trace), bytes.fromhex(context.span)
    if found.parent is None:
        ids = _BEGINNING.pack(_TRACE, trace, _ID, own, _START, found.start, _END, found.end, flags)
    else:
        parent = bytes.fromhex(found.parent)
        ids = _CHILD.pack(_TRACE, trace, _ID, own, _PARENT, parent, _START, found.start, _END, found.end, flags)
    state = field(3, context.state.encode()) if context.state else b""
    link = b"" if found.link is None else _link(found.link)
    return b"".join((ids, shared(found.shared), who(found.who), _of_request(found.of_request), state, link))


_BEGINNING: Final = struct.Struct("<2s16s2s8sBQBQ6s")
_CHILD: Final = struct.Struct("<2s16s2s8s2s8sBQBQ6s")
"""What has a length that is known: ids, the parent's if there is one, times and flags."""
_TRACE: Final = b"\x0a\x10"
_ID: Final = b"\x12\x08"
_PARENT: Final = b"\x22\x08"
_START: Final = 7 << 3 | 1
_END: Final = 8 << 3 | 1
"""In front of each."""


@lru_cache(maxsize=8192)
def shared(found: Shared) -> bytes:
    """What spans have in common, by the conventions failed wherever there is an ``error.type``."""
    attributes = dict(found.attributes)
    text = field(5, found.name.encode()) + _KINDS[found.kind] + _attributes(9, attributes)
    return text + (_ERROR if names.ERROR_TYPE in attributes else b"")


@lru_cache(maxsize=8192)
def who(found: Pairs) -> bytes:
    """Attributes that say for whom a span is, and from where."""
    return b"".join([_new_attribute(9, name, value) for name, value in found])


@lru_cache(maxsize=16)
def _of_request(found: Pairs) -> bytes:
    """Both spans of a request have them, one after the other."""
    return b"".join([_new_attribute(9, name, value) for name, value in found])


def of_both(
    ids: bytes, start: int, end: int, begin: int, done: int, server: bytes, client: bytes, id: bytes
) -> tuple[bytes, ...]:
    """Both spans of a request, as they stand in a request of OTLP, in pieces: as :func:`span` makes them, of what is known.

    Args:
        ids: of the trace, of the request's span, of that towards the server, and of the parent if there is one.
        start, end: of the request's, nanoseconds since the epoch.
        begin, done: of that towards the server.
        server, client: what :func:`shared` and :func:`who` make of each.
        id: of the request, of JSON-RPC; empty if it has none.
    """
    trace, own, onward, parent = ids[:16], ids[16:24], ids[24:32], ids[32:]
    if parent:
        first = _CHILD.pack(
            _TRACE, trace, _ID, own, _PARENT, parent, _START, start, _END, end, _PARENT_ELSEWHERE
        )  # fmt: skip
    else:
        first = _BEGINNING.pack(_TRACE, trace, _ID, own, _START, start, _END, end, _PARENT_HERE)
    second = _CHILD.pack(_TRACE, trace, _ID, onward, _PARENT, own, _START, begin, _END, done, _PARENT_HERE)
    if not id:
        return head(2, len(first) + len(server)), first, server, head(2, _CHILD.size + len(client)), second, client
    before = _before_request_id(size := len(id))
    size += len(before)
    return (
        head(2, len(first) + len(server) + size), first, server, before, id,
        head(2, _CHILD.size + len(client) + size), second, client, before, id,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _before_request_id(size: int) -> bytes:
    return _new_attribute(9, names.REQUEST_ID, "-" * size)[:-size]


def _link(context: SpanContext) -> bytes:
    state = field(3, context.state.encode()) if context.state else b""
    ids = field(1, bytes.fromhex(context.trace)) + field(2, bytes.fromhex(context.span))
    return field(13, ids + state + _LINK_ELSEWHERE)


# -- Log records ----------------------------------------------------------------------------------------------------------


def record(name: str, started: int, attributes: Mapping[str, Any], context: SpanContext | None) -> bytes:
    """A ``LogRecord`` about a request.

    Args:
        name: of the event.
        started: nanoseconds since the epoch.
        attributes: all that it says.
        context: of the request's span.
    """
    within = b""
    if context is not None:
        ids = field(9, bytes.fromhex(context.trace)) + field(10, bytes.fromhex(context.span))
        within = _LOG_FLAGS[context.sampled] + ids
    times = fixed_field(1, started) + fixed_field(11, time.time_ns())
    return times + _INFO + _attributes(6, attributes) + within + field(12, name.encode())


# -- Attributes -----------------------------------------------------------------------------------------------------------


def _attributes(number: int, attributes: Mapping[str, Any]) -> bytes:
    return b"".join([
        (_new_attribute if name in _OF_ONE_REQUEST or _is_long(value) else _attribute)(number, name, value)
        for name, value in attributes.items()
    ])  # fmt: skip


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > _MAX_KEPT


def _new_attribute(number: int, name: str, value: Any) -> bytes:
    return field(number, field(1, name.encode()) + field(2, _value(value)))


_attribute = lru_cache(maxsize=8192, typed=True)(_new_attribute)
"""Most are the same as for the request before."""


def _value(value: Any) -> bytes:
    """An ``AnyValue``; what is neither a number nor a boolean is a text."""
    if isinstance(value, bool):
        return number_field(2, value)
    if isinstance(value, int):
        return b"\x18" + varint(value & _MASK)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    return field(1, str(value).encode(errors="replace"))  # ids may have halves of characters, by escapes of JSON


_MASK: Final = (1 << 64) - 1
"""Negative numbers are written as two's complements."""
