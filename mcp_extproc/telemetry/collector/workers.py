"""What workers and their supervisor tell: counts and spans are passed on, and how each of them is, is kept for a moment."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.instruments import (
    COLLECTOR_RESTARTS,
    MEMORY,
    STREAMS,
    WORKER_RESTARTS,
    WORKERS,
)
from mcp_extproc.telemetry.recordings import Labels
from mcp_extproc.telemetry.report import MAX_BYTES, Report, State
from mcp_extproc.telemetry.restarts import RestartCounts
from mcp_extproc.telemetry.totals import Family

SILENT_SECONDS: Final = 10.0
"""After which nothing is known of a worker any more. Each reports once a second."""

_AT_A_TIME: Final = 64
"""Messages that are read before others have their turn."""

_LOG = log.logger("collector")


class WorkerState(State, frozen=True, kw_only=True):
    """A worker as it was when it reported last.

    Attributes:
        pid: its process id.
    """

    pid: int


class Workers:
    """All of them.

    Args:
        take: takes what they have counted, and their spans.
        clock: Unix time in seconds.
    """

    def __init__(self, take: Callable[[Report], None], clock: Callable[[], float]) -> None:
        self._take = take
        self._clock = clock
        self._decode = msgspec.json.Decoder(Report).decode
        self._states: dict[int, WorkerState] = {}
        self.restarts: RestartCounts | None = None
        """What the supervisor has counted; ``None`` where it has told nothing."""
        self.spans_lost = 0
        """Spans for which they had no room."""

    def listen(self, connection: socket.socket) -> None:
        """Take what comes, from now on."""
        asyncio.get_running_loop().add_reader(connection, self._on_readable, connection)

    def _on_readable(self, connection: socket.socket) -> None:
        for _ in range(_AT_A_TIME):
            try:
                raw = connection.recv(MAX_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not raw:  # all who could write are gone
                asyncio.get_running_loop().remove_reader(connection)
                return
            self.take(raw)

    def take(self, raw: bytes) -> None:
        """One message."""
        try:
            report = self._decode(raw)
        except msgspec.DecodeError as error:
            log.event(_LOG, logging.ERROR, "report_unreadable", {"bytes": len(raw), "why": str(error)})
            return
        if report.is_last:
            self._states.pop(report.pid, None)
        if report.state is not None:
            self._states[report.pid] = WorkerState(pid=report.pid, **msgspec.structs.asdict(report.state))
        self.restarts = report.restarts or self.restarts
        self.spans_lost += report.spans_lost
        self._take(report)

    def state(self) -> list[WorkerState]:
        """Those that are there, the one that has been longest first."""
        now = self._clock()
        self._states = {pid: each for pid, each in self._states.items() if now - each.at < SILENT_SECONDS}
        return sorted(self._states.values(), key=lambda each: (each.started, each.pid))

    def families(self) -> Iterator[Family]:
        """What metrics have of it. Nothing is said of what nobody has reported."""
        if self.restarts is not None:
            yield Family(WORKER_RESTARTS, {(): self.restarts.worker}, {})
            yield Family(COLLECTOR_RESTARTS, {(): self.restarts.collector}, {})
        if states := self.state():
            yield Family(WORKERS, {(): len(states)}, {})
            yield Family(STREAMS, {(): sum(each.streams for each in states)}, {})
            memory = {memory_labels("worker", each.pid): float(each.rss) for each in states if each.rss is not None}
            yield Family(MEMORY, memory, {})


def memory_labels(process: str, pid: int) -> Labels:
    """Of :data:`MEMORY`."""
    return ((names.PROCESS, process), (names.PID, str(pid)))
