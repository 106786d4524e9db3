"""One HTTP exchange: Envoy's messages in, answers out. Sans-IO but for the work it hands back to be awaited.

Contract: every message is answered, by a list of answers at once or by an async iterator of them; a stream may end with
an OK status only when :attr:`Exchange.decided` is true, because Envoy lets a request pass unprocessed when its processor
hangs up politely before it answered (docs/envoy.md, "Fail closed").
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol, TypeVar

from mcp_extproc.contract import ACT_ROUTE, JUDGE_ROUTE, MAX_MESSAGE_TIMEOUT, REPAIR_ROUTE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.gateway import replies
from mcp_extproc.gateway.decision import (
    BatchLeg,
    Decision,
    Failed,
    FanOut,
    Forward,
    Leg,
    NeedBody,
    NeedSession,
    Outcome,
    Reply,
    RequestHead,
    SessionRef,
    Show,
    Stream,
)
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.relay.responses import CallResponse, Expected, Reading
from mcp_extproc.mcp import envelope, errors
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.counters import Counters

_LOG = log.logger("extproc")

_T = TypeVar("_T")

Answers = list[bytes] | AsyncGenerator[bytes, None]
"""Serialized ``ProcessingResponse`` messages."""

_MAX_KNOWN = 4096
_MAX_KNOWN_BYTES = 8 * 1024


class Unexpected(Exception):
    """Envoy sent what it was not asked for: its filter is configured otherwise than the gateway's."""


class Upstreams(Protocol):
    """Who runs the legs of fan-outs (see :class:`mcp_extproc.upstreams.fan_out.LegRunner`)."""

    async def run(self, legs: tuple[Leg, ...]) -> list[Outcome]: ...

    async def session(self, ref: SessionRef, lost: str | None) -> UpstreamSession | Failed: ...

    async def session_if_lost(self, ref: SessionRef, doubtful: str) -> UpstreamSession | Failed: ...

    def discard(self, server: str, session: UpstreamSession) -> None: ...

    def post(self, server: str, session: UpstreamSession, body: bytes) -> None: ...


class Streams(Protocol):
    """Who opens the streams of GETs (see :class:`mcp_extproc.upstreams.get_streams.Streams`)."""

    def open(self, stream: Stream) -> AbstractAsyncContextManager[AsyncIterator[bytes] | Reply]: ...

    def end(self, session_id: str) -> None: ...


class Processor:
    """What all exchanges of a worker share.

    Args:
        gateway: decides.
        upstreams: runs fan-outs.
        streams: answers GETs.
        counters: of what happened.
        clock: Unix time in seconds.
        patience: seconds that Envoy is asked to wait for a fan-out; the longest leg plus a margin.
    """

    def __init__(
        self,
        gateway: Gateway,
        upstreams: Upstreams,
        streams: Streams,
        counters: Counters,
        clock: Callable[[], float],
        patience: float,
    ) -> None:
        self.gateway = gateway
        self.upstreams = upstreams
        self.streams = streams
        self.counters = counters
        self.clock = clock
        self.patience = patience
        self.namespaces = messages.namespace_keys(gateway.config.more_namespaces)
        # An agent's calls begin with the same bytes each time, as long as Envoy leaves out what differs (ext_proc's
        # forward_rules), and a server's answers too.
        self.known_heads: dict[bytes, tuple[RequestHead, list[bytes]]] = {}
        self.known_responses: dict[bytes, tuple[str, str]] = {}

    def exchange(self) -> Exchange:
        """The state of a new stream."""
        return Exchange(self)


class Exchange:
    """One ext_proc stream."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._head: RequestHead | None = None
        self._body: bytes | None = None
        self._repairing: Forward | None = None
        self._expected: Expected | None = None
        self._response: CallResponse | None = None
        self._progress: tuple[str, bytes] | None = None
        self.decided = False

    def receive(self, raw: bytes) -> Answers:
        """Answer one message of Envoy's. The next one may be given only after all answers to this one were taken.

        Args:
            raw: a serialized ``ProcessingRequest``.

        Raises:
            Unreadable: it is none. The stream can only be ended.
            Unexpected: a message that nobody ordered. As after any other exception, what :meth:`fail` says is to be done.
        """
        if self._head is None and not self.decided and (known := self._processor.known_heads.get(raw)) is not None:
            self._head = known[0]
            return known[1]
        if self._expected is not None and (known_head := self._processor.known_responses.get(raw)) is not None:
            return self._on_response_head(*known_head, self._expected)
        if self._head is not None and self._body is None and not self.decided:
            body = messages.whole_body(raw)
            if body is not None:
                return self._on_request_body(body)
        return self._receive(raw, messages.read(raw))

    def _receive(self, raw: bytes, message: pb.ProcessingRequest) -> Answers:
        match message.WhichOneof("request"):
            case "request_headers" if self._head is None and not self.decided:
                return self._on_request_headers(raw, message)
            case "request_body" if self._head is not None and self._body is None and not self.decided:
                return self._on_request_body(message.request_body.body)
            case "request_body" if self.decided and not message.request_body.body:
                # Envoy may repeat the end of a body (envoyproxy/envoy#46237); it expects no second answer.
                return []
            case "response_headers" if self._repairing is not None:
                return self._on_repaired(message)
            case "response_headers" if self._expected is not None:
                return self._on_response_headers(raw, message, self._expected)
            case "response_body" if self._response is not None:
                return self._on_response_body(message, self._response)
            case "request_trailers" | "response_headers" | "response_body" | "response_trailers" if self.decided:
                return [messages.GO_ON[message.WhichOneof("request") or ""]]
            case kind:
                # A second piece of a body among them: the decision was made without having seen it.
                raise Unexpected(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The answers that end an exchange in which something of ours broke.

        Empty where none can be given, as the decision is out or the apology broke too: then the stream has to end with a
        status that is not OK.
        """
        if self.decided:
            return []
        id = self._request_id()
        error = errors.McpError(
            errors.INTERNAL_ERROR,
            "The gateway failed to handle this request; its log says why.",
            reason="internal",
            status=500 if id is None else 200,
            id=id,
        )
        try:
            return [self._answer(replies.reject(error, {}))]
        except Exception:  # noqa: BLE001 - whoever called handles one already
            _LOG.exception("apology_failed")
            return []

    # -- Phases -------------------------------------------------------------------------------------------------------

    def _on_request_headers(self, raw: bytes, message: pb.ProcessingRequest) -> Answers:
        headers = message.request_headers
        self._head = head = messages.read_head(headers)
        gateway = self._processor.gateway
        route = messages.route_name(message)
        if route.startswith(REPAIR_ROUTE):
            return self._carry_out(gateway.repair(route.removeprefix(REPAIR_ROUTE), head))
        if route.startswith((JUDGE_ROUTE, ACT_ROUTE)):
            judging = route.startswith(JUDGE_ROUTE)
            self._head = head = replace(head, judging=judging, judged=not judging)
        now = self._processor.clock()
        decision = gateway.admit(head, now)
        if isinstance(decision, NeedBody):
            if not headers.end_of_stream:
                response = decision.and_response and not head.judging
                answers = [messages.ASK_FOR_BODY_AND_HEAD if response else messages.ASK_FOR_BODY]
                _remember(self._processor.known_heads, raw, (head, answers))
                return answers
            decision = gateway.decide(head, b"", now)
        return self._carry_out(decision)

    def _on_request_body(self, body: bytes) -> Answers:
        assert self._head is not None
        # BUFFERED: one message holds the whole body, also where trailers follow and end_of_stream is not set.
        self._body = body
        return self._carry_out(self._processor.gateway.decide(self._head, body, self._processor.clock()))

    def _on_response_headers(self, raw: bytes, message: pb.ProcessingRequest, expected: Expected) -> list[bytes]:
        status = messages.response_header(message, ":status")
        content_type = messages.response_header(message, "content-type")
        if message.response_headers.end_of_stream:
            status = ""  # there is no body to be read
        else:
            _remember(self._processor.known_responses, raw, (status, content_type))
        return self._on_response_head(status, content_type, expected)

    def _on_response_head(self, status: str, content_type: str, expected: Expected) -> list[bytes]:
        self._expected = None
        reading = expected.reading(status, content_type)
        self._processor.counters.add("mcp.response", reading=reading.name.lower())
        if reading is Reading.PASS:
            return [messages.GO_ON["response_headers"]]
        self._response = CallResponse(expected, reading)
        return [messages.READ_RESPONSE_BODY]

    def _on_response_body(self, message: pb.ProcessingRequest, response: CallResponse) -> list[bytes]:
        piece = message.response_body
        out = response.feed(piece.body, end=piece.end_of_stream)
        for answer in out.up:
            self._processor.upstreams.post(response.server, response.session, answer)
        return [messages.response_piece(out.down)]

    def closed(self) -> None:
        """The HTTP exchange is over, whoever ended it. To be called once."""
        if self._progress is not None:
            self._processor.gateway.memory.finished(*self._progress)

    def _on_repaired(self, message: pb.ProcessingRequest) -> list[bytes]:
        """Where the server was initialized again and still refuses, it meant the request and not the session."""
        assert self._repairing is not None
        assert self._head is not None
        lost = self._head.headers.get("mcp-session-id")
        if messages.response_header(message, ":status") in ("400", "404") and lost is not None:
            useless = self._processor.gateway.memory.forget(self._repairing.server, lost)
            if useless is not None:
                self._processor.upstreams.discard(self._repairing.server, useless)
        return [messages.GO_ON["response_headers"]]

    def _request_id(self) -> bytes | None:
        try:
            message = envelope.parse(self._body or b"", self._processor.gateway.config.limits.json_depth)
        except Exception:  # noqa: BLE001 - reading may be what broke
            return None
        return message.id if isinstance(message, envelope.Request) else None

    # -- Decisions ----------------------------------------------------------------------------------------------------

    def _carry_out(self, decision: Decision) -> Answers:
        if isinstance(decision, Forward | Reply | Show):
            return [self._answer(decision)]
        return self._work(decision)

    async def _work(self, decision: Decision) -> AsyncGenerator[bytes, None]:
        # Calls inside of a batch may last as long as any other call; Envoy's routes bound them.
        batch = isinstance(decision, FanOut) and any(isinstance(leg, BatchLeg) for leg in decision.legs)
        yield messages.more_time(MAX_MESSAGE_TIMEOUT if batch else self._processor.patience)
        upstreams = self._processor.upstreams
        while not isinstance(decision, Forward | Reply | Show):
            match decision:
                case Stream():
                    async with self._processor.streams.open(decision) as opened:
                        if not isinstance(opened, Reply):
                            async for answer in self._stream(decision, opened):
                                yield answer
                            return
                    decision = opened
                case FanOut():
                    decision = decision.merge(await upstreams.run(decision.legs), self._processor.clock())
                case NeedSession(session=ref, lost=str() as lost, doubtful=True):
                    decision = decision.resume(await upstreams.session_if_lost(ref, lost))
                case NeedSession():
                    decision = decision.resume(await upstreams.session(decision.session, decision.lost))
        yield self._answer(decision)

    async def _stream(self, decision: Stream, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        head = messages.stream_head(decision.facts, self._processor.namespaces)
        self.decided = True
        self._processor.counters.add("mcp.streams")
        yield head
        async for chunk in chunks:
            yield messages.stream_chunk(chunk)
        yield messages.stream_chunk(b"", end=True)

    def _answer(self, decision: Forward | Reply | Show) -> bytes:
        answer = self._written(decision)
        self._tell(decision)
        # Last: until here something may break, and the answer is still owed.
        self.decided = True
        return answer

    def _written(self, decision: Forward | Reply | Show) -> bytes:
        if isinstance(decision, Show):
            return messages.show(decision, self._processor.namespaces, has_body=self._body is not None)
        if isinstance(decision, Reply):
            if decision.ends_session is not None:
                self._processor.streams.end(decision.ends_session)
            return messages.reply(decision, self._processor.namespaces)
        if self._body is None:
            self._repairing = decision
            return messages.forward_headers(decision)
        self._expected = decision.response
        if decision.progress is not None:
            self._progress = decision.progress
            self._processor.gateway.memory.started(*decision.progress)
        return messages.forward_with_body(decision, self._body, self._processor.namespaces)

    def _tell(self, decision: Forward | Reply | Show) -> None:
        counters = self._processor.counters
        if isinstance(decision, Show):
            counters.add("mcp.shown")
            return
        if isinstance(decision, Forward):
            counters.add("mcp.forwarded", server=decision.server)
            return
        reason = decision.facts.get("error_reason")
        if reason is not None:
            counters.add("mcp.rejected", reason=reason)
            log.event(_LOG, logging.INFO, "rejected", {
                name: decision.facts[name]
                for name in ("error_reason", "error_code", "method", "params", "session", "session_error")
                if name in decision.facts
            })  # fmt: skip
        else:
            counters.add("mcp.answered")
        for note in decision.notes:
            labels = {key: str(note.fields[key]) for key in ("server", "reason") if key in note.fields}
            counters.add(f"mcp.{note.event}", **labels)
            log.event(_LOG, logging.WARNING, note.event, note.fields)


def _remember(known: dict[bytes, _T], raw: bytes, what: _T) -> None:
    if len(raw) <= _MAX_KNOWN_BYTES:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[raw] = what
