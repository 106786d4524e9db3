"""The response to a forwarded request, where it has to be read: Envoy's messages in, answers out. Sans-IO.

The contract is that of :class:`mcp_extproc.extproc.exchange.Exchange`. Where the response does not come along on the request's
stream, Envoy has a filter of its own for it, which opens a stream once the response's head is there, at any worker.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from mcp_extproc.contract import MAX_MESSAGE_TIMEOUT, RESPONSE_HEADERS, SERVER_FAILED
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.shared import Answers, Owed, Shared, remember
from mcp_extproc.gateway.effects import Effects
from mcp_extproc.gateway.relay.awaited import ID_KEY, Awaited, NotAnnounced
from mcp_extproc.gateway.relay.outcomes import ANSWERED, failure, outcome_of
from mcp_extproc.gateway.relay.responses import CallResponse, Out, Reading, ResponseHead
from mcp_extproc.held import Part
from mcp_extproc.mcp import errors, transport
from mcp_extproc.slices import Slices
from mcp_extproc.tasks import in_slices
from mcp_extproc.telemetry import log

_TOLD_AGAIN_SECONDS = 1.0
"""Those that are over are looked for less often."""

_WITHOUT_HEAD_BYTES = 16 * 1024
"""Of JSON that Envoy holds together with the head. It stops reading from the server when its buffer is full, which operators
make small."""

_AT_ONCE_BYTES = 16 * 1024
"""Pieces as small are counted once it is known what of them has to be held. Mostly that is nothing."""

_MARGIN = 5.0
"""Seconds that Envoy waits for a worker beyond the time that the server has: its end is the server's failure."""

# Members of an enumeration are found, and named, by functions of its class.
_EVENTS: Final = Reading.EVENTS
_COUNTED: Final = {reading: reading.name.lower() for reading in Reading}

_LOG = log.logger("extproc")


class ResponseExchange:
    """One ext_proc stream, or the second half of one.

    Args:
        processor: shared by all exchanges of a worker.
        awaited: what is known of the response, where it comes along on the stream of its request. On a stream of its own it
            is in the metadata.
    """

    # Most responses are read in one step, which changes few of these: what is not changed is the class's.
    _head: ResponseHead | None = None
    _response: CallResponse | None = None
    """Reads it. ``None`` as long as nothing but the head of a stream was seen, too: mostly the piece behind that needs no
    reader."""
    _held: Part | None = None
    _undoing: Effects = ()
    _is_answered = False
    """Whether the client has its answer, of which the access log was told."""
    _has_dropped = False
    """Whether an answer to the server was dropped, of which the log was told."""
    _has_begun = False
    """Whether the client may have got a part of the response."""
    _told_again = 0.0
    """Unix time in seconds at which the memory is told once more that the request goes on."""
    _failed = False
    """Whether an error took the response's place. Envoy may have sent more of it by then."""
    _kept_back = 0
    """Pieces that are not answered, as the head is not: a server that breaks off then gets its client an error."""
    _without_head = 0
    """Bytes in them."""
    _patience: float | None = None
    """Seconds for which Envoy is asked to wait for the answer to the head; ``None`` once there is one."""
    _keeps_back = False
    """Whether the answer to the head waits for what else has come with it."""
    _is_replaced = False
    """Whether the client has a whole response by the answer to the head: Envoy expects no other, and drops what else the
    server sends."""
    decided = False
    is_over = False
    """Whether nothing more of the response has to be seen: the rest passes once the stream ends."""

    def __init__(self, processor: Shared, awaited: Awaited | None = None) -> None:
        self._processor = processor
        self._awaited = awaited
        self._id = None if awaited is None else awaited.expected.id

    @property
    def owes_head(self) -> bool:
        """Whether Envoy holds the response, as its head is not answered."""
        return self._keeps_back or self._patience is not None

    def receive(self, raw: bytes) -> Answers | Owed:
        """Answer one message of Envoy's. The next one may be given only after all answers to this one were taken.

        Args:
            raw: a serialized ``ProcessingRequest``.

        Raises:
            Unreadable: it is none. The stream can only be ended.
            Unannounced: a message that is not due. As after any other exception, send what :meth:`fail` returns.
        """
        if self._is_replaced:
            return []
        if self._response is not None:
            if self._is_answered and messages.is_bare_end(raw) and not self._response.held:
                return [messages.NOTHING_MORE]
            if (piece := messages.piece_of_response(raw)) is not None:
                return self._on_body(*piece, self._response)
        elif self._keeps_back:
            return self._on_first_piece(raw)
        if self._awaited is not None and (known := self._processor.known_responses.get(raw)) is not None:
            return self._on_head(known, self._awaited)
        return self._receive(raw)

    def _receive(self, raw: bytes) -> Answers | Owed:
        message = messages.read(raw)
        match message.WhichOneof("request"):
            case "response_headers" if self._head is None:
                return self._on_new_head(raw, message)
            case "response_body" if self._response is not None:
                part = message.response_body
                return self._on_body(part.body, part.end_of_stream, self._response)
            case "response_trailers" if self._response is not None and not self._response.is_complete:
                return self._on_early_trailers(self._response)
            case "response_body" | "response_trailers" if self._failed:
                return []
            case "response_body" | "response_trailers" if self.decided:
                return [messages.GO_ON[message.WhichOneof("request") or ""]]
            case kind:
                raise messages.Unannounced(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The answers that end an exchange in which something of ours broke. Empty where none can be given, as a part of the
        response is out, or the apology broke too: then the stream has to end with a status that is not OK."""
        if self._has_begun:
            return []
        error = errors.McpError(
            errors.INTERNAL_ERROR,
            "The gateway failed to read the server's answer; its log says why.",
            reason="internal",
            id=self._id,
        )
        try:
            apology = messages.instead_of_response(errors.render(error), transport.JSON, failure(error))
        except Exception:  # noqa: BLE001 - the caller already handles one
            _LOG.exception("apology_failed")
            return []
        self.decided = self._has_begun = self._failed = True
        self._response, self._patience, self._keeps_back = None, None, False
        return [apology]

    def closed(self) -> None:
        """The HTTP exchange is over. To be called once."""
        if self._held is not None:
            self._held.keep(0)
        if (awaited := self._awaited) is None:
            return
        expected = awaited.expected
        if (token := expected.call.progress_token) is not None:
            self._processor.gateway.memory.finished(expected.relay.view.key, token)

    # -- Phases -------------------------------------------------------------------------------------------------------

    def _on_new_head(self, raw: bytes, message: pb.ProcessingRequest) -> list[bytes] | Owed:
        status, content_type, content_encoding = (messages.response_header(message, name) for name in RESPONSE_HEADERS)
        head = ResponseHead(status, content_type, content_encoding, not message.response_headers.end_of_stream)
        if self._awaited is not None:
            remember(self._processor.known_responses, raw, head)
            return self._on_head(head, self._awaited)
        told = messages.told(message)
        id = told.get(ID_KEY)
        self._id = None if id is None else id.encode()
        try:
            self._awaited = self._processor.gateway.awaited(told)
        except NotAnnounced as error:
            log.event(_LOG, logging.WARNING, "response_not_announced", {"reason": str(error)})
            return self.fail()
        return self._on_head(head, self._awaited)

    def _on_head(self, head: ResponseHead, awaited: Awaited) -> list[bytes] | Owed:
        self._head = head
        expected, self._undoing = awaited.expected, awaited.undoing
        if head.status != "200" or not head.has_body:
            self._undo()
        if (missing := expected.without_body(head)) is not None:
            return self._on_no_body(missing, head, expected.server)
        reading = expected.reading(head.status, head.content_type)
        self._processor.counters.add("mcp.response", reading=_COUNTED[reading])
        if reading is _EVENTS:
            self._keeps_back = True
            return self._head_alone
        if reading is Reading.PASS:
            self.is_over = True
            answer = messages.GO_ON["response_headers"]
        else:
            self._read(reading)
            answer = messages.READ_RESPONSE_BODY
            if (patience := self._patience_with(expected.server)) is not None:
                self._patience = patience
                return [messages.more_time(patience)]
        # Last: until here something may break, and the answer is still owed.
        self.decided = True
        return [answer]

    def _head_alone(self) -> list[bytes]:
        """The answer to the head of a stream, unless there is one. Servers send it long before the call's answer, and clients
        wait for it: it waits for nothing but what has come already."""
        if not self._keeps_back:
            return []
        if self._response is None:
            self._read(_EVENTS)
        self._keeps_back, self.decided = False, True
        return [messages.READ_RESPONSE_BODY]

    def _read(self, reading: Reading) -> CallResponse:
        """From here on the response has a reader."""
        assert self._awaited is not None
        assert self._head is not None
        expected = self._awaited.expected
        holder = self._awaited.context.principal or expected.relay.view.key
        self._held = self._processor.upstreams.held.holding(holder).part()
        self._response = CallResponse(expected, reading, self._head.content_encoding)
        return self._response

    def _on_first_piece(self, raw: bytes) -> Answers | Owed:
        """What comes in one read with the head of a stream."""
        piece = messages.piece_of_response(raw)
        if piece is not None and (down := self._usual_answer(piece[0])) is not None:
            self._is_answered = self._has_begun = True
            return [self._instead_of_stream(down, outcome_of(down, is_stream=True))]
        response = self._read(_EVENTS)
        return self._receive(raw) if piece is None else self._on_body(*piece, response)

    def _usual_answer(self, piece: bytes) -> bytes | None:
        """What the client gets for a whole stream that needs no reader, as nothing of it has to be held. ``None`` for any
        other."""
        assert self._awaited is not None
        assert self._head is not None
        if self._head.content_encoding or len(piece) > _AT_ONCE_BYTES:
            return None
        return self._awaited.expected.usual_answer(piece)

    def _instead_of_stream(self, down: bytes, facts: Mapping[str, str | int] | None) -> bytes:
        """All of the response, in answer to its head."""
        self._keeps_back, self._is_replaced, self.decided = False, True, True
        return messages.whole_response(down, facts)

    def _patience_with(self, name: str) -> float | None:
        server = self._processor.gateway.config.servers.get(name)
        if server is None or server.timeout + _MARGIN > MAX_MESSAGE_TIMEOUT:
            return None
        return server.timeout + _MARGIN

    def _on_no_body(self, missing: bytes, head: ResponseHead, server: str) -> list[bytes]:
        self._processor.counters.add("mcp.response_cut_off", server=server)
        facts = {"error_reason": SERVER_FAILED, "error_code": errors.INTERNAL_ERROR} if missing else {}
        answer = messages.instead_of_response(missing, head.content_type, facts)
        self.decided = self._has_begun = self._failed = True
        return [answer]

    def _on_body(self, piece: bytes, end: bool, response: CallResponse) -> Answers:
        assert self._held is not None
        if response.wants_progress:
            self._goes_on(response)
        self._without_head += len(piece)
        if not end and len(piece) > _AT_ONCE_BYTES and not self._held.keep(response.held + len(piece)):
            return self._relayed(response, response.give_up())
        reading = response.feeding(piece, end=end)
        try:
            next(reading)
        except StopIteration as done:
            return self._relayed(response, done.value)
        return self._relayed_in_slices(response, reading)

    def _on_early_trailers(self, response: CallResponse) -> list[bytes]:
        """The end of a response, which no piece of its body was said to be. Nothing can be added to the body any more."""
        self._processor.counters.add("mcp.response_cut_off", server=response.server)
        log.event(_LOG, logging.WARNING, "response_cut_off", {"server": response.server})
        rest = self._passed_on(response, response.feed(b"", end=True))
        facts = {} if response.error is None else failure(response.error)
        self._patience, self._keeps_back, self.decided = None, False, True
        return [messages.instead_of_response(rest, response.content_type, facts)]

    async def _relayed_in_slices(self, response: CallResponse, reading: Slices[Out]) -> AsyncGenerator[bytes, None]:
        for answer in self._head_alone():
            yield answer
        for answer in self._relayed(response, await in_slices(reading)):
            yield answer

    def _relayed(self, response: CallResponse, out: Out) -> list[bytes]:
        down, facts = self._passed_on(response, out), None
        if response.has_answered and not self._is_answered:
            self._is_answered = True
            facts = self._outcome(response, down)
        if self._patience is not None and not response.has_answered and self._without_head <= _WITHOUT_HEAD_BYTES:
            self._kept_back += 1
            return [messages.more_time(self._patience)]
        self._has_begun = True
        if self._keeps_back and response.has_answered:
            return [self._instead_of_stream(down, facts)]
        return [*self._head_alone(), *self._kept(), messages.response_piece(down, facts)]

    def _kept(self) -> list[bytes]:
        """The answers to the head, and to the pieces behind it of which the client gets nothing."""
        if self._patience is None:
            return []
        self._patience, self.decided = None, True
        return [messages.READ_RESPONSE_BODY, *[messages.response_piece(b"")] * self._kept_back]

    def _outcome(self, response: CallResponse, down: bytes) -> Mapping[str, str | int]:
        if response.error is not None:
            return {**ANSWERED, **failure(response.error)}
        return outcome_of(down, is_stream=response.content_type == transport.SSE)

    def _passed_on(self, response: CallResponse, out: Out) -> bytes:
        """What the client gets; the server's own requests are answered."""
        assert self._held is not None
        assert self._awaited is not None
        if not self._held.keep(response.held):
            out.add(response.give_up())
            self._held.keep(response.held)
        if out.is_refused:
            self._undo()
        for answer in out.up:
            if not self._processor.upstreams.post(response.server, response.session, answer, self._awaited.context):
                self._drop_answer(response.server)
        return out.down

    def _undo(self) -> None:
        self._processor.apply(self._undoing)
        self._undoing = ()

    def _goes_on(self, response: CallResponse) -> None:
        assert self._awaited is not None
        expected = self._awaited.expected
        assert expected.call.progress_token is not None
        now = self._processor.clock()
        server = self._processor.gateway.config.servers.get(response.server)
        # A worker that does not serve it any more is not asked about its requests either.
        if server is not None and now >= self._told_again:
            self._told_again = now + _TOLD_AGAIN_SECONDS
            until = now + server.timeout
            self._processor.gateway.memory.goes_on(expected.relay.view.key, expected.call.progress_token, until)

    def _drop_answer(self, server: str) -> None:
        """A server asks faster than it takes answers. Envoy sends on what it gets of a response, so waiting here would mean
        holding it."""
        self._processor.counters.add("mcp.answer_dropped", server=server)
        if not self._has_dropped:
            self._has_dropped = True
            log.event(_LOG, logging.WARNING, "answers_dropped", {
                "server": server, "reason": "it sends requests faster than it takes the answers, or was removed",
            })  # fmt: skip
