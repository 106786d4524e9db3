"""One connection of a client that listens to a merged stream: what waits to be sent to it, bounded."""

from __future__ import annotations

import asyncio
from collections import deque

_HELD_BYTES = 64 * 1024
"""Most held for a client that reads slowly, but for one event of any size; then servers have to wait."""


class Listener:
    """One connection of a client, and what it has not taken yet."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._moved = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether more may be put in."""
        return self._size < _HELD_BYTES

    def put(self, *chunks: bytes) -> None:
        """Send these, after what is there already."""
        self._chunks.extend(chunks)
        self._size += sum(map(len, chunks))
        self.wake()

    async def get(self) -> bytes | None:
        """The next to send; ``None`` where nothing more comes."""
        while not self._chunks:
            if self._ended:
                return None
            await self.moved()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        self.wake()
        return chunk

    async def over(self) -> None:
        """Until nothing more comes. What is there stays."""
        while not self._ended:
            await self.moved()

    def rest(self) -> list[bytes]:
        """Take out all that was not sent."""
        left = list(self._chunks)
        self._chunks.clear()
        self._size = 0
        self.wake()
        return left

    def end(self) -> None:
        """Nothing more is sent, and not even the rest to a client that does not take it."""
        if not self.has_room:
            self.rest()
        self._ended = True
        self.wake()

    async def moved(self) -> None:
        """Until something was put in or taken out, or another connection came or went."""
        await self._moved.wait()

    def wake(self) -> None:
        """Let everyone look again who waits for :meth:`moved`."""
        self._moved.set()
        self._moved.clear()
