"""The response to a forwarded call, where it has to be read: bytes in, bytes out.

Most are not read. JSON passes by Python unless it may hold something that clients see differently; an event stream is read
event by event, because its events carry ids of the server.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from mcp_extproc.contract import SERVER_FAILED
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.relay.identifiers import Cursor, Identifiers, Position, id_for_server, session_checksum
from mcp_extproc.gateway.relay.progress import progress_in
from mcp_extproc.gateway.relay.server_messages import Call, Relay, Relayed
from mcp_extproc.gateway.relay.usual_answer import answer_in
from mcp_extproc.mcp import errors, jsontext, transport, versions
from mcp_extproc.mcp.compression import PIECE_BYTES, Decompressor, Undecodable, encoding_of
from mcp_extproc.mcp.envelope import messages_in
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import Scan, TooManyMembers, has_more_members
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT, EventTooLarge, SseEvent, SseParser, is_resumable, portions, render
from mcp_extproc.slices import Slices, whole

_LARGE = 256 * 1024
"""Bytes of a JSON answer that is read in a slice of its own."""

_SLICE_BYTES = 64 * 1024
"""Of an event stream that are read in one slice, in the measure of :func:`~mcp_extproc.mcp.sse.portions`."""

_MOST_LOOKS = 8
"""How often a piece of JSON that may be the last is tried to be one, for each response. Each try takes as long as what came
so far is large; counting brackets takes longer, but looks at each byte once."""


class Reading(enum.Enum):
    """How a response is read, once its head is known."""

    PASS = "not at all"  # noqa: S105 - no password
    WHOLE = "when it is complete"
    EVENTS = "event by event"


@dataclass(slots=True)
class Out:
    """What a piece of a response becomes."""

    parts: list[bytes] = field(default_factory=list)
    """For the client, joined once: of many events, that takes less than to append each."""
    up: list[bytes] = field(default_factory=list)
    """Answers to requests of the server that the client never sees."""
    is_refused: bool = False
    """Whether the request is answered with an error."""

    @property
    def down(self) -> bytes:
        """For the client."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def add(self, more: Out) -> None:
        """What the next piece becomes comes behind it."""
        self.parts += more.parts
        self.up += more.up
        self.is_refused |= more.is_refused


class ResponseHead(NamedTuple):
    """What is known of a response before its body comes."""

    status: str
    content_type: str = ""
    content_encoding: str = ""
    has_body: bool = True


class Expected(msgspec.Struct, frozen=True):
    """A response that may have to be read, before anything of it is there."""

    relay: Relay
    """Of the client's session."""
    identifiers: Identifiers
    """Seal event ids."""
    server: str
    session: UpstreamSession
    call: Call
    reads_json: bool
    """Whether JSON is read too: it may hold something that clients see differently, or its server is not trusted."""
    response_bytes: int
    """Most bytes held of a JSON answer."""
    event_bytes: int
    """Most bytes held of an event."""
    json_members: int
    """Most members of a JSON answer, or of an event."""

    @property
    def id(self) -> bytes | None:
        """Of the request, as the client wrote it; ``None`` where it is not known."""
        return self.call.id

    def reading(self, status: str, content_type: str) -> Reading:
        """How to read the body of a response with this head."""
        if status != "200":
            return Reading.PASS
        kind = transport.media_type(content_type)
        if kind == transport.SSE:
            return Reading.EVENTS
        return Reading.WHOLE if kind == transport.JSON and self.reads_json else Reading.PASS

    def usual_answer(self, chunk: bytes) -> bytes | None:
        """What the client gets for a piece of a stream that is the call's answer and no more, and of which nothing is changed;
        ``None`` for any other.

        Args:
            chunk: a piece that begins between two events.
        """
        id, size = self.call.id, len(chunk)
        if id is None or size > _SLICE_BYTES or size > self.event_bytes or size > self.json_members:
            return None
        answer = answer_in(chunk, id)
        if answer is None or id_for_server(id) != id:
            return None
        if not self.relay.lets_pass(self.server, self.session, answer.result, self.call):
            return None
        return b"data: %b\n\n" % answer.message

    def without_body(self, head: ResponseHead) -> bytes | None:
        """What the client gets instead of a response that is an answer by its head and has no body; ``None`` for others."""
        if head.has_body or head.status != "200":
            return None
        match transport.media_type(head.content_type):
            case transport.SSE:
                return CallResponse(self, Reading.EVENTS).feed(b"", end=True).down
            case transport.JSON:
                return CallResponse(self, Reading.WHOLE).feed(b"", end=True).down
        return None


class CallResponse:
    """One response that is read.

    Args:
        expected: what is known of it.
        reading: how.
        content_encoding: of its body, as the server names it.
    """

    def __init__(self, expected: Expected, reading: Reading, content_encoding: str = "") -> None:
        self._expected = expected
        self.server = expected.server
        self.session = expected.session
        self._relay = expected.relay
        self._identifiers = expected.identifiers
        self._call = expected.call
        self.id = expected.call.id
        self.wants_progress = expected.call.progress_token is not None
        self._response_bytes = expected.response_bytes
        self._event_bytes = expected.event_bytes
        self._reading = reading
        self._json_members = expected.json_members
        self._at_once = min(_SLICE_BYTES, expected.event_bytes, expected.json_members)
        """Bytes that need not be looked at for one event that is too large."""
        self._body = bytearray()
        self._scan: Scan | None = None
        self._counted = 0
        """Bytes of the body that it was fed with."""
        self._most_members = 0
        self._looked_at = 0
        """The same, for the most members that there may be."""
        self._parser = SseParser(expected.event_bytes)
        self._encoding = encoding_of(content_encoding)
        self._decompressor: Decompressor | None = None
        self._broken = False
        self._refusal = b""
        self._looks = 0
        self._brackets: Scan | None = None
        self._answered = False
        self._resumable = expected.call.is_resumed
        self.error: McpError | None = None
        """What the gateway had to answer with, as the server gave no answer."""

    @property
    def held(self) -> int:
        """Bytes of what is not complete."""
        held = len(self._body) + self._parser.held
        return held if self._decompressor is None else held + self._decompressor.held

    @property
    def content_type(self) -> str:
        """Of what the client gets."""
        return transport.SSE if self._reading is Reading.EVENTS else transport.JSON

    @property
    def has_answered(self) -> bool:
        """Whether the client has its answer, a result or an error."""
        return self._answered

    @property
    def is_complete(self) -> bool:
        """Whether the client has, or can still get, all that it waits for."""
        return self._answered or self._resumable or self.id is None

    def feed(self, chunk: bytes, *, end: bool) -> Out:
        """What the client gets for a piece of the body."""
        return whole(self.feeding(chunk, end=end))

    def feeding(self, chunk: bytes, *, end: bool) -> Slices[Out]:
        """The same in slices: others may run between two of them."""
        return self._decompressed(chunk, end=end) if self._encoding else self._plain(chunk, end=end)

    def _plain(self, chunk: bytes, *, end: bool) -> Slices[Out]:
        if self._reading is Reading.EVENTS:
            return self._events(chunk, end=end)
        return self._whole(chunk, end=end)

    def _decompressed(self, chunk: bytes, *, end: bool) -> Slices[Out]:
        out = Out()
        try:
            yield from self._decompressing(chunk, end, out)
        except Undecodable as error:
            self._break(self._error(f"answered with a body that {error} (content-encoding)"), out)
        out.add((yield from self._plain(b"", end=end)))
        return out

    def _decompressing(self, chunk: bytes, end: bool, out: Out) -> Slices[None]:
        if self._is_over:
            return
        if self._decompressor is None:
            self._decompressor = Decompressor(self._encoding, self._allowance)
        for piece in self._decompressor.feed(chunk):
            out.add((yield from self._plain(piece, end=False)))
            if self._is_over:
                return
            yield
        if end and not self.is_complete:
            self._decompressor.finish()

    @property
    def _allowance(self) -> int:
        """Bytes that a compressed chunk may become: a body that is larger is refused for its own size."""
        return self._event_bytes if self._reading is Reading.EVENTS else self._response_bytes + PIECE_BYTES

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is read."""
        return self._broken or (self._answered and self._reading is Reading.WHOLE)

    def give_up(self) -> Out:
        """What the client gets where no more of the body can be held. Nothing that comes after it is read."""
        out = Out()
        if not self._broken:
            self._break(refusals.busy(f"the answer of server '{self.server}' was not read"), out)
        return out

    def _break(self, error: McpError, out: Out) -> None:
        """It can't be read on."""
        self._broken = True
        self._body.clear()
        self._parser = SseParser(self._event_bytes)
        self._decompressor = None
        if self._reading is Reading.WHOLE:
            self._refusal = self._rendered(error)
        elif not self._answered:
            self._answered = True
            out.parts.append(render(SseEvent(self._rendered(error))))

    # -- JSON -----------------------------------------------------------------------------------------------------------

    def _whole(self, chunk: bytes, *, end: bool) -> Slices[Out]:
        if self._answered:
            return Out()
        if not self._broken:
            self._body += chunk
            try:
                yield from self._counting()
            except TooManyMembers:
                self._break(
                    self._error(f"answered with more than {self._json_members} members (limits.json_members)"), Out()
                )
        if not self._broken and len(self._body) > self._response_bytes:
            self._break(
                self._error(f"answered with more than {self._response_bytes} bytes (limits.response_bytes)"), Out()
            )
        if not (end or (yield from self._seems_complete(chunk))):
            return Out()
        if self._broken:
            self._answered = True
            return Out([self._refusal])
        if len(self._body) > _LARGE:
            yield
        body = bytes(self._body)
        self._body.clear()
        return (yield from self._answers(body))

    def _counting(self) -> Slices[None]:
        """Count members, as far as it takes to know that there are not too many.

        Raises:
            TooManyMembers: there are.
        """
        if len(self._body) <= self._json_members:
            return  # no bytes for more
        found = (self._body.count(each, self._looked_at) for each in (b",", b"{", b"["))
        self._most_members += sum(found)  # those in strings, too: there are no more
        self._looked_at = len(self._body)
        while self._most_members > self._json_members and self._counted < len(self._body):
            piece = bytes(self._body[self._counted : self._counted + _LARGE])
            self._counted += len(piece)
            if self._scan is None:
                self._scan = Scan(self._json_members)
            self._scan.feed(piece)
            if self._counted < len(self._body):
                yield

    def _seems_complete(self, chunk: bytes) -> Slices[bool]:
        """Whether the client can have its answer before the end of the body: where trailers follow, the last piece does not
        say that it is the last, and nothing can be sent after it."""
        if self._broken or self._looks == _MOST_LOOKS:
            return self._broken or (yield from self._is_closed(chunk))
        if not chunk.rstrip().endswith((b"}", b"]")):
            return False
        self._looks += 1
        if len(self._body) > _LARGE:
            yield
        return jsontext.is_json(self._body)

    def _is_closed(self, chunk: bytes) -> Slices[bool]:
        """The same for JSON that looked complete too often: its brackets are counted from now on."""
        if self._brackets is None:
            self._brackets, chunk = Scan(self._response_bytes), bytes(self._body)
        for start in range(0, len(chunk), _LARGE):
            if start:
                yield
            self._brackets.feed(chunk[start : start + _LARGE])
        return self._brackets.is_closed

    def _answers(self, body: bytes) -> Slices[Out]:
        out = Out()
        relayed = yield from self._relaying(body, out)
        down = [one.down for _, one in relayed if one.is_response and one.down is not None]
        nothing = self._error("answered with JSON that is no response to the request")
        out.parts.append(down[0] if self._answered else self._rendered(nothing))
        self._answered = True
        return out

    # -- Events ---------------------------------------------------------------------------------------------------------

    def _events(self, chunk: bytes, *, end: bool) -> Slices[Out]:
        out = Out()
        if self.wants_progress and not self._broken and self._parser.is_between_events:
            chunk = yield from self._without_progress(chunk, out)
        if chunk and not self._answered and self._pass_usual_answer(chunk, out):
            self._answered = True
        elif (event := self._parser.only(chunk)) is not None and self._is_small(event) and not self._broken:
            self._event(event, out)
        elif chunk and not self._broken:
            try:
                since = 0
                for piece, size in portions(chunk):
                    if since >= _SLICE_BYTES:
                        yield
                        since = 0
                    since += size
                    for event in self._parser.feed(piece):
                        if self._is_small(event):
                            self._event(event, out)
                        elif not (yield from self._large_event(event, out)):
                            return out
            except EventTooLarge:
                self._break(
                    self._error(f"sent an event of more than {self._event_bytes} bytes (limits.event_bytes)"), out
                )
        if end and not self._broken:
            last = self._parser.finish()
            if last is not None and last.data:
                yield from self._large_event(last, out)
            if not self.is_complete:
                self._answered = True
                out.parts.append(render(SseEvent(self._rendered(self._error("ended its stream without an answer")))))
        return out

    def _without_progress(self, chunk: bytes, out: Out) -> Slices[bytes]:
        """What stands in a piece behind the progress with which it begins. That passes at once, as many as there are."""
        token, start = self._call.progress_token or b"", 0
        while (found := progress_in(chunk, start, start + self._at_once, token)) is not None:
            out.parts.append(found.down)
            is_all, start = len(chunk) - start <= self._at_once, found.end
            if is_all:
                break
            yield
        if not start:
            return chunk
        self._parser.pass_over()
        return chunk[start:]

    def _pass_usual_answer(self, chunk: bytes, out: Out) -> bool:
        """Pass a piece on that is the call's answer, and of which nothing is changed. Returns whether it was."""
        if self._broken or not self._parser.is_between_events or (down := self._expected.usual_answer(chunk)) is None:
            return False
        self._parser.pass_over()
        out.parts.append(down)
        return True

    def _is_small(self, event: SseEvent) -> bool:
        """Whether it has too few bytes for too many members."""
        return event.data is None or len(event.data) <= self._json_members

    def _is_readable(self, event: SseEvent, out: Out) -> Slices[bool]:
        if event.data and (yield from has_more_members(event.data, self._json_members)):
            self._break(
                self._error(f"sent an event of more than {self._json_members} members (limits.json_members)"), out
            )
        return not self._broken

    def _large_event(self, event: SseEvent, out: Out) -> Slices[bool]:
        """Handle an event in slices. Returns whether more can be read."""
        if (yield from self._is_readable(event, out)):
            relayed = (yield from self._relaying(event.data, out)) if event.data else []
            self._event(event, out, relayed)
        return not self._broken

    def _event(self, event: SseEvent, out: Out, relayed: Sequence[tuple[bytes, Relayed]] | None = None) -> None:
        id = None if event.id is None else self._event_id(event.id)
        down = self._shown(event.data, out) if relayed is None else _shown(relayed)
        if len(down) > 1:
            out.parts += [render(SseEvent(message, event.event)) for message in down[:-1]]
        # A client that resumes after the id must have received all of the event.
        if down:
            out.parts.append(render(SseEvent(down[-1], event.event, id, event.retry)))
        elif self._relay.view.version >= versions.V_2025_11_25:
            # The client sees nothing of the event, but can go on after it; an id alone would not be noticed by all.
            out.parts.append(render(SseEvent(None if id is None else b"", id=id, retry=event.retry)))
        else:
            # Empty events came with 2025-11-25; clients before it fail on them.
            out.parts.append(COMMENT)
            return
        if id is not None:
            self._resumable = id != ""

    def _event_id(self, event_id: str) -> str | None:
        if not event_id:
            return ""  # from here on the stream can't be resumed
        if not is_resumable(event_id):
            return None
        cursor = Cursor(self.server, session_checksum(self.session), event_id)
        position = Position(self._call.method, (cursor,), self.id or b"")
        return self._identifiers.event_id(self._relay.view, position)

    def _shown(self, text: bytes | None, out: Out) -> list[bytes]:
        """What the client gets of an event's messages; answers of the gateway's own are in ``out``."""
        shown = []
        for message in messages_in(text) if text else ():
            one = self._relay.message(self.server, self.session, message, self._call)
            if self._counts(one, out) and (down := _down(message, one)) is not None:
                shown.append(down)
        return shown

    def _relaying(self, text: bytes, out: Out) -> Slices[list[tuple[bytes, Relayed]]]:
        """Each message of the server with the relay's decision, in slices; answers of the gateway's own are in ``out``."""
        relayed = []
        for message in messages_in(text):
            if len(message) > _LARGE:
                one = yield from self._relay.messaging(self.server, self.session, message, self._call)
            else:
                one = self._relay.message(self.server, self.session, message, self._call)
            if self._counts(one, out):
                relayed.append((message, one))
        return relayed

    def _counts(self, relayed: Relayed, out: Out) -> bool:
        """Whether a message of the server is one: of responses the first is. What it means is noted."""
        if relayed.is_response:
            if self._answered:
                return False
            self._answered = True
        out.is_refused |= relayed.is_error
        if relayed.up is not None:
            out.up.append(relayed.up)
        return True

    # -- Failures -------------------------------------------------------------------------------------------------------

    def _error(self, what: str) -> McpError:
        message = f"No answer: server '{self.server}' {what}."
        return McpError(errors.INTERNAL_ERROR, message, reason=SERVER_FAILED)

    def _rendered(self, error: McpError) -> bytes:
        self.error = error
        return errors.render(error.about(self.id))


def _shown(relayed: Sequence[tuple[bytes, Relayed]]) -> list[bytes]:
    """What the client gets of an event's messages."""
    return [down for message, one in relayed if (down := _down(message, one)) is not None]


def _down(message: bytes, relayed: Relayed) -> bytes | None:
    return message if relayed.changed is not None else relayed.down
