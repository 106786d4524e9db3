"""One session: which of a server's messages goes to which HTTP response.

In stdio nothing says which request a message is about, save a response's id and a progress token. So a message of neither
kind goes to the stream that the client opened for such messages (GET), to that of a running call if there is none, and waits
if there is no call either (MCP 2025-11-25 basic/transports, Streamable HTTP: each message goes on one stream).

No I/O here: messages go in, and whoever writes a response takes them out of its stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mcp_extproc.bridge.messages import Incoming, Key, Kind, failure, key_of, token_of, unsupported
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
    """Messages for one HTTP response, until somebody takes them."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self.size = 0
        """Bytes that wait."""
        self.ended = False
        """Whether nothing more comes after what waits."""

    def put(self, message: bytes) -> None:
        """Add a message."""
        self._messages.append(message)
        self.size += len(message)
        self._more.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self._more.set()
        self._less.set()

    def take(self) -> bytes | None:
        """The next message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self.size -= len(message)
        self._less.set()
        return message

    async def next(self) -> bytes | None:
        """The next message, as soon as there is one; ``None`` where none comes any more."""
        while True:
            self._more.clear()
            if (message := self.take()) is not None or self.ended:
                return message
            await self._more.wait()

    async def room(self, max_bytes: int) -> None:
        """Wait until no more than so many bytes wait, or nobody adds to them any more."""
        while self.size > max_bytes and not self.ended:
            self._less.clear()
            await self._less.wait()


@dataclass(slots=True)
class Call:
    """A request that has no answer yet."""

    id: bytes
    token: Key | None
    stream: Stream | None
    """``None`` once the client is gone: that does not cancel a call (basic/transports, Sending Messages 6)."""


class Conversation:
    """The calls and streams of one session.

    Args:
        waiting_bytes: most bytes of messages that wait for a stream.
    """

    def __init__(self, waiting_bytes: int) -> None:
        self._waiting_bytes = waiting_bytes
        self._calls: dict[Key, Call] = {}
        self._tokens: dict[Key, Call] = {}
        self._streams: list[Stream] = []
        """Opened by GET, the newest last."""
        self._waiting: deque[Incoming] = deque()
        self._waiting_size = 0
        self.dropped = 0
        """Messages that nobody was there for."""

    @property
    def is_used(self) -> bool:
        """Whether a client waits for something: an answer, or messages on a stream."""
        return bool(self._streams) or self.has_calls

    @property
    def has_calls(self) -> bool:
        """Whether a client waits for an answer."""
        return any(call.stream is not None for call in self._calls.values())

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
        call = self._calls[key] = Call(request.id, None if token is None else key_of(token), stream)
        if call.token is not None:
            self._tokens[call.token] = call
        self._settle()
        return call

    def listen(self, stream: Stream) -> None:
        """Send what is not about a call to a stream, and first of all what has waited for one."""
        self._streams.append(stream)
        self._settle()

    def leave(self, stream: Stream) -> None:
        """Nobody reads a stream any more: whoever waits for room in it goes on."""
        stream.end()
        self._streams = [other for other in self._streams if other is not stream]
        for call in self._calls.values():
            if call.stream is stream:
                call.stream = None

    def destination(self, message: Incoming) -> Stream | None:
        """The stream that a message would go to now; ``None`` where there is none."""
        call = self._call_of(message)
        if call is not None:
            return call.stream
        return None if message.kind is Kind.RESPONSE or message.progress is not None else self._common()

    def receive(self, message: Incoming) -> list[bytes]:
        """Take a message of the server to its stream. Returns what is to be answered to the server instead."""
        call = self._call_of(message)
        if message.kind is Kind.RESPONSE:
            if call is not None:
                self._answer(call, message.text)
            return []
        if call is not None and call.stream is not None:
            call.stream.put(message.text)
        elif message.progress is None and (stream := self._common()) is not None:
            stream.put(message.text)
        elif message.progress is None:
            return self._wait(message)
        return []

    def running(self, id: bytes) -> Call | None:
        """The call under an id."""
        return self._calls.get(key_of(id))

    def fail(self, call: Call, why: str) -> None:
        """Answer a call with an error, unless it has an answer."""
        if self.running(call.id) is call:
            self._answer(call, failure(call.id, why))

    def end(self, why: str) -> None:
        """The server is gone: answer all calls with an error, and end all streams."""
        for call in list(self._calls.values()):
            self._answer(call, failure(call.id, why))
        self.stop_listening()
        self._waiting.clear()
        self._waiting_size = 0

    def stop_listening(self) -> None:
        """End the streams for what is about no call."""
        for stream in self._streams:
            stream.end()
        self._streams = []

    def _call_of(self, message: Incoming) -> Call | None:
        if message.kind is Kind.RESPONSE and message.id is not None:
            return self._calls.get(key_of(message.id))
        return self._tokens.get(key_of(message.progress)) if message.progress is not None else None

    def _common(self) -> Stream | None:
        """Where messages go that are about no call."""
        if self._streams:
            return self._streams[-1]
        return next((call.stream for call in self._calls.values() if call.stream is not None), None)

    def _answer(self, call: Call, text: bytes) -> None:
        del self._calls[key_of(call.id)]
        if call.token is not None and self._tokens.get(call.token) is call:
            del self._tokens[call.token]
        if call.stream is not None:
            call.stream.put(text)
            call.stream.end()

    def _wait(self, message: Incoming) -> list[bytes]:
        self._waiting.append(message)
        self._waiting_size += len(message.text)
        dropped = []
        while len(self._waiting) > _MAX_WAITING or self._waiting_size > self._waiting_bytes:
            oldest = self._waiting.popleft()
            self._waiting_size -= len(oldest.text)
            dropped.append(oldest)
        self.dropped += len(dropped)
        return list(_answers(dropped))

    def _settle(self) -> None:
        stream = self._common()
        while stream is not None and self._waiting:
            message = self._waiting.popleft()
            self._waiting_size -= len(message.text)
            stream.put(message.text)


def _answers(dropped: Iterable[Incoming]) -> Iterable[bytes]:
    return (unsupported(message.id) for message in dropped if message.id is not None)
