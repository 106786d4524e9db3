"""A worker tells the collector, once a second, what it did itself and how it is."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mcp_extproc.bounded import Lookups
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.accumulator import Accumulator
from mcp_extproc.telemetry.memory import resident_bytes
from mcp_extproc.telemetry.report import State

SECONDS: Final = 1.0


class Reporter:
    """Of one worker.

    Args:
        connection: to the collector.
        accumulator: has what is to be told.
        streams: how many clients have open.
        sessions: how many began here, and last.
        caches: what was looked for in them, by name.
    """

    def __init__(
        self,
        connection: socket.socket,
        accumulator: Accumulator,
        streams: Callable[[], int],
        sessions: Callable[[], int],
        caches: Mapping[str, Lookups],
    ) -> None:
        self._connection = connection
        self._accumulator = accumulator
        self._streams = streams
        self._sessions = sessions
        self._caches = caches
        self._told = dict.fromkeys(caches, (0, 0))
        self._started = time.time()
        self._unsent: deque[bytes] = deque()
        self._tasks = Tasks(log.logger("worker"))

    @property
    def waits(self) -> bool:
        """Whether something could not be told yet."""
        return bool(self._unsent)

    def start(self) -> None:
        """Report from now on."""
        self._tasks.keep("report", self._run)

    async def close(self) -> None:
        """Report a last time."""
        await self._tasks.close()
        self._tell(None)
        self._connection.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SECONDS
            await asyncio.sleep(SECONDS)
            lag = max(0.0, loop.time() - due)
            self._accumulator.lagged(lag)
            self._tell(
                State(
                    at=time.time(),
                    started=self._started,
                    streams=self._streams(),
                    sessions=self._sessions(),
                    rss=resident_bytes(),
                    lag=lag,
                )
            )

    def _tell(self, state: State | None) -> None:
        if not self._unsent:
            self._look_at_caches()
            self._unsent.extend(map(msgspec.json.encode, self._accumulator.take(state)))
        try:
            while self._unsent:
                self._connection.send(self._unsent[0], socket.MSG_DONTWAIT)
                self._unsent.popleft()
        except BlockingIOError:
            pass  # the collector is busy, or away: later
        except OSError:
            self._unsent.clear()  # nobody will ever read it

    def _look_at_caches(self) -> None:
        for name, lookups in self._caches.items():
            hits, misses = self._told[name]
            self._accumulator.looked_up(name, lookups.hits - hits, lookups.misses - misses)
            self._told[name] = lookups.hits, lookups.misses
