"""The answer to a request that goes on to a server, serialized.

Two requests of a kind differ in their bodies and ids alone. So all else is serialized once for each :class:`ForwardPlan`, and
kept: what is longest in the answer is the same in all of them.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.contract import (
    CALL_KEY,
    ONWARD_NAMESPACE,
    ORDINARY_KEY,
    READS_ALL,
    READS_EVENTS,
    READS_HERE,
    READS_KEY,
    RESPONSE_NAMESPACE,
    VETTING_NAMESPACE,
)
from mcp_extproc.extproc.detail import FULL, Detail
from mcp_extproc.extproc.messages import CLEAR_ROUTE_CACHE, NAMESPACE_KEY, REPLACE, mutation, set_headers
from mcp_extproc.gateway.decision import Forward, ForwardPlan
from mcp_extproc.gateway.facts import MAX_EXACT_DIGITS, id_metadata
from mcp_extproc.gateway.relay import awaited
from mcp_extproc.gateway.relay.responses import Expected
from mcp_extproc.gateway.request import Headers, RequestContext, RequestHead
from mcp_extproc.mcp.trace_context import TRACEPARENT
from mcp_extproc.wire import field, head, heads, struct_of, text_entry

_Parts = list[bytes | bytearray]
"""Of a message, in order. Those that differ between requests are :class:`bytearray`, of the length that they have."""


class _Shape(msgspec.Struct, frozen=True):
    """What answers of the same layout have in common: all but bytes whose number is known."""

    plan: ForwardPlan
    detail: Detail
    own_headers: Headers
    mark: bytes
    told: bytes
    """The metadata about the response, as far as it says how that is read."""
    id: int
    """Bytes of its JSON text; 0 for none."""
    value: int
    """Bytes of what it is; -1 for a number."""
    besides: int
    """Bytes of what is known of the response to this request alone."""
    record: int
    """Bytes of the metadata for the record."""
    changed: int
    """Bytes of further changes of headers."""
    goes_on: bool
    """Whether it goes to the server now."""


class _Template(NamedTuple):
    """An answer without what differs between requests of the same shape."""

    common: bytes
    """What is done besides replacing the body, until further changes of headers."""
    metadata: _Parts
    ids: tuple[int, ...]
    """Where in :attr:`metadata` the id's JSON text stands; the same for others."""
    values: tuple[int, ...]
    besides: tuple[int, ...]
    records: tuple[int, ...]


def forward(
    decision: Forward,
    head: RequestHead,
    detail: Detail = FULL,
    mark: bytes = b"",
    record: bytes = b"",
    headers: bytes = b"",
    trace: Headers | None = None,
    traceparent: bytes = b"",
) -> bytes:
    """Replace the whole request and let it go on, in answer to its headers; its body was sent in the meantime. If its response
    has to be read, the metadata tells whoever does that what it has to know.

    Args:
        decision: where to.
        head: of the request.
        detail: how much is written into the metadata.
        mark: one more entry of the metadata.
        record: further metadata, for the record.
        headers: further changes of headers (:func:`~mcp_extproc.extproc.messages.mutation_of`).
        trace: the context of whatever is done for its sake, if that is not the head's.
        traceparent: the same, if there is nothing else to say of it.
    """
    expected = decision.response
    if expected is None:
        return _answer(decision, detail, mark, b"", b"", record, headers)
    told, besides = _READS_ALL if expected.reads_json else _READS_EVENTS, b""
    principal = head.principal.key
    if expected.call.progress_token is not None or decision.undoing or decision.plan.carried:
        if traceparent:
            trace = ((TRACEPARENT, traceparent.decode()),)
        context = RequestContext(head.trace if trace is None else trace, principal, decision.id, decision.carried)
        besides = struct_of(awaited.told_besides(expected, decision.undoing, context))
    else:
        besides = _of_principal(principal) if principal else b""
        if traceparent:
            before, after = _around_trace(len(traceparent))
            besides += before + traceparent + after
        elif trace := head.trace if trace is None else trace:
            besides += text_entry(awaited.TRACE_KEY, awaited.text_of(trace))
    return _answer(decision, detail, mark, told, besides, record, headers)


@lru_cache(maxsize=16)
def _around_trace(size: int) -> tuple[bytes, bytes]:
    """What stands around a ``traceparent`` of that many bytes, where it is known of a response."""
    text = text_entry(awaited.TRACE_KEY, awaited.text_of(((TRACEPARENT, "-" * size),)))
    before, _, after = text.partition(b"-" * size)
    return before, after


@lru_cache(maxsize=4096)
def _of_principal(key: str) -> bytes:
    """What is known of a response to a caller that was proven, if nothing else is."""
    return struct_of({awaited.PRINCIPAL_KEY: key})


def forward_and_read(
    decision: Forward, detail: Detail = FULL, mark: bytes = b"", record: bytes = b"", headers: bytes = b""
) -> bytes:
    """The same where the response comes along on the request's stream."""
    return _answer(decision, detail, mark, _READS_HERE, b"", record, headers)


def ask(decision: Forward, told: str, detail: Detail = FULL, mark: bytes = b"", record: bytes = b"") -> bytes:
    """The same, on the way to whoever asks the user about it.

    Args:
        decision: as policies are shown it.
        told: what that one has to know.
        detail: how much is written into the metadata.
        mark: one more entry of the metadata.
        record: further metadata, for the record.
    """
    metadata = field(1, field(1, VETTING_NAMESPACE.encode()) + field(2, field(5, struct_of({CALL_KEY: told}))))
    return _answer(decision, detail, mark, b"", b"", metadata + record, b"", goes_on=False)


def _answer(
    decision: Forward,
    detail: Detail,
    mark: bytes,
    told: bytes,
    besides: bytes,
    record: bytes,
    headers: bytes,
    *,
    goes_on: bool = True,
) -> bytes:
    id = decision.id
    value = b"" if id is None else _value(id)
    shape = _Shape(
        decision.plan,
        detail,
        decision.own_headers,
        mark,
        told,
        0 if id is None else len(id),
        len(value) if isinstance(value, bytes) else -1,
        len(besides),
        len(record),
        len(headers),
        goes_on,
    )
    template = _known.get(shape)
    if template is None:
        template = _new_template(shape, decision.response)
        # Twice: the plan holds about as much, and is kept with it.
        _known.keep(shape, template, 2048 + 2 * (len(template.common) + sum(map(len, template.metadata))))
    parts = template.metadata.copy()
    if id is not None:
        for at in template.ids:
            parts[at] = id
        known = value if isinstance(value, bytes) else _DOUBLE.pack(value)
        for at in template.values:
            parts[at] = known
    for at in template.besides:
        parts[at] = besides
    for at in template.records:
        parts[at] = record
    return _replacing(decision.body, template.common, headers, parts)


def _replacing(body: bytes, common: bytes, headers: bytes, metadata: _Parts) -> bytes:
    outer, inner = _heads_around(len(common) + len(headers), len(body))
    # Bodies are large, so they are copied only once.
    return b"".join((outer, common, headers, inner, body, *metadata))


@lru_cache(maxsize=4096)
def _heads_around(before: int, body: int) -> tuple[bytes, bytes]:
    # The route is selected again, by the metadata.
    inner = CLEAR_ROUTE_CACHE + heads(body, 1, 3)
    return heads(before + len(inner) + body, 1, 1), inner


# -- Templates ------------------------------------------------------------------------------------------------------------


def _new_template(shape: _Shape, expected: Expected | None) -> _Template:
    plan = shape.plan
    id, besides, record = bytearray(shape.id), bytearray(shape.besides), bytearray(shape.record)
    value = bytearray(8 if shape.value < 0 else shape.value)
    json = _within(1, field(1, awaited.ID_KEY.encode()), *_within(2, *_within(3, id))) if shape.id else []
    entries = _within(2, *_within(5, *_entries(shape, json, value), shape.mark))
    namespaces = [part for key in (NAMESPACE_KEY, *shape.detail.more) for part in _within(1, key, *entries)]
    told = _told(shape, expected, json, besides)
    metadata = _joined(_within(8, *namespaces, *told, record, *_onward(plan)))
    places = (tuple(at for at, part in enumerate(metadata) if part is each) for each in (id, value, besides, record))
    left = () if shape.detail.routes_remove else plan.left
    headers = mutation(plan.headers, (*plan.remove_headers, *left)) + set_headers(shape.own_headers)
    return _Template(REPLACE + head(2, len(headers) + shape.changed) + headers, metadata, *places)


def _entries(shape: _Shape, json: _Parts, value: bytearray) -> _Parts:
    """The facts, the id among them."""
    detail = shape.detail
    entries: _Parts = [detail.native if detail.more else b"", detail.entries(shape.plan.facts.metadata())]
    if detail.includes("id_json"):
        entries += json
    if shape.id and detail.includes("id"):
        kind: _Parts = [_NUMBER, value] if shape.value < 0 else _within(3, value)
        entries += _within(1, field(1, b"id"), *_within(2, *kind))
    if shape.id and shape.goes_on and detail.is_logged and shape.plan.facts.are_ordinary:
        entries.append(detail.entries({ORDINARY_KEY: True}))
    return entries


def _told(shape: _Shape, expected: Expected | None, json: _Parts, besides: bytearray) -> _Parts:
    """What is told of the response to whoever reads it."""
    if shape.told not in (_READS_ALL, _READS_EVENTS):
        return [shape.told]
    assert expected is not None
    known = _known_responses.get(shape.plan)
    if known is None:
        known = struct_of(awaited.told(expected))
        _known_responses.keep(shape.plan, known, 1024 + len(known))
    return _within(
        1, field(1, RESPONSE_NAMESPACE.encode()), *_within(2, *_within(5, known, shape.told, *json, besides))
    )


def _onward(plan: ForwardPlan) -> _Parts:
    """What goes on behind policies."""
    if not plan.onward:
        return []
    return [field(1, field(1, ONWARD_NAMESPACE.encode()) + field(2, field(5, struct_of(dict(plan.onward)))))]


def _within(number: int, *parts: bytes | bytearray) -> _Parts:
    """A length-delimited field."""
    return [head(number, sum(map(len, parts))), *parts]


def _joined(parts: _Parts) -> _Parts:
    """The same with as few parts as there can be."""
    joined: _Parts = [b""]
    for part in parts:
        last = joined[-1]
        if isinstance(last, bytes) and isinstance(part, bytes):
            joined[-1] = last + part
        else:
            joined.append(part)
    return joined


def _value(id: bytes) -> bytes | float:
    """What an id is, of those that :func:`id_metadata` says: a number, or a text."""
    if id[:1] == b'"':
        return id[1:-1] if b"\\" not in id else str(id_metadata(id)["id"]).encode()
    return float(int(id)) if len(id) < MAX_EXACT_DIGITS else id


_known: Bounded[_Shape, _Template] = Bounded(8192, 32 * MIB)
_known_responses: Bounded[ForwardPlan, bytes] = Bounded(8192, 32 * MIB)
"""What the responses to all requests of a plan have in common: sealed once, and read once by whoever reads the responses."""

_DOUBLE: Final = struct.Struct("<d")
_NUMBER: Final = b"\x11"
_READS_ALL: Final = struct_of({READS_KEY: READS_ALL})
_READS_EVENTS: Final = struct_of({READS_KEY: READS_EVENTS})
_READS_HERE: Final = field(
    1, field(1, RESPONSE_NAMESPACE.encode()) + field(2, field(5, struct_of({READS_KEY: READS_HERE})))
)
