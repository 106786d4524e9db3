"""A queue in front of an exporter. Whoever puts something into it never waits, and what does not fit is counted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_QUEUED: Final = 16_384
MAX_BATCH: Final = 2_048


class Sender(Generic[T]):
    """Sends what is put into it, in batches.

    Args:
        export: sends a batch, and says whether it arrived. One call at a time.
        seconds: after which a batch is sent that is not full.
        most: that wait. More are lost.
    """

    def __init__(
        self, export: Callable[[Sequence[T]], Awaitable[bool]], seconds: float, most: int = MAX_QUEUED
    ) -> None:
        self._export = export
        self._seconds = seconds
        self._most = most
        self._queue: deque[T] = deque()
        self._full = asyncio.Event()
        self._sending = asyncio.Lock()
        self.sent = 0
        self.lost = 0

    def put(self, item: T) -> None:
        """Have it sent."""
        if len(self._queue) >= self._most:
            self.lost += 1
            return
        self._queue.append(item)
        if len(self._queue) >= MAX_BATCH:
            self._full.set()

    async def run(self) -> None:
        """Send, until this is cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what is there now."""
        async with self._sending:
            for _ in range(-(-len(self._queue) // MAX_BATCH)):
                batch = [*islice(self._queue, MAX_BATCH)]
                arrived = await self._export(batch)
                for _ in batch:  # not before: whoever is cancelled meanwhile has lost nothing
                    self._queue.popleft()
                if arrived:
                    self.sent += len(batch)
                else:
                    self.lost += len(batch)
