"""One session: which of a server's messages goes to which HTTP response.

In stdio nothing says which request a message is about, save a response's id and a progress token. So a message of neither
kind goes to the stream that the client opened for such messages (GET), to that of a running call of the client's if there
is none, and waits if there is no call either (MCP 2025-11-25 basic/transports, Streamable HTTP: each message goes on one
stream). It does not go to a list, which may be the gateway's own: the client would not see it, and what a server asks as soon
as a session begins, such as the client's roots, would be refused where the client's stream takes a moment longer. Only what it
has asked since a list began, which takes long, goes there where nobody else listens: it may be waiting for an answer. Log
messages are mostly about a call that is running, and on another stream they could overtake its result, or be overtaken; so
they go to such a call first.

No I/O here: messages go in, and whoever writes a response takes them out of its stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mcp_extproc.bridge.messages import Incoming, Key, Kind, failure, key_of, token_of, unsupported
from mcp_extproc.bridge.peer import NO_ROOM
from mcp_extproc.held import Holding, Part
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import INVALID_REQUEST, McpError

MAX_CALLS = 1000
"""Most requests of one session that have no answer yet."""

_MAX_WAITING = 1000
"""Most messages that wait for a stream."""


class DuplicateId(McpError):
    """The id of a request is one that is not answered yet: two answers could not be told apart."""

    def __init__(self, id: bytes) -> None:
        super().__init__(INVALID_REQUEST, "A request with this id is not answered yet.", reason="duplicate_id", id=id)


class TooManyCalls(McpError):
    """A session has more requests without an answer than are kept."""

    def __init__(self, id: bytes) -> None:
        super().__init__(
            INVALID_REQUEST, f"More than {MAX_CALLS} requests of this session are not answered yet.",
            reason="too_many_calls", id=id,
        )  # fmt: skip


class Stream:
    """Messages for one HTTP response, until they are written to it.

    Args:
        part: has what is held of them.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._messages: deque[bytes] = deque()
        self._written = 0
        """Bytes of the message that was taken last: it is held until the next one is asked for."""
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self.size = 0
        """Bytes that wait, or are being written."""
        self.ended = False
        """Whether nothing more comes after what waits."""
        self.has_failed = False
        """Whether its last message is an error of the bridge's own."""
        self.on_cut: Callable[[], object] = lambda: None
        """Called when it is given up before it is read."""

    def put(self, message: bytes, source: Part | None = None) -> bool:
        """Add a message, if there is room for it.

        Args:
            message: its text.
            source: has what is held of it so far.
        """
        if not self._part.take_over(source, len(message)):
            return False
        self._add(message)
        return True

    def finish(self, last: bytes) -> None:
        """Add an error of the bridge's own as the last message: a short one, for which there is always room."""
        self._add(last)
        self.has_failed = True
        self._part.keep(self.size)
        self.end()

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self._more.set()
        self._less.set()

    def close(self) -> None:
        """Nobody reads it any more."""
        self._messages.clear()
        self._written = self.size = 0
        self._part.keep(0)
        self.end()

    def cut(self) -> None:
        """Close it while somebody may still be reading: what was written already is given up, too."""
        self.close()
        self.on_cut()

    @property
    def is_answer_alone(self) -> bool:
        """Whether one message is all that comes."""
        return self.ended and len(self._messages) == 1

    def take(self) -> bytes | None:
        """The next message, if there is one. It counts as held until the next is asked for."""
        if self._written:
            self.size -= self._written
            self._written = 0
            self._part.keep(self.size)
            self._less.set()
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._written = len(message)
        return message

    async def next(self) -> bytes | None:
        """The next message, as soon as there is one; ``None`` where none comes any more."""
        while (message := self.take()) is None and not self.ended:
            await self.something()
        return message

    async def something(self) -> None:
        """Wait until there is a message, or none comes any more."""
        while not self._messages and not self.ended:
            self._more.clear()
            await self._more.wait()

    async def room(self, max_bytes: int) -> None:
        """Wait until no more than so many bytes wait, or nobody adds to them any more."""
        while self.size > max_bytes and not self.ended:
            self._less.clear()
            await self._less.wait()

    def _add(self, message: bytes) -> None:
        self._messages.append(message)
        self.size += len(message)
        self._more.set()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What is kept of a message that waits for a stream. Its members, taken apart, would be many times its text."""

    text: bytes
    id: bytes | None
    """JSON text of the id under which the server wants an answer."""
    number: int
    """How many calls there were before."""


@dataclass(slots=True)
class Call:
    """A request that has no answer yet."""

    id: bytes
    key: Key
    """The id, to compare."""
    token: Key | None
    stream: Stream | None
    """``None`` once the client is gone: that does not cancel a call (basic/transports, Sending Messages 6)."""
    is_clients_own: bool
    """Whether the client sees what goes to its stream. The gateway has requests of its own, which it does not tell the client
    of."""
    number: int
    """How many there were with it."""
    is_lent: bool = False
    """Whether what the server asks meanwhile may go to its stream, whosesoever it is."""


class Conversation:
    """The calls and streams of one session.

    Args:
        holding: has what is held of messages to the client.
        waiting_bytes: most bytes of those that wait for a stream.
    """

    def __init__(self, holding: Holding, waiting_bytes: int) -> None:
        self._holding = holding
        self._late = holding.part()
        self._waiting_bytes = waiting_bytes
        self._calls: dict[Key, Call] = {}
        self._number = 0
        """Of the newest call."""
        self._tokens: dict[Key, Call] = {}
        self._streams: list[Stream] = []
        """Opened by GET, the newest last."""
        self._waiting: deque[_Waiting] = deque()
        self._waiting_size = 0
        self.dropped = 0
        """Messages that nobody was there for, or that there was no room for."""

    @property
    def is_used(self) -> bool:
        """Whether a client waits for something: an answer, or messages on a stream."""
        return bool(self._streams) or self.has_calls

    @property
    def has_calls(self) -> bool:
        """Whether a client waits for an answer."""
        return any(call.stream is not None for call in self._calls.values())

    def stream(self) -> Stream:
        """For an HTTP response to the client."""
        return Stream(self._holding.part())

    def call(self, request: Request, stream: Stream) -> Call:
        """Note a request that is about to be sent. Its answer, and what else is about it, goes to ``stream``.

        Raises:
            McpError: it can't be told from another one, or there are too many.
        """
        key = key_of(request.id)
        if key in self._calls:
            raise DuplicateId(request.id)
        if len(self._calls) >= MAX_CALLS:
            raise TooManyCalls(request.id)
        token = token_of(request)
        method = methods.REQUESTS.get(request.method)
        self._number += 1
        call = self._calls[key] = Call(
            request.id,
            key,
            None if token is None else key_of(token),
            stream,
            method is not None and method.is_for_one_server,
            self._number,
        )
        if call.token is not None:
            self._tokens[call.token] = call
        self._settle()
        return call

    def lend(self, call: Call) -> None:
        """Let what the server asks while this one runs go to its stream if there is no other: it may be waiting for an answer
        before it gives its own."""
        call.is_lent = True
        self._settle()

    def listen(self, stream: Stream) -> None:
        """Send what is not about a call to a stream, and first of all what has waited for one."""
        self._streams.append(stream)
        self._settle()

    def leave(self, stream: Stream) -> None:
        """Nobody reads a stream any more: whoever waits for room in it goes on."""
        stream.close()
        self._streams = [other for other in self._streams if other is not stream]
        for call in self._calls.values():
            if call.stream is stream:
                call.stream = None

    def destination(self, message: Incoming) -> Stream | None:
        """The stream that a message would go to now; ``None`` where there is none."""
        call = self._call_of(message)
        if call is not None:
            return call.stream
        if message.kind is Kind.RESPONSE or message.progress is not None:
            return None
        if message.is_log:
            return self._own() or self._common()
        return self._common() or (None if message.id is None else self._lent(self._number))

    def receive(self, message: Incoming, source: Part | None = None) -> list[bytes]:
        """Take a message of the server to its stream. Returns what is to be answered to the server instead.

        Args:
            message: of the server.
            source: has what is held of it so far.
        """
        if message.kind is Kind.RESPONSE:
            call = self._call_of(message)
            if call is not None and message.why is not None:
                self._end(call, message.text)
            elif call is not None:
                return self._answer(call, message.text, source)
            return []
        stream = self.destination(message)
        if stream is not None:
            return [] if stream.put(message.text, source) else self._drop([message.id])
        if message.progress is not None:
            return []
        return self._wait(_Waiting(message.text, message.id, self._number), source)

    def running(self, id: bytes) -> Call | None:
        """The call under an id."""
        return self._calls.get(key_of(id))

    def fail(self, call: Call, why: str) -> None:
        """Answer a call with an error, unless it has an answer."""
        if self._calls.get(call.key) is call:
            self._end(call, failure(call.id, why))

    def forget(self, call: Call) -> None:
        """End a call without an answer, unless it has one: nobody waits for it."""
        if self._calls.get(call.key) is call:
            self._end(call, None)

    def end(self, why: str) -> None:
        """The server is gone: answer all calls with an error, and end all streams."""
        for call in list(self._calls.values()):
            self._end(call, failure(call.id, why))
        self.stop_listening()
        self._waiting.clear()
        self._waiting_size = 0
        self._late.keep(0)

    def taken_dropped(self) -> int:
        """Messages that were dropped since this was asked last."""
        dropped, self.dropped = self.dropped, 0
        return dropped

    def stop_listening(self) -> None:
        """End the streams for what is about no call."""
        for stream in self._streams:
            stream.end()
        self._streams = []

    def _call_of(self, message: Incoming) -> Call | None:
        if message.key is None:
            return None
        return (self._calls if message.kind is Kind.RESPONSE else self._tokens).get(message.key)

    def _common(self) -> Stream | None:
        """Where messages go that are about no call."""
        return self._streams[-1] if self._streams else self._own()

    def _own(self) -> Stream | None:
        """The stream of a running call of the client's."""
        calls = (call.stream for call in self._calls.values() if call.is_clients_own and call.stream is not None)
        return next(calls, None)

    def _lent(self, number: int) -> Stream | None:
        """Where goes what the server asked when there had been so many calls, if nobody else listens."""
        for call in self._calls.values():
            if call.is_lent and call.number <= number and call.stream is not None:
                return call.stream
        return None

    def _answer(self, call: Call, text: bytes, source: Part | None) -> list[bytes]:
        dropped: list[bytes | None] = []
        while not (kept := call.stream is None or call.stream.put(text, source)) and self._waiting:
            dropped.append(
                self._oldest().id
            )  # What waits for somebody to listen is worth less than what is waited for.
        self._end(call, None if kept else failure(call.id, f"The server's answer was not kept: {NO_ROOM}."))
        return self._drop(dropped)

    def _end(self, call: Call, last: bytes | None) -> None:
        del self._calls[call.key]
        if call.token is not None and self._tokens.get(call.token) is call:
            del self._tokens[call.token]
        if call.stream is not None and last is not None:
            call.stream.finish(last)
        elif call.stream is not None:
            call.stream.end()

    def _wait(self, message: _Waiting, source: Part | None) -> list[bytes]:
        dropped: list[bytes | None] = []
        while not self._has_room(message, source):
            if not self._waiting:
                return self._drop([*dropped, message.id])
            dropped.append(self._oldest().id)
        self._waiting.append(message)
        self._waiting_size += len(message.text)
        return self._drop(dropped)

    def _has_room(self, message: _Waiting, source: Part | None) -> bool:
        size = len(message.text)
        if len(self._waiting) >= _MAX_WAITING or self._waiting_size + size > self._waiting_bytes:
            return False
        return self._late.take_over(source, size)

    def _oldest(self) -> _Waiting:
        oldest = self._waiting.popleft()
        self._waiting_size -= len(oldest.text)
        self._late.keep(self._waiting_size)
        return oldest

    def _settle(self) -> None:
        stream = self._common()
        if stream is None:
            return self._settle_questions()
        while self._waiting and stream.put(self._waiting[0].text, self._late):
            self._waiting_size -= len(self._waiting.popleft().text)
        return None

    def _settle_questions(self) -> None:
        """Only what a server may be waiting for an answer to. All else waits for a stream that the client sees."""
        left: deque[_Waiting] = deque()
        for waiting in self._waiting:
            stream = None if waiting.id is None else self._lent(waiting.number)
            if stream is not None and stream.put(waiting.text, self._late):
                self._waiting_size -= len(waiting.text)
            else:
                left.append(waiting)
        self._waiting = left

    def _drop(self, ids: list[bytes | None]) -> list[bytes]:
        """What is to be answered to the server. Messages without an id want no answer."""
        self.dropped += len(ids)
        return [unsupported(id) for id in ids if id is not None]
