"""One HTTP request: Envoy's messages in, answers out. Sans-IO but for the work it hands back to be awaited.

Contract: every message is answered, by a list of answers at once or by an async iterator of them; or there is a function that
gives the answers once all messages that have come were received, unless one of those was answered for both. A stream may end
with an OK status only when :attr:`Exchange.decided` is true, because Envoy lets a request pass unprocessed when its processor
hangs up politely before it answered (docs/envoy.md, "Fail closed").
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Final

from mcp_extproc.contract import (
    ACT_ROUTE,
    CLAIMS_HEADER,
    EARLY_HIDES,
    EARLY_KEY,
    EARLY_SHOWS,
    ENDPOINT_KEY,
    JUDGE_ROUTE,
    LOST_HEADER,
    REPAIR_ROUTE,
    ROUTE_KEY,
    endpoint_of,
)
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import forwarding, messages
from mcp_extproc.extproc.detail import Detail
from mcp_extproc.extproc.identity import NOBODY
from mcp_extproc.extproc.recorder import Begun
from mcp_extproc.extproc.response_exchange import ResponseExchange
from mcp_extproc.extproc.shared import Answers, KnownHead, Owed, Shared, Visit, remember
from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.decision import (
    Ask,
    Decision,
    FanOut,
    Forward,
    NeedBody,
    NeedSession,
    NeedToken,
    Preview,
    Reply,
    Stream,
)
from mcp_extproc.gateway.facts import NOTHING, RequestFacts
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.relay.awaited import Awaited
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.mcp import envelope
from mcp_extproc.tasks import in_slices
from mcp_extproc.telemetry import log

_LOG = log.logger("extproc")

_UNTOLD: Final[Mapping[str, str]] = {}

_LARGE = 256 * 1024
"""Bytes of a body that is decided in slices. Smaller ones take a few milliseconds at worst."""


class Unexpected(Exception):
    """Envoy sent what it was not asked for: its filter is configured otherwise than the gateway's."""


class Processor(Shared):
    """Makes exchanges."""

    def exchange(self, metadata: Mapping[str, str] = _UNTOLD) -> Exchange:
        """The state of a new stream, with the metadata of its gRPC call."""
        return self.opener(metadata)()

    def opener(self, metadata: Mapping[str, str]) -> Callable[[], Exchange]:
        """What makes the state of new streams with the same metadata."""
        visit = Visit.EARLY if EARLY_KEY in metadata else Visit.ONLY
        return partial(Exchange, self, self.details.of(metadata), visit, _endpoint(metadata))


class Exchange:
    """One ext_proc stream.

    Args:
        processor: shared by all exchanges of a worker.
        detail: how much is written into the metadata.
        visit: which one this is, where Envoy does not say it by a route's name.
        endpoint: name of the one that the request came in at; ``None`` where its route is none of an endpoint.
    """

    # What is not changed is the class's, as most of it is never.
    _head: RequestHead | None = None
    _proof = NOBODY
    _body: bytes | None = None
    _has_body = True
    """Whether Envoy sends one, which a decision by the head alone does not wait for."""
    _begun: Begun | None = None
    """What its record says of it, where there is one."""
    _repairing: Forward | None = None
    _brings_response = False
    """Whether the response comes along on this stream."""
    _response: ResponseExchange | None = None
    """Reads it, where that has to be."""
    _decided = False
    is_over = False
    """Whether nothing more of the exchange has to be seen: the rest passes once the stream ends."""

    def __init__(self, processor: Shared, detail: Detail, visit: Visit = Visit.ONLY, endpoint: str | None = "") -> None:
        self._processor = processor
        self._endpoint = endpoint
        self._detail = detail
        self._told_visit = self._visit = visit

    @property
    def decided(self) -> bool:
        """Whether Envoy has all answers without which it would let something pass."""
        return self._decided and not (self._response is not None and self._response.owes_head)

    def receive(self, raw: bytes) -> Answers | Owed:
        """Answer one message of Envoy's. The next one may be given only after all answers to this one were taken.

        Args:
            raw: a serialized ``ProcessingRequest``.

        Raises:
            Unreadable: it is none. The stream can only be ended.
            Unexpected: a message that was not asked for. As after any other exception, send what :meth:`fail` returns.
        """
        if self._processor.identification.reads:
            raw, metadata = messages.without_metadata(raw)
            if self._head is None:
                self._proof = self._processor.identification.of(metadata, self._endpoint)
        if self._head is None:
            known = None if self._decided else self._processor.known_heads.get(raw)
            if known is not None and known.is_of(self._proof, self._told_visit, self._endpoint):
                self._head, _, _, self._visit, self._brings_response, answers = known
                return answers
        elif (response := self._response) is not None:
            if raw[:1] in messages.OF_RESPONSE:
                read = response.receive(raw)
                self.is_over = response.is_over
                return read
        elif self._body is None and not self._decided and (body := messages.whole_body(raw)) is not None:
            return self._on_request_body(body)
        return self._receive(raw, messages.read(raw))

    def _receive(self, raw: bytes, message: pb.ProcessingRequest) -> Answers:
        match message.WhichOneof("request"):
            case "request_headers" if self._head is None and not self._decided:
                return self._on_request_headers(raw, message)
            case "request_body" if self._head is not None and self._body is None and not self._decided:
                return self._on_request_body(message.request_body.body)
            case "request_body" if self._decided and (self._body is None or not message.request_body.body):
                # Envoy sends a body without waiting for what is said to the head, which may have been refused; and it may
                # repeat the end of a body (envoyproxy/envoy#46237). It expects no second answer.
                return []
            case "response_headers" if self._head is None and messages.brings_response(message):
                return self._on_answer_of_envoy()
            case "response_headers" | "response_body" | "response_trailers" if (
                self._brings_response and not self._decided
            ):
                # Envoy has an answer of its own, such as a timeout.
                return [messages.GO_ON[message.WhichOneof("request") or ""]]
            case "response_headers" if self._repairing is not None:
                return self._on_repaired(message)
            case "request_trailers" | "response_headers" | "response_body" | "response_trailers" if self._decided:
                return [messages.GO_ON[message.WhichOneof("request") or ""]]
            case kind:
                # A second piece of a body among them: the decision was made without having seen it.
                raise Unexpected(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The answers that end an exchange in which something of ours broke.

        Empty where none can be given, as the decision is out or the apology broke too: then the stream has to end with a
        status that is not OK.
        """
        if self._response is not None:
            return self._response.fail()
        if self._decided:
            return []
        error = refusals.broken(self._request_id())
        try:
            return [self._answer(replies.reject(error, NOTHING))]
        except Exception:  # noqa: BLE001 - the caller already handles one
            _LOG.exception("apology_failed")
            return []

    # -- Phases -------------------------------------------------------------------------------------------------------

    def _on_request_headers(self, raw: bytes, message: pb.ProcessingRequest) -> Answers:
        headers = message.request_headers
        route = messages.route_name(message)
        self._visit = _visit_of(route, self._told_visit, headers)
        is_judged, awaits_policies = self._visit is Visit.SECOND, self._visit is Visit.EARLY
        claims = messages.request_header(headers, CLAIMS_HEADER) if self._proof.trusts_claims else None
        self._head = head = messages.read_head(
            headers,
            self._principal(claims),
            self._endpoint,
            is_judged=is_judged,
            awaits_policies=awaits_policies,
            hidden=() if claims is None else _HIDDEN,
            one=self._processor.alike.one,
        )
        gateway = self._processor.gateway
        if route.startswith(REPAIR_ROUTE):
            if self._processor.recorder is not None:
                self._head = head = self._processor.recorder.again(head)
            return self._carry_out(gateway.repair(route.removeprefix(REPAIR_ROUTE), head))
        self._brings_response = messages.brings_response(message)
        self._has_body = not headers.end_of_stream
        now = self._processor.clock()
        first = self._visit in (Visit.FIRST, Visit.EARLY)
        decision = gateway.preview_head(head, now) if first else gateway.admit(head, now)
        if isinstance(decision, NeedBody):
            if not headers.end_of_stream:
                answers = [messages.ASK_FOR_BODY] if self._visit is Visit.FIRST else []
                known = KnownHead(head, self._proof, self._told_visit, self._visit, self._brings_response, answers)
                remember(self._processor.known_heads, raw, known)
                return answers
            decision = self._decision(head, b"")
        return self._carry_out(decision)

    def _principal(self, claims: str | None) -> Principal:
        if claims is None:
            return self._proof.principal
        return self._processor.identification.with_claims(self._proof.principal, claims, self._endpoint)

    def _on_answer_of_envoy(self) -> list[bytes]:
        """A filter in front has answered: the request never came here."""
        self.is_over = self._decided = True
        return [messages.GO_ON["response_headers"]]

    def _on_request_body(self, body: bytes) -> Answers:
        assert self._head is not None
        # Envoy's `buffer` comes first, so one message holds the whole body, also where trailers follow and end_of_stream
        # is not set. Without it this would be a piece, and what follows of the body would never reach the server.
        self._body = body
        if self._processor.recorder is not None:
            self._begun = self._processor.recorder.begin(self._head, body)
        if len(body) > _LARGE:
            return self._in_slices(self._own_head(self._head), body)
        return self._carry_out(self._decision(self._head, body))

    def _own_head(self, head: RequestHead) -> RequestHead:
        """The head within the request's own span, where that is kept."""
        span = None if self._begun is None else self._begun.span
        return head if span is None else head.within(span)

    async def _in_slices(self, head: RequestHead, body: bytes) -> AsyncGenerator[bytes, None]:
        gateway = self._processor.gateway
        ways = {Visit.FIRST: gateway.previewing, Visit.EARLY: gateway.foreseeing}
        deciding = ways.get(self._visit, gateway.deciding)
        answers = self._carry_out(await in_slices(deciding(head, body, self._processor.clock())))
        if isinstance(answers, list):
            for answer in answers:
                yield answer
            return
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    def _decision(self, head: RequestHead, body: bytes) -> Decision:
        gateway, visit, now = self._processor.gateway, self._visit, self._processor.clock()
        if visit is _FIRST:
            return gateway.preview(self._own_head(head), body, now)
        if visit is _EARLY:
            return gateway.foresee(self._own_head(head), body, now)
        return gateway.decide(head, body, now, self._own_head)

    def closed(self) -> None:
        """The stream is over, ended by either side. To be called once."""
        if self._response is not None:
            self._response.closed()

    def _on_repaired(self, message: pb.ProcessingRequest) -> list[bytes]:
        """Where the server was initialized again and still says that the session is lost, another one is of no use."""
        assert self._repairing is not None
        assert self._head is not None
        lost = self._head.headers.get("mcp-session-id")
        if messages.response_header(message, LOST_HEADER) and lost is not None:
            useless = self._processor.gateway.memory.forget(self._repairing.server, lost)
            if useless is not None:
                context = self._processor.gateway.context_of_repair(self._repairing.server, self._head)
                self._processor.upstreams.discard(self._repairing.server, useless, context)
        return [messages.GO_ON["response_headers"]]

    def _request_id(self) -> bytes | None:
        try:
            message = envelope.read(self._body or b"")
        except Exception:  # noqa: BLE001 - reading may be what broke
            return None
        return message.id if isinstance(message, envelope.Request) else None

    # -- Decisions ----------------------------------------------------------------------------------------------------

    def _carry_out(self, decision: Decision) -> Answers:
        self._processor.apply(decision.effects)
        if isinstance(decision, _ANSWERS):
            return [self._answer(decision)]
        return self._work(decision)

    async def _work(self, decision: FanOut | NeedSession | NeedToken | Stream) -> AsyncGenerator[bytes, None]:
        yield messages.more_time(decision.patience)
        upstreams = self._processor.upstreams
        following: Decision = decision
        with ExitStack() as held:  # until the answer that was made of it is sent
            while not isinstance(following, _ANSWERS):
                match following:
                    case Stream():
                        async with self._processor.streams.open(following) as opened:
                            if not isinstance(opened, Reply):
                                async for answer in self._stream(following, opened):
                                    yield answer
                                return
                        following = opened
                    case FanOut():
                        held.close()  # of a fan-out before only the decision is left: who waits holds nothing
                        holding = held.enter_context(upstreams.held.holding(self._holder(following.caller)))
                        outcomes = await upstreams.run(following.legs, holding)
                        following = await in_slices(following.merging(outcomes, self._processor.clock()))
                    case NeedSession():
                        following = following.resume(await upstreams.session(following))
                    case NeedToken():
                        following = following.resume(await upstreams.token(following))
                self._processor.apply(following.effects)
            yield self._answer(following)

    def _holder(self, caller: str) -> str:
        """Who has to share what is held: a principal, or else a session. Those who have neither share with each other."""
        assert self._head is not None
        return self._head.principal.key or caller

    async def _stream(self, decision: Stream, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        head = messages.stream_head(decision.facts, self._detail, self._recorded(decision.facts))
        self._decided = True
        self._processor.counters.add("mcp.streams")
        yield head
        async for chunk in chunks:
            yield messages.stream_chunk(chunk)
        yield messages.stream_chunk(b"", end=True)

    def _answer(self, decision: Answer) -> bytes:
        answer = self._written(decision)
        self._count(decision)
        # Last: until here something may break, and the answer is still owed.
        self._decided = True
        return answer

    def _written(self, decision: Answer) -> bytes:
        if isinstance(decision, Preview):
            return self._shown(decision)
        if isinstance(decision, Reply):
            return messages.reply(decision, self._detail, self._recorded(decision.facts))
        mark = b"" if self._visit is _ONLY else _MARKS.get(self._visit, b"")
        if isinstance(decision, Ask):
            # The answer is another filter's, whose worker gives it.
            self.is_over = self._brings_response
            return forwarding.ask(
                decision.forward, decision.told, self._detail, mark, self._recorded(decision.forward.facts)
            )
        if self._body is None:
            self._repairing = decision
            return messages.forward_headers(decision)
        if decision.progress is not None:
            # A response without a byte for that long is over.
            until = self._processor.clock() + self._processor.gateway.config.servers[decision.server].timeout
            self._processor.gateway.memory.started(*decision.progress, until)
        recorder, begun = self._processor.recorder, self._begun
        if recorder is None or begun is None:
            return self._forwarded(decision, mark)
        record = recorder.metadata(decision.plan.facts, begun, decision.id)
        if not (begun.ids or begun.others):
            return self._forwarded(decision, mark, record)
        passed = recorder.passed(begun, decision)
        return self._forwarded(passed.decision, mark, record, passed.headers)

    def _recorded(self, facts: RequestFacts) -> bytes:
        """The metadata for the record of the request, where there is one."""
        recorder = self._processor.recorder
        return b"" if recorder is None else recorder.metadata(facts, self._begun)

    def _shown(self, decision: Preview) -> bytes:
        if self._visit is Visit.FIRST:
            record = self._recorded(decision.facts)
            return messages.preview(decision, self._detail, record, has_body=self._body is not None)
        # The response is the second visit's to read.
        self.is_over = self._brings_response
        if not self._has_body:
            return messages.preview(decision, self._detail, self._recorded(decision.facts), has_body=False)
        # Of a DELETE it is not waited for, and nobody reads it.
        return messages.preview_with(self._body or b"", decision, self._detail, self._recorded(decision.facts))

    def _forwarded(self, decision: Forward, mark: bytes, record: bytes = b"", headers: bytes = b"") -> bytes:
        assert self._head is not None
        # The response is read on this stream where it comes along.
        if not self._brings_response or decision.response is None:
            self.is_over = self._brings_response
            if (begun := self._begun) is None or not (begun.ids or begun.others):
                return forwarding.forward(decision, self._head, self._detail, mark, record, headers)
            if traceparent := begun.traceparent:
                return forwarding.forward(
                    decision, self._head, self._detail, mark, record, headers, traceparent=traceparent
                )
            trace = None if begun.span is None else begun.span.headers
            return forwarding.forward(decision, self._head, self._detail, mark, record, headers, trace)
        context = context_of(self._own_head(self._head), decision.id, decision.carried)
        self._response = ResponseExchange(self._processor, Awaited(decision.response, decision.undoing, context))
        return forwarding.forward_and_read(decision, self._detail, mark, record, headers)

    def _count(self, decision: Answer) -> None:
        counters = self._processor.counters
        if isinstance(decision, Forward):
            counters.add("mcp.forwarded", server=decision.plan.server)
            return
        if isinstance(decision, Preview):
            counters.add("mcp.shown")
            return
        if isinstance(decision, Ask):
            counters.add("mcp.asked", server=decision.forward.server)
            return
        if decision.facts.error is not None:
            counters.add("mcp.rejected", reason=decision.facts.error[1])
            facts = decision.facts.metadata()
            log.event(_LOG, logging.DEBUG, "rejected", {name: facts[name] for name in _LOGGED if name in facts})
        else:
            counters.add("mcp.answered")
        for note in decision.notes:
            labels = {key: str(note.fields[key]) for key in ("server", "reason") if key in note.fields}
            counters.add(f"mcp.{note.event}", **labels)
            log.event(_LOG, logging.WARNING, note.event, note.fields)


Answer = Forward | Reply | Preview | Ask
_ANSWERS = (Forward, Reply, Preview, Ask)
"""Decisions that are one answer. The others take time."""

# Members of an enumeration are found by functions of its class.
_ONLY, _FIRST, _EARLY = Visit.ONLY, Visit.FIRST, Visit.EARLY

_HIDDEN: Final = (CLAIMS_HEADER,)

_MARKS = {Visit.SECOND: messages.FORWARDED, Visit.EARLY: messages.EARLY}

_LOGGED = ("error_reason", "error_code", "method", "params", "session", "session_error")
"""What the log has of a request that was refused."""


def _endpoint(metadata: Mapping[str, str]) -> str | None:
    """The endpoint of a request, by the metadata of its gRPC call. Where Envoy says none, there is one."""
    route = metadata.get(ROUTE_KEY)
    if route is not None:
        return endpoint_of(route)
    told = metadata.get(ENDPOINT_KEY, "")
    # Envoy puts a dash in the place of what is not there.
    return "" if told == "-" else told


def _visit_of(route: str, told: Visit, headers: pb.HttpHeaders) -> Visit:
    """Which visit a request's head belongs to.

    Were an early one taken for the only one, all effects would come before policies judge; the other way round a server would
    get the client's path, session and credentials. So what does not say which one it is is refused.

    Raises:
        Unexpected: it does not say so.
    """
    if route.startswith(JUDGE_ROUTE):
        return Visit.FIRST
    if route.startswith(ACT_ROUTE):
        return Visit.SECOND
    if told is Visit.EARLY or route.startswith(REPAIR_ROUTE):
        return told
    is_early = messages.is_early(headers)
    if is_early is None:
        why = f"a filter in front of the gateway's has removed {EARLY_HIDES} or {EARLY_SHOWS}"
        log.event(_LOG, logging.ERROR, "request_unmarked", {"why": why, "effect": "it is refused: let both pass"})
        raise Unexpected(why)
    return Visit.EARLY if is_early else Visit.ONLY
