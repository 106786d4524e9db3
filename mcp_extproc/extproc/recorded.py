"""What a worker has Envoy put into the record of a request, for the collector that makes spans, metrics and the audit of it.

Only a worker knows whose trace a request belongs to, as that may stand in its ``params._meta``; which rule decided; whether
a name is one that its server lists; and what arguments were. Where nothing is collected there is no :class:`Recorder`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.telemetry import Traces
from mcp_extproc.contract import (
    AGE_KEY,
    ARGUMENTS_KEY,
    LISTED_KEY,
    PASSED_ON_KEY,
    RULE_KEY,
    SAMPLED_KEY,
    SPANS_KEY,
    STATE_KEY,
    TELEMETRY_NAMESPACE,
)
from mcp_extproc.gateway import audited
from mcp_extproc.gateway.decision import Forward
from mcp_extproc.gateway.effects import NoteExpiry, RecordEffect
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.request import Headers, RequestHead
from mcp_extproc.mcp import envelope, jsontext
from mcp_extproc.mcp.jsontext import Members, NotJson
from mcp_extproc.mcp.trace_context import (
    BAGGAGE,
    MEMBERS,
    TRACEPARENT,
    TRACESTATE,
    RequestSpans,
    SpanContext,
    baggage_of,
    begin,
    context_of,
    is_kept,
    origin,
    with_context,
)
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.wire import field, struct_of, text_entry

NewId = Callable[[int], str]
"""A random id of so many bytes, in hexadecimal digits."""

_MAX_NAMES: Final = 100_000
_MAX_NAMES_BYTES: Final = 64 * MIB
"""Of names that servers list."""
_NAME_BYTES: Final = 512

_KINDS: Final = {"tool": "tools", "prompt": "prompts"}


class Begun(msgspec.Struct, frozen=True):
    """A request whose body is there.

    Attributes:
        head: the request's; where its spans are kept, its own is the trace context of whatever is done for its sake.
        spans: its spans, where there are traces.
        passed: the context that the server gets where they are not kept, if that is not what the header says.
        baggage: of its ``_meta``.
        arguments: what the audit has of them.
    """

    head: RequestHead
    spans: RequestSpans | None = None
    passed: SpanContext | None = None
    baggage: str | None = None
    arguments: str | None = None


class Passed(msgspec.Struct, frozen=True):
    """How a request goes on to its server.

    Attributes:
        decision: the request.
        headers: further ones that are set.
        removed: and those that have to go.
        spans: of the request, with that towards the server.
    """

    decision: Forward
    headers: Headers = ()
    removed: tuple[str, ...] = ()
    spans: RequestSpans | None = None


class Recorder:
    """Of a worker.

    Args:
        config: what is collected.
        secret: of sessions; hashes of arguments have a key that is made of it.
        new_id: of traces and spans.
        observer: is told of what no record has.
    """

    def __init__(
        self,
        config: GatewayConfig,
        secret: str,
        new_id: NewId = secrets.token_hex,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._session_seconds = config.session.ttl
        self._observer = observer
        self._traces = config.telemetry.traces
        self._arguments = "none" if config.audit is None else config.audit.arguments
        self._key = audited.key_of(secret.encode())
        self._listed: Bounded[tuple[str, str, str], bool] = Bounded(_MAX_NAMES, _MAX_NAMES_BYTES)
        self._new_id = new_id

    def apply(self, effect: RecordEffect) -> None:
        """Remember what servers list: anybody's list will do, as the names are for records. Tell of a session's end."""
        if isinstance(effect, NoteExpiry):
            self._observer.expired(effect.session, effect.version, self._session_seconds)
            return
        for server, name in effect.names:
            self._listed.keep((effect.kind, server, name), value=True, size=_NAME_BYTES + 4 * len(name))

    def begin(self, head: RequestHead, body: bytes) -> Begun:
        """What is known of a request by its body. The messages of a batch come one by one, as requests of their own."""
        if envelope.is_batch(body):
            return Begun(head)
        params = self._params(body)
        arguments = self._audited(params)
        if self._traces is None:
            return Begun(head, arguments=arguments)
        meta = _meta(params)
        from_meta, spans = self._begin(head, meta, self._traces)
        baggage = baggage_of(meta)
        if spans.own.sampled:
            return Begun(head.within(spans.own), spans, baggage=baggage, arguments=arguments)
        return Begun(head, spans, from_meta, baggage, arguments)

    def _params(self, body: bytes) -> Members:
        wanted = self._arguments != "none" or (self._traces is not None and any(name in body for name in _IN_META))
        if not wanted:
            return {}
        try:
            return jsontext.object_in(jsontext.split(body), "params") or {}
        except (NotJson, TypeError):
            return {}  # it is refused

    def _audited(self, params: Members) -> str | None:
        arguments = params.get("arguments")
        match self._arguments:
            case "hash" if arguments is not None:
                return audited.hashed(self._key, bytes(arguments))
            case "redacted" if arguments is not None:
                return audited.redacted(bytes(arguments))
        return None

    def _begin(
        self, head: RequestHead, meta: Mapping[str, str], traces: Traces
    ) -> tuple[SpanContext | None, RequestSpans]:
        found = origin(head.headers, meta)
        is_parents = traces.parent_based is not False
        own = begin(found, self._new_id(16), self._new_id(8), _ratio(traces), parent_based=is_parents)
        parent = "" if found.parent is None else found.parent.span
        return found.parent if TRACEPARENT in meta else None, RequestSpans(own, parent, link=found.link)

    def again(self, head: RequestHead) -> RequestHead:
        """A request that Envoy sends once more, with the headers that it went on with."""
        traces, found = self._traces, context_of(head.headers)
        if traces is None or found is None:
            return head
        kept = found.sampled if traces.parent_based is not False else is_kept(found.trace, _ratio(traces))
        return replace(head, span=found) if kept else head

    def passed(self, begun: Begun, decision: Forward) -> Passed:
        """A request on its way to its server, with its trace context in header and ``_meta``."""
        spans = begun.spans
        if spans is None:
            return Passed(decision)
        if not spans.own.sampled:
            headers, removed = ((), ()) if begun.passed is None else _as_headers(begun.passed, begun.baggage)
            return Passed(decision, headers, removed, spans)
        spans = replace(spans, onward=self._new_id(8))
        context = spans.own.child(spans.onward)
        headers, removed = _as_headers(context, begun.baggage)
        return Passed(_with_body(decision, with_context(decision.body, context)), headers, removed, spans)

    def metadata(self, facts: RequestFacts, begun: Begun | None, spans: RequestSpans | None = None) -> bytes:
        """What is put into the record, as a field of ``dynamic_metadata``; nothing where there is nothing to say.

        Args:
            facts: of the request.
            begun: what is known by its body, if there was one.
            spans: its spans, if they are not those that it began with.
        """
        found: dict[str, str | bool | float] = {}
        if facts.rule is not None:
            found[RULE_KEY] = facts.rule
        if facts.passed_on is not None:
            found[PASSED_ON_KEY] = facts.passed_on
        if facts.session_seconds is not None:
            found[AGE_KEY] = facts.session_seconds
        if facts.named is not None and facts.server is not None:
            kind, name = facts.named
            if (_KINDS[kind], facts.server, name) in self._listed:
                found[LISTED_KEY] = True
        more = b""
        if begun is not None:
            more = _of_spans(spans or begun.spans)
            if begun.arguments is not None:
                more += text_entry(ARGUMENTS_KEY, begun.arguments)
        entries = struct_of(found) + more
        return field(1, _NAMESPACE_KEY + field(2, field(5, entries))) if entries else b""


_NAMESPACE_KEY: Final = field(1, TELEMETRY_NAMESPACE.encode())
_IN_META: Final = tuple(name.encode() for name in (TRACEPARENT, BAGGAGE))
_NOT_SAMPLED: Final = struct_of({SAMPLED_KEY: False})


def _ratio(traces: Traces) -> float:
    return 1.0 if traces.sample is None else traces.sample


def _of_spans(spans: RequestSpans | None) -> bytes:
    if spans is None:
        return b""
    if not spans.own.sampled:
        return _NOT_SAMPLED
    state = spans.own.state
    return text_entry(SPANS_KEY, spans.text) + (text_entry(STATE_KEY, state) if state else b"")


def _meta(params: Members) -> Mapping[str, str]:
    """The texts of ``_meta`` that say whose trace it is."""
    try:
        meta = jsontext.object_in(params, "_meta") or {}
    except NotJson:
        return {}
    found = ((name, jsontext.text_in(meta, name)) for name in MEMBERS)
    return {name: text for name, text in found if text is not None}


def _as_headers(context: SpanContext, baggage: str | None) -> tuple[Headers, tuple[str, ...]]:
    found = [(TRACEPARENT, context.traceparent)]
    if context.state:
        found.append((TRACESTATE, context.state))
    if baggage is not None:
        found.append((BAGGAGE, baggage))
    return tuple(found), () if context.state else (TRACESTATE,)


def _with_body(decision: Forward, body: bytes) -> Forward:
    own = tuple((name, str(len(body)) if name == "content-length" else value) for name, value in decision.own_headers)
    return msgspec.structs.replace(decision, body=body, own_headers=own)
