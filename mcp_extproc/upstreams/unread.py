"""What Envoy may have of clients' streams that nobody reads.

Envoy takes all that a worker gives it for a stream of the worker's own, and says nothing of what the client took
(docs/protocol.md, "Streams"). So what was given counts as unread until the client leaves, or until Envoy has ended a
connection that takes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LEAST_BYTES = 64 * 1024
"""What a session may always have, however many others there are."""

_PART = 4
"""A session may have this part of what is free: so there is always some for the next one."""


@dataclass(slots=True)
class _Session:
    """One client session's bytes.

    Attributes:
        open: given to streams that are open.
        ended: given to streams that have ended, and perhaps still with Envoy.
        streams: how many are open.
    """

    open: int = 0
    ended: int = 0
    streams: int = 0


@dataclass(slots=True)
class Unread:
    """All streams of a worker.

    Args:
        most: bytes that sessions share.
        stream_bytes: after which a stream ends. Its client, if it reads, opens the next one.
        seconds: after which Envoy has ended a connection that takes nothing.
        clock: seconds, monotonic.
    """

    most: int
    stream_bytes: int
    seconds: float
    clock: Callable[[], float]
    _given: int = 0
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _ended: deque[tuple[float, str, int]] = field(default_factory=deque)
    """When, whose and how many bytes are with Envoy no more."""

    @property
    def bytes(self) -> int:
        """What Envoy may have of all."""
        self._forget()
        return self._given

    @contextmanager
    def stream(self, session: str) -> Iterator[Given]:
        """A stream, for as long as it is open."""
        mine = self._sessions.setdefault(session, _Session())
        mine.streams += 1
        given = Given(self, mine)
        try:
            yield given
        finally:
            mine.streams -= 1
            mine.open -= given.bytes
            if given.is_ended and given.bytes:
                mine.ended += given.bytes
                self._ended.append((self.clock() + self.seconds, session, given.bytes))
            else:
                self._given -= given.bytes
            self._clean(session, mine)

    def add(self, size: int) -> None:
        """So many bytes more were given."""
        self._given += size

    @property
    def share(self) -> int:
        """Bytes that one session may have."""
        self._forget()
        return max(LEAST_BYTES, (self.most - self._given) // _PART)

    def _forget(self) -> None:
        now = self.clock()
        while self._ended and self._ended[0][0] <= now:
            _, session, size = self._ended.popleft()
            self._given -= size
            mine = self._sessions[session]
            mine.ended -= size
            self._clean(session, mine)

    def _clean(self, session: str, mine: _Session) -> None:
        if not mine.streams and not mine.ended:
            self._sessions.pop(session, None)


class Given:
    """What one stream was given.

    Args:
        all: of the worker.
        session: of its client.
    """

    def __init__(self, all: Unread, session: _Session) -> None:
        self._all = all
        self._session = session
        self.bytes = 0
        self.is_ended = False
        """Whether it ended by itself, and not because the client left."""

    @property
    def is_full(self) -> bool:
        """Whether the stream has to end, so that what it was given can be told from what is read."""
        return self.bytes >= self._all.stream_bytes or self._session.open >= self._all.share

    @property
    def has_room(self) -> bool:
        """Whether it may be given more now."""
        return self._session.open + self._session.ended < self._all.share

    async def counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks of the stream, which are given as they are taken from here."""
        async for chunk in chunks:
            self.bytes += len(chunk)
            self._session.open += len(chunk)
            self._all.add(len(chunk))
            yield chunk
        self.is_ended = True
