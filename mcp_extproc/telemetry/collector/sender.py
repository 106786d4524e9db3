"""A queue in front of an exporter. Whoever puts something into it never waits, and what does not fit is counted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

MAX_QUEUED: Final = 16_384
MAX_QUEUED_BYTES: Final = 32 << 20
"""Most items have less than 1 KiB; clients' URIs have up to 32."""

MAX_BATCH: Final = 4_096
MAX_BATCH_BYTES: Final = 2 << 20
"""gRPC's servers take 4 MiB, unless told otherwise: what is more would be refused whole."""


class Sender:
    """Sends what is put into it, in batches.

    Args:
        export: sends a batch, and says whether it arrived. One call at a time.
        seconds: after which a batch is sent that is not full, from when the first of it is there.
        most: that wait. More are lost.
    """

    def __init__(
        self, export: Callable[[Sequence[bytes]], Awaitable[bool]], seconds: float, most: int = MAX_QUEUED
    ) -> None:
        self._export = export
        self._seconds = seconds
        self._most = most
        self._queue: deque[tuple[bytes, int]] = deque()
        """What is sent, and how many records that is."""
        self._count = 0
        self._bytes = 0
        """Of what is queued."""
        self._waits, self._full = asyncio.Event(), asyncio.Event()
        self._sending = asyncio.Lock()
        self.sent = 0
        self.lost = 0

    def put(self, item: bytes, count: int = 1) -> None:
        """Have it sent.

        Args:
            item: a record, or some that belong together.
            count: how many it is.
        """
        if self._count + count > self._most or self._bytes + len(item) > MAX_QUEUED_BYTES:
            self.lost += count
            return
        self._queue.append((item, count))
        self._count += count
        self._bytes += len(item)
        self._waits.set()
        if self._count >= MAX_BATCH or self._bytes >= MAX_BATCH_BYTES:
            self._full.set()

    async def run(self) -> None:
        """Send, until this is cancelled."""
        while True:
            await self._waits.wait()
            try:
                async with asyncio.timeout(self._seconds):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._waits.clear()
            self._full.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what is there now."""
        async with self._sending:
            left = len(self._queue)
            while left > 0:
                batch, count = self._batch()
                left -= len(batch)
                arrived = await self._export(batch)
                for item in batch:  # not before: whoever is cancelled meanwhile has lost nothing
                    self._queue.popleft()
                    self._bytes -= len(item)
                self._count -= count
                if arrived:
                    self.sent += count
                else:
                    self.lost += count

    def _batch(self) -> tuple[list[bytes], int]:
        """The first items of the queue: as many as go together, and at least one. And how many records these are."""
        batch: list[bytes] = []
        size = records = 0
        for item, count in self._queue:
            size += len(item)
            if batch and (records + count > MAX_BATCH or size > MAX_BATCH_BYTES):
                break
            records += count
            batch.append(item)
        return batch, records
