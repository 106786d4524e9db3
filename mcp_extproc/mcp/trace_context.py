"""Trace context: whose trace a request belongs to, as headers and ``params._meta`` say it.

Source: W3C Trace Context (level 1), sections 3.2 and 3.3; W3C Baggage; 2026-07-28 basic/index, which puts ``traceparent``,
``tracestate`` and ``baggage`` into ``_meta`` without a prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from mcp_extproc.mcp.jsontext import DuplicateMember, NotJson, object_in, replace, split

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
BAGGAGE: Final = "baggage"
MEMBERS: Final = (TRACEPARENT, TRACESTATE, BAGGAGE)
"""The only members of ``_meta`` that are written; they are names of headers, too."""

MAX_STATE_BYTES: Final = 512
"""Of ``tracestate``; what is longer is dropped whole (section 3.3.1.5 has it as what has to be passed on at least)."""

MAX_BAGGAGE_BYTES: Final = 8192
"""Of ``baggage`` (W3C Baggage, section 3.3.2)."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_MAX_MEMBERS = 32
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_PRINTABLE = re.compile(r"[\x20-\x7e\t]*")
_SPANS = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01]),([0-9a-f]{16})?,([0-9a-f]{16})?,([0-9a-f-]*)")
_THREE_IDS = re.compile(r"([0-9a-f]{32})([0-9a-f]{16})([0-9a-f]{16})")
_SAMPLED = 1
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_RATIO_BITS = 56


class SpanContext(msgspec.Struct, frozen=True):
    """A span that is somewhere else, or will be.

    Attributes:
        trace: 32 hexadecimal digits.
        span: 16 hexadecimal digits.
        sampled: whether it is kept.
        state: what vendors add; passed on as it came.
    """

    trace: str
    span: str
    sampled: bool
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header's value, and the member's.

        >>> SpanContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True).traceparent
        '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        """
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """All of it."""
        parent = (TRACEPARENT, self.traceparent)
        return (parent, (TRACESTATE, self.state)) if self.state else (parent,)

    def child(self, span: str) -> SpanContext:
        """A span of the same trace."""
        return SpanContext(self.trace, span, self.sampled, self.state)


class Origin(msgspec.Struct, frozen=True):
    """Where a request comes from.

    Attributes:
        parent: whose child its span is.
        link: another span that led to it.
    """

    parent: SpanContext | None = None
    link: SpanContext | None = None


NO_ORIGIN: Final = Origin()


def context_of(values: Mapping[str, object]) -> SpanContext | None:
    """What headers, or the members of ``_meta``, say; ``None`` where that is nothing, or nothing valid (section 3.2.2: an
    invalid ``traceparent`` is as none, and ``tracestate`` goes with it).

    >>> context_of({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}).sampled
    False
    """
    text = values.get(TRACEPARENT)
    match = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    # Later versions may append to it; version 00 has nothing more (section 3.2.2.2).
    if version == "ff" or (version == "00" and more) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return SpanContext(trace, span, bool(int(flags, 16) & _SAMPLED), _state(values.get(TRACESTATE)))


def origin(headers: Mapping[str, object], meta: Mapping[str, object]) -> Origin:
    """The parent is what ``_meta`` says, as that is closest to who made the call. The header's is a link, where it is another
    one, and the parent where there is no other."""
    above, outside = context_of(meta), context_of(headers)
    if above is None:
        return Origin(outside)
    return Origin(above, outside if outside is not None and outside != above else None)


def baggage_of(values: Mapping[str, str]) -> str | None:
    """``baggage``, where it may be sent as a header.

    >>> baggage_of({"baggage": "tenant=acme"}), baggage_of({"baggage": "a=\\n"})
    ('tenant=acme', None)
    """
    text = values.get(BAGGAGE)
    if text is None or len(text) > MAX_BAGGAGE_BYTES or not _PRINTABLE.fullmatch(text):
        return None
    return text.strip() or None


def with_context(body: bytes, context: SpanContext) -> bytes:
    """A message whose ``params._meta`` says whose trace it belongs to. All other bytes stay as they are; a message without
    ``params``, or with a member twice, stays so whole.

    >>> with_context(b'{"params": {"a": 1}}', SpanContext("a" * 32, "b" * 16, sampled=True))
    b'{"params": {"_meta":{"traceparent":"00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"},"a": 1}}'
    """
    if (at := _first_member(body)) > 0:
        state = b'","tracestate":"' + _escaped(context.state) if context.state else b""
        return b"".join((
            body[:at], b'"_meta":{"traceparent":"', context.traceparent.encode(), state,
            b'"}' if _EMPTY.match(body, at) else b'"},', body[at:],
        ))  # fmt: skip
    try:
        message = split(body)
        params = object_in(message, "params")
        if params is None:
            return body
        meta = object_in(params, "_meta")
        if meta is None and "_meta" in params:
            return body
        text = bytes(params["_meta"]) if meta is not None else b"{}"
        for name, value in ((TRACEPARENT, context.traceparent), (TRACESTATE, context.state)):
            if value or name in (meta or {}):
                text = _with_member(text, name, b'"%b"' % _escaped(value))
        return replace(body, message, "params", _with_member(bytes(message["params"]), "_meta", text))
    except (DuplicateMember, NotJson, TypeError):
        return body


def with_traceparent(body: bytes, traceparent: bytes) -> bytes:
    """The same of a context that has no state, by its ``traceparent``."""
    before, _, members = body.partition(_PARAMS_START)
    # As `_first_member` has it, of a message as most write it: in fewer steps.
    if (
        members[:1] == b'"' and before.rfind(b"{") == 0 and body.count(_PARAMS_NAME) == 1
        and _META not in body and b"\\u" not in body
    ):  # fmt: skip
        return b'%b"params":{"_meta":{"traceparent":"%b"},%b' % (before, traceparent, members)
    context = context_of({TRACEPARENT: traceparent.decode()})
    return body if context is None else with_context(body, context)


def _first_member(body: bytes) -> int:
    """Where the members of ``params`` begin, if nothing has to be taken apart to know that: nothing in front of it is an
    object, and none of its members is ``_meta``. Else 0."""
    if body[:1] != b"{" or _META in body or b"\\u" in body:
        return 0
    at, inner = body.find(_PARAMS_NAME), body.find(b"{", 1)
    if at < 0 or inner < 0 or body.find(_PARAMS_NAME, at + 1) > 0:
        return 0
    if inner == at + len(_PARAMS_NAME) + 1 and body[inner - 1] == _COLON:  # as most write it
        return inner + 1
    beginning = _PARAMS.search(body, 0, inner + 1)
    return 0 if beginning is None else beginning.end()


_COLON: Final = ord(":")
_META: Final = b"_meta"
_PARAMS_NAME: Final = b'"params"'
_PARAMS_START: Final = b'"params":{'
_PARAMS: Final = re.compile(rb'"params"[ \t\r\n]*:[ \t\r\n]*\{')
_EMPTY: Final = re.compile(rb"[ \t\r\n]*\}")


def _with_member(text: bytes, name: str, value: bytes) -> bytes:
    """An object with a member in place of the one of that name, or behind all others."""
    members = split(text)
    if name in members:
        return replace(text, members, name, value)
    before = text.rstrip()[:-1].rstrip()
    return before + (b"," if members else b"") + b'"%b":%b}' % (name.encode(), value)


def _escaped(text: str) -> bytes:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").encode()


def is_kept(trace: str, ratio: float) -> bool:
    """Whether a trace that nobody has decided about is sampled: its id decides, so everybody decides alike.

    >>> is_kept("f" * 32, 0.5), is_kept("0" * 31 + "1", 0.5), is_kept("0" * 31 + "1", 0)
    (False, True, False)
    """
    return ratio >= 1 or int(trace[-_RATIO_BITS // 4 :], 16) < round(ratio * (1 << _RATIO_BITS))


def begin(found: Origin, trace: str, span: str, ratio: float, *, parent_based: bool) -> SpanContext:
    """The span of a request that comes in.

    Args:
        found: where it comes from.
        trace: a new id, for a trace that begins here.
        span: a new id.
        ratio: part of the traces that is kept.
        parent_based: whether the parent's decision counts.
    """
    parent = found.parent
    if parent is None:
        return SpanContext(trace, span, is_kept(trace, ratio))
    sampled = parent.sampled if parent_based else is_kept(parent.trace, ratio)
    return SpanContext(parent.trace, span, sampled, parent.state)


class RequestSpans(msgspec.Struct, frozen=True):
    """The spans of one request, as whoever chose their ids tells whoever makes them.

    Attributes:
        own: of the request, towards the client.
        parent: id of its parent; empty at a trace's beginning.
        onward: id of the span towards the server, if one is asked; empty where none can be.
        link: another span that led to it.
    """

    own: SpanContext
    parent: str = ""
    onward: str = ""
    link: SpanContext | None = None

    @property
    def text(self) -> str:
        """All of it but the state: its parts in this order, separated by commas. Where a trace begins here, and is kept, ids
        alone: its own, and those of both spans.

        >>> RequestSpans(SpanContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)).text
        '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01,,,'
        """
        if self.own.sampled and self.onward and not self.parent and self.link is None:
            return f"{self.own.trace}{self.own.span}{self.onward}"
        link = "" if self.link is None else self.link.traceparent
        return f"{self.own.traceparent},{self.parent},{self.onward},{link}"


def spans_of(text: str, state: str = "") -> RequestSpans | None:
    """What :attr:`RequestSpans.text` says; ``None`` if it says nothing."""
    if (three := _THREE_IDS.fullmatch(text)) is not None:
        trace, span, onward = three.groups()
        return RequestSpans(SpanContext(trace, span, sampled=True, state=_state(state) if state else ""), "", onward)
    found = _SPANS.fullmatch(text)
    if found is None:
        return None
    trace, span, flags, parent, onward, link = found.groups("")
    own = SpanContext(trace, span, flags == "01", _state(state) if state else "")
    return RequestSpans(own, parent, onward, context_of({TRACEPARENT: link}) if link else None)


def _state(value: object) -> str:
    """What can't be read is dropped whole (sections 3.3.1 and 4.3): whoever gets it from us would, and with a complaint."""
    if not isinstance(value, str) or len(value) > MAX_STATE_BYTES:
        return ""
    found = [_MEMBER.fullmatch(member) for part in value.split(",") if (member := part.strip(" \t"))]
    keys = {match[1] for match in found if match is not None}
    return value.strip(" \t") if len(keys) == len(found) <= _MAX_MEMBERS else ""
