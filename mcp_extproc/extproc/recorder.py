"""What a worker has Envoy put into the record of a request, for the collector that makes spans, metrics and the audit of it.

Only a worker knows whose trace a request belongs to, as that may stand in its ``params._meta``; which rule decided; whether
a name is one that its server lists; and what arguments were. Where nothing is collected there is no :class:`Recorder`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.telemetry import Traces
from mcp_extproc.contract import RECORD_KEY, SAMPLED_KEY, TELEMETRY_NAMESPACE
from mcp_extproc.extproc.messages import mutation_of
from mcp_extproc.gateway import audited
from mcp_extproc.gateway.decision import Forward
from mcp_extproc.gateway.effects import NoteExpiry, RecordEffect
from mcp_extproc.gateway.facts import NOTHING, Metadata, RequestFacts
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import envelope, jsontext
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
    with_traceparent,
)
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.wire import field, struct_of, text_entry

NewId = Callable[[int], str]
"""A random id of so many bytes, in hexadecimal digits."""

_MAX_NAMES: Final = 100_000
_MAX_NAMES_BYTES: Final = 64 * MIB
"""Of names that servers list."""
_NAME_BYTES: Final = 512

_MAX_PREFIXES: Final = 8192
_MAX_PREFIXES_BYTES: Final = 16 * MIB

_identity: Final = id

_KINDS: Final = {"tool": "tools", "prompt": "prompts"}


class Begun(msgspec.Struct, frozen=True):
    """A request whose body is there.

    Attributes:
        head: the request's.
        arguments: what the audit has of them.
        ids: of its spans, where the trace begins here and is kept, as nearly all do where no client has one of its own: digits
            of the trace, of its own and of the one towards the server. They are what is told of them.
        others: its spans, where there are traces, and it is any other.
        passed: the context that the server gets where they are not kept, if that is not what the header says.
        baggage: of its ``_meta``.
    """

    head: RequestHead
    arguments: str | None = None
    ids: bytes = b""
    others: RequestSpans | None = None
    passed: SpanContext | None = None
    baggage: str | None = None

    @property
    def spans(self) -> RequestSpans | None:
        """Its spans, where there are traces; that towards a server is there only if it is sent to one."""
        if not self.ids:
            return self.others
        digits = self.ids.decode()
        return RequestSpans(SpanContext(digits[:32], digits[32:48], sampled=True), "", digits[48:])

    @property
    def span(self) -> SpanContext | None:
        """Its own, where they are kept: the trace context of whatever is done for its sake."""
        spans = self.spans
        return None if spans is None or not spans.own.sampled else spans.own

    @property
    def traceparent(self) -> bytes:
        """Of its own, where there are :attr:`ids`."""
        ids = self.ids
        return b"00-" + ids[:32] + b"-" + ids[32:48] + b"-01" if ids else b""

    @property
    def traceparent_onward(self) -> bytes:
        """Of the one towards the server, likewise."""
        ids = self.ids
        return b"00-" + ids[:32] + b"-" + ids[48:] + b"-01"


_TRACEPARENT_BYTES: Final = len("00---01") + 32 + 16


class _Kept(NamedTuple):
    """What is noted of the facts of a plan.

    Attributes:
        facts: of the plan.
        learned: how often names had been learned.
        shared: see :func:`.worker_note.shared`.
        size: bytes of that, and of what is there in any note.
        has_no_more: whether there is nothing that most requests have not (:class:`.worker_note.More`).
    """

    facts: RequestFacts
    learned: int
    shared: bytes
    size: int
    has_no_more: bool


class Passed(msgspec.Struct, frozen=True):
    """How a request goes on to its server.

    Attributes:
        decision: the request.
        headers: changes of headers, as :func:`.messages.mutation_of` writes them.
    """

    decision: Forward
    headers: bytes = b""


class Recorder:
    """Of a worker.

    Args:
        config: what is collected.
        secret: of sessions; hashes of arguments have a key that is made of it.
        new_id: of traces and spans; random ones by default.
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
        self._ratio = 1.0 if self._traces is None or self._traces.sample is None else self._traces.sample
        self._audited = _audited(config, secret)
        self._reads_bodies = self._traces is not None or self._audited is not None
        self._listed: Bounded[tuple[str, str, str], bool] = Bounded(_MAX_NAMES, _MAX_NAMES_BYTES)
        self._new_id = new_id
        self._ids: list[bytes] = []
        """Of spans to come: random bytes are asked for many at once."""
        self._learned = 0
        """How often names were learned."""
        self._prefixes: Bounded[int, _Kept] = Bounded(_MAX_PREFIXES, _MAX_PREFIXES_BYTES)
        """What is noted of the facts of a plan, which all its requests share, by their identity."""

    def apply(self, effect: RecordEffect) -> None:
        """Remember what servers list: anybody's list will do, as the names are for records. Tell of a session's end."""
        if isinstance(effect, NoteExpiry):
            self._observer.expired(effect.session, effect.version, self._session_seconds)
            return
        self._learned += 1
        for server, name in effect.names:
            self._listed.keep((effect.kind, server, name), value=True, size=_NAME_BYTES + 4 * len(name))

    def begin(self, head: RequestHead, body: bytes) -> Begun:
        """What is known of a request by its body. The messages of a batch come one by one, as requests of their own."""
        if not self._reads_bodies or (body[:1] != b"{" and envelope.is_batch(body)):
            return Begun(head)
        audits, params, arguments = self._audited, _NO_PARAMS, None
        if audits is not None or _TRACEPARENT in body or _BAGGAGE in body:
            params = _params(body)
            if audits is not None and params.arguments is not _UNSET:
                arguments = audits(params.arguments)
        if self._traces is None:
            return Begun(head, arguments)
        ids = (self._ids or self._more_ids()).pop()
        headers = head.headers
        if params.meta is not _UNSET or TRACEPARENT in headers or TRACESTATE in headers:
            return self._below(head, params, ids.decode(), arguments, self._traces)
        if self._ratio >= 1 or is_kept(ids[:32].decode(), self._ratio):
            return Begun(head, arguments, ids)
        digits = ids.decode()
        left_out = SpanContext(digits[:32], digits[32:48], sampled=False)
        return Begun(head, arguments, b"", RequestSpans(left_out, "", digits[48:]))

    def _more_ids(self) -> list[bytes]:
        self._ids += _IDS.findall(self._new_id(_RANDOM_BYTES).encode())
        return self._ids

    def _below(self, head: RequestHead, params: _Params, digits: str, arguments: str | None, traces: Traces) -> Begun:
        """A request that somebody else's span may have led to."""
        trace, span, onward = digits[:32], digits[32:48], digits[48:]
        meta = _meta(params)
        found = origin(head.headers, meta)
        own = begin(found, trace, span, self._ratio, parent_based=traces.parent_based is not False)
        spans = RequestSpans(own, "" if found.parent is None else found.parent.span, onward, found.link)
        passed = found.parent if TRACEPARENT in meta and not own.sampled else None
        return Begun(head, arguments, b"", spans, passed, baggage_of(meta))

    def again(self, head: RequestHead) -> RequestHead:
        """A request that Envoy sends once more, with the headers that it went on with."""
        traces, found = self._traces, context_of(head.headers)
        if traces is None or found is None:
            return head
        kept = found.sampled if traces.parent_based is not False else is_kept(found.trace, self._ratio)
        return replace(head, span=found) if kept else head

    def passed(self, begun: Begun, decision: Forward) -> Passed:
        """A request on its way to its server, with its trace context in header and ``_meta``."""
        if begun.ids:
            traceparent = begun.traceparent_onward
            body = with_traceparent(decision.body, traceparent)
            return Passed(
                _with_body(decision, body) if decision.own_headers else msgspec.structs.replace(decision, body=body),
                _BEFORE_TRACEPARENT + traceparent + _BEHIND_TRACEPARENT,
            )
        spans = begun.others
        if spans is None:
            return Passed(decision)
        if not spans.own.sampled:
            return Passed(decision) if begun.passed is None else Passed(decision, _as_headers(begun, begun.passed))
        context = spans.own.child(spans.onward)
        return Passed(_with_body(decision, with_context(decision.body, context)), _as_headers(begun, context))

    def metadata(self, facts: RequestFacts, begun: Begun | None, id: bytes | None = None) -> bytes:
        """What is put into the record, as a field of ``dynamic_metadata``; nothing where there is nothing to say.

        Args:
            facts: of the request.
            begun: what is known by its body, if there was one.
            id: JSON text of its id, if the facts are those of a plan, which have none.
        """
        if id is not None and begun is not None and begun.ids and (kept := self._kept(facts)).has_no_more:
            of_arguments = b"" if begun.arguments is None else begun.arguments.encode()
            before = _before_record(kept.size + len(id) + len(begun.ids) + len(of_arguments))
            return worker_note.NOTE % (before + kept.shared, id, begun.ids, of_arguments)
        spans = arguments = None
        if begun is not None:
            spans, arguments = begun.spans, begun.arguments
        elif facts is NOTHING:
            return b""
        if id is not None and (begun is None or spans is None or not spans.own.state):
            kept = self._kept(facts)
            if kept.has_no_more:
                raw = kept.shared + worker_note.rest(id, spans, arguments)
                return _before_record(len(raw), is_left_out=spans is not None and not spans.own.sampled) + raw
        params, more = facts.params, worker_note.NOTHING_MORE
        asked_for = None if params is None or facts.named is not None else _text_in(params, "name")
        uri = None if params is None else _text_in(params, "uri")
        state = spans.own.state if spans is not None else ""
        if asked_for or uri or state or facts.session_seconds is not None:
            more = worker_note.More(asked_for, uri, facts.session_seconds, state)
        shared = self._shared(facts) if id is None else self._kept(facts).shared.decode()
        text = worker_note.text(shared, facts.id if id is None else id, spans, arguments, more)
        raw = text.encode()
        return _before_record(len(raw), is_left_out=spans is not None and not spans.own.sampled) + raw

    def _kept(self, facts: RequestFacts) -> _Kept:
        known = self._prefixes.get(key := _identity(facts))
        if known is not None and known.facts is facts and known.learned == self._learned:
            return known
        shared, params = self._shared(facts).encode(), facts.params or {}
        has_no_more = (
            facts.session_seconds is None and "uri" not in params and (facts.named is not None or "name" not in params)
        )
        known = _Kept(facts, self._learned, shared, len(shared) + len(worker_note.rest(b"", None, None)), has_no_more)
        self._prefixes.keep(key, known, 1024 + 2 * len(shared))
        return known

    def _shared(self, facts: RequestFacts) -> str:
        return worker_note.shared(self._kind_of(facts), worker_note.Who(facts.session, facts.principal, facts.issuer))

    def _kind_of(self, facts: RequestFacts) -> worker_note.Kind:
        named, is_listed = facts.named, False
        if named is not None and facts.server is not None:
            is_listed = (_KINDS[named[0]], facts.server, named[1]) in self._listed
        name = None if named is None else named[1][: worker_note.MAX_NAME_CHARACTERS]
        return worker_note.Kind(
            facts.method,
            facts.server,
            name if named is not None and named[0] == "tool" else None,
            name if named is not None and named[0] == "prompt" else None,
            facts.endpoint,
            facts.protocol_version,
            is_listed,
            facts.rule,
            facts.passed_on,
            facts.batch,
        )


def _text_in(params: Metadata, name: str) -> str | None:
    return text if isinstance(text := params.get(name), str) else None


class _Params(msgspec.Struct, frozen=True):
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    meta: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="_meta")


class _Message(msgspec.Struct, frozen=True):
    params: _Params = _Params()


_UNSET: Final = msgspec.UNSET
_NO_PARAMS: Final = _Params()
_NO_META: Final[Mapping[str, str]] = {}
_read_message: Final = msgspec.json.Decoder(_Message).decode

_ID_BYTES: Final = 16 + 8 + 8
"""Of a trace, its first span, and the one towards the server."""
_RANDOM_BYTES: Final = 128 * _ID_BYTES
_IDS: Final = re.compile(b".{%d}" % (2 * _ID_BYTES))

_NAMESPACE_KEY: Final = field(1, TELEMETRY_NAMESPACE.encode())
_TRACEPARENT: Final = TRACEPARENT.encode()
_BAGGAGE: Final = BAGGAGE.encode()
_NOT_SAMPLED: Final = struct_of({SAMPLED_KEY: False})


@lru_cache(maxsize=4096)
def _before_record(size: int, *, is_left_out: bool = False) -> bytes:
    """What stands in front of a record of that many bytes, which comes last: the same for most."""
    entries = (_NOT_SAMPLED if is_left_out else b"") + text_entry(RECORD_KEY, "-" * size)
    return field(1, _NAMESPACE_KEY + field(2, field(5, entries)))[:-size]


def _audited(config: GatewayConfig, secret: str) -> Callable[[audited.Text], str] | None:
    """What makes of arguments what the audit has of them; ``None`` where that is nothing."""
    if config.audit is None or config.audit.arguments == "none":
        return None
    return audited.Hasher(audited.key_of(secret.encode())) if config.audit.arguments == "hash" else audited.redacted


def _params(body: bytes) -> _Params:
    try:
        return _read_message(body).params
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NO_PARAMS  # it is refused


def _meta(params: _Params) -> Mapping[str, str]:
    """The texts of ``_meta`` that say whose trace it is."""
    meta = None if params.meta is msgspec.UNSET else jsontext.object_of(params.meta)
    if meta is None:
        return _NO_META
    found = ((name, jsontext.text_in(meta, name)) for name in MEMBERS)
    return {name: text for name, text in found if text is not None}


def _as_headers(begun: Begun, context: SpanContext) -> bytes:
    """Those that are set, and those that go: what the client sent is not of this context."""
    found = context.headers if begun.baggage is None else (*context.headers, (BAGGAGE, begun.baggage))
    return mutation_of(found, (TRACESTATE,) if TRACESTATE in begun.head.headers and not context.state else ())


_BEFORE_TRACEPARENT, _, _BEHIND_TRACEPARENT = mutation_of(((TRACEPARENT, "-" * _TRACEPARENT_BYTES),), ()).partition(
    b"-" * _TRACEPARENT_BYTES
)
"""What stands around it in the changes of headers."""


def _with_body(decision: Forward, body: bytes) -> Forward:
    own = decision.own_headers
    if own:
        own = tuple((name, str(len(body)) if name == _LENGTH else value) for name, value in own)
    return msgspec.structs.replace(decision, body=body, own_headers=own)


_LENGTH: Final = "content-length"
