"""The named pipe between an Envoy of this machine and the collector, as their supervisor keeps it. The collector reads it
(:mod:`mcp_extproc.telemetry.collector.pipe_reader`).

It is there before Envoy, which would make a file of that name otherwise, and grows by nothing: what has no room in it waits in
Envoy. So that this has a bound, too, the supervisor throws away what nobody reads for a few seconds, and counts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import select
import stat
import struct
import termios
from pathlib import Path
from typing import Final

from mcp_extproc.address import PipeAddress
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.received import Received, received_file

PIPE_BYTES: Final = 1 << 20
"""What it holds, if the system lets it (/proc/sys/fs/pipe-max-size): some three thousand records."""

LOOK_SECONDS: Final = 0.5
PATIENCE: Final = 6
"""Looks in a row at which it is full. Then nobody reads it, or too slowly for Envoy."""

_CHUNK_BYTES: Final = 1 << 20
_PAUSE_SECONDS: Final = 0.02
"""For Envoy to write what has waited."""
_QUIET: Final = 10
"""Pauses in a row after which it was not full."""
_NUMBER: Final = struct.Struct("i")

_LOG = log.logger("collector")


class RecordsPipe:
    """Make it before Envoy is started.

    Args:
        address: where it is made, readable by its owner only.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, address: PipeAddress) -> None:
        path = Path(address.path)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Both ways: to open it waits for nobody.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        if not stat.S_ISFIFO(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            os.close(self._descriptor)
            raise FileExistsError(
                f"{path} is no named pipe of this user's alone: end the Envoy that made a file of it, remove it, and start"
                " this first"
            )
        with contextlib.suppress(OSError):  # a smaller one will do
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._room = fcntl.fcntl(self._descriptor, fcntl.F_GETPIPE_SZ)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._received = Received(received_file(address.path))
        self._tasks = Tasks(_LOG)

    def watch(self) -> None:
        """Throw away what nobody reads, from now on."""
        self._tasks.keep("watch_records", self._watch)

    async def close(self) -> None:
        """Look no longer."""
        await self._tasks.close()
        os.close(self._descriptor)

    async def _watch(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            looks = looks + 1 if self._is_full else 0
            if looks == PATIENCE:
                lost = await self._drop()
                log.event(_LOG, logging.ERROR, "records_thrown_away", {"records": lost})
                looks = 0

    @property
    def _is_full(self) -> bool:
        """Nearly: whatever is written at once has room in a quarter. Or it has no page left, of which small writes may take
        one each, so that half of its bytes fill it."""
        [held] = _NUMBER.unpack(fcntl.ioctl(self._descriptor, termios.FIONREAD, _NUMBER.pack(0)))
        return bool(held >= self._room * 3 // 4) or not self._poll.poll(0)

    async def _drop(self) -> int:
        """Until nothing waits for room any more. What has room stays: whoever reads again by then shall have it whole."""
        dropped = quiet = 0
        while quiet < _QUIET:
            if self._is_full:
                quiet = 0
                with contextlib.suppress(BlockingIOError):  # somebody was faster
                    lines = os.read(self._descriptor, _CHUNK_BYTES).count(b"\n")
                    dropped += lines
                    self._received.drop(lines)
            else:
                quiet += 1
            await asyncio.sleep(_PAUSE_SECONDS)
        return dropped
