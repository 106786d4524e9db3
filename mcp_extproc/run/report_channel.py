"""The way on which workers tell the collector what they did: a pair of sockets, whose ends they inherit.

So there is no address and no path, whatever workers listen at. Both ends stay open here: what is told while there is no
collector waits for the next one, as far as the system holds it; a worker keeps the rest.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import msgspec

from mcp_extproc.telemetry.restarts import RestartCounts


class ReportChannel:
    """Of one gateway. Nothing is opened before it is used."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self.restarts = RestartCounts()
        """What the supervisor counts."""

    @property
    def collector_end(self) -> int:
        """The descriptor that the collector inherits."""
        return self._opened()[0].fileno()

    @property
    def worker_end(self) -> int:
        """The descriptor that workers inherit."""
        return self._opened()[1].fileno()

    def tell_restarts(self) -> None:
        """Tell the collector how many there were. The next one is told when it begins."""
        self._tell({"restarts": self.restarts})

    def tell_end(self, pid: int) -> None:
        """Tell the collector that a worker is gone, which it may not have said itself."""
        self._tell({"pid": pid, "is_last": True})

    def close(self) -> None:
        """Close both ends."""
        for end in self._ends or ():
            end.close()
        self._ends = None

    def _tell(self, report: object) -> None:
        # A `Report`, whose module brings all that spans are made of, which the supervisor has no use for.
        if self._ends is not None:
            with suppress(BlockingIOError):  # nobody reads
                self._ends[1].send(msgspec.json.encode(report), socket.MSG_DONTWAIT)

    def _opened(self) -> tuple[socket.socket, socket.socket]:
        if self._ends is None:
            self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return self._ends
