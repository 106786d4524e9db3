"""Reads the named pipe into which an Envoy of this machine writes its records (:mod:`mcp_extproc.run.records_pipe`).

What is in it while nobody reads stays there, and what has no room waits in Envoy, whose requests wait for neither. So nothing
is lost while a collector is replaced, but what one had read when it died.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable
from typing import Final, Protocol

from mcp_extproc.address import PipeAddress
from mcp_extproc.telemetry import log

_CHUNK_BYTES: Final = 128 << 10
"""Read at once: some three hundred lines, which take a few milliseconds."""

_GATHER_SECONDS: Final = 0.2
"""From the first bytes until they are read, with all that has come by then. Envoy writes in pieces, and whoever wakes up for
each of them finds its data in no cache."""
_GATHERS_IN: Final = 1 << 20
"""Bytes that a pipe holds in which they wait. One that the system keeps smaller would be full before."""

_LAST_CHUNKS: Final = 1024
"""Read at the end, at most: what is in the pipe then."""

_LOG = log.logger("collector")


class CountsLines(Protocol):
    """Counts what is read, where it outlives this process."""

    def taking(self, lines: int) -> None:
        """Lines were taken out of the pipe."""


class PipeReader:
    """Reads it. Make it where its event loop runs.

    Args:
        address: of the pipe, which is there.
        take: what is done with their lines, whatever parts of them come. Returns how many of these are none.
        count: counts them first.

    Raises:
        OSError: it can't be read.
    """

    def __init__(self, address: PipeAddress, take: Callable[[bytes], int], count: CountsLines) -> None:
        self._take = take
        self._count = count
        # For writing, too: it has no end then, whoever else writes and ends.
        self._descriptor = os.open(address.path, os.O_RDWR | os.O_NONBLOCK)
        room = fcntl.fcntl(self._descriptor, fcntl.F_GETPIPE_SZ)
        self._gather_seconds = _GATHER_SECONDS if room >= _GATHERS_IN else 0.0
        self._loop = asyncio.get_running_loop()
        self._reading: asyncio.TimerHandle | asyncio.Handle | None = None
        self._wait()

    def _wait(self) -> None:
        self._reading = None
        self._loop.add_reader(self._descriptor, self._gather)

    def _gather(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._reading = self._loop.call_later(self._gather_seconds, self._read_on)

    def _read_on(self) -> None:
        """Read until there is no more, and let others run in between."""
        try:
            is_empty = not self._read()
        except BaseException:
            self._wait()
            raise
        if is_empty:
            self._wait()
        else:
            self._reading = self._loop.call_soon(self._read_on)

    def _read(self) -> bool:
        """Read a part. Returns whether there was any."""
        try:
            chunk = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        self._count.taking(chunk.count(b"\n"))
        if unreadable := self._take(chunk):
            log.event(_LOG, logging.ERROR, "record_unreadable", {"lines": unreadable})
        return True

    async def stop(self) -> None:
        """Read what is there, and no more."""
        self._loop.remove_reader(self._descriptor)
        if self._reading is not None:
            self._reading.cancel()
        for _ in range(_LAST_CHUNKS):
            if not self._read():
                break
        os.close(self._descriptor)
