"""The workers of one gateway: started, kept alive, and replaced one after the other.

Each worker has a path that Envoy knows. A new worker listens on a socket of its own, which is moved to that path once it
answers (rename(2) replaces what is there in one step). So there is always somebody behind each path: Envoy's connections to
the old worker stay with it until it says GOAWAY, and the next ones reach the new worker. This works with a single worker as
well, without an endpoint to spare.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Coroutine, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from mcp_extproc.children import StartError, end, ending, spawn, terminate
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.address import UnixAddress

START_SECONDS = 30.0

_POLL_SECONDS = 0.02
_RESTART_SECONDS = (0.1, 0.5, 2.0)
_STEADY_SECONDS = 60.0
"""A worker that ran for longer is restarted at once the next time."""

_MAX_LEAVING = 2
"""Of one seat: workers that were replaced and still have calls. They keep their memory, so the oldest of more is ended."""

_LOG = log.logger("supervisor")


class _Seat:
    """Where one worker at a time serves."""

    def __init__(self, address: UnixAddress) -> None:
        self.path = Path(address.path)
        self.process: Process | None = None
        self.socket: Path | None = None
        """The worker's own name for what is at ``path``."""
        self.changing = asyncio.Lock()
        self.leaving: list[Process] = []
        """Who sat here before and still has calls, the oldest first."""
        self.deaths = 0
        """In a row, each soon after the start."""

    def pause(self, lived: float) -> float:
        """Seconds to wait before the next worker, once one has died after ``lived`` seconds."""
        self.deaths = 1 if lived > _STEADY_SECONDS else min(self.deaths + 1, len(_RESTART_SECONDS))
        return _RESTART_SECONDS[self.deaths - 1]


class Supervisor:
    """Keeps one worker at each socket.

    Args:
        config_file: where workers read the configuration from.
        options: further arguments of ``mcp-extproc serve``.
        sockets: one for each worker, as Envoy knows them.
        environment: variables for the workers, beside our own.
    """

    def __init__(
        self, config_file: Path, options: Sequence[str], sockets: Sequence[UnixAddress], environment: Mapping[str, str]
    ) -> None:
        self._config_file = config_file
        self._options = options
        self._environment = environment
        self._seats = [_Seat(address) for address in sockets]
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)

    @property
    def pids(self) -> list[int]:
        """The workers that serve, in the order of their sockets."""
        return [seat.process.pid for seat in self._seats if seat.process is not None]

    async def start(self) -> None:
        """Start all, and wait until they serve.

        Raises:
            StartError: one can't serve.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for seat in self._seats:
                    group.create_task(self._fill(seat))
        except* StartError as errors:
            raise errors.exceptions[0] from None
        for seat in self._seats:
            self._go(self._keep(seat))

    async def restart(self) -> None:
        """Replace all workers, one after the other. The old ones finish what they have, for as long as they may drain.

        Where this is asked for again and again, the oldest are ended with what they have.

        Raises:
            StartError: a new worker can't serve. The old one goes on, and so do those that were not replaced yet.
        """
        for seat in self._seats:
            async with seat.changing:
                old = seat.process
                await self._fill(seat)
                if old is not None and old.returncode is None:
                    self._dismiss(seat, old)

    async def stop_keeping(self) -> None:
        """From now on a worker that dies is not started again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End all workers, those that are on their way out too."""
        await self.stop_keeping()
        workers = [worker for seat in self._seats for worker in (seat.process, *seat.leaving)]
        await asyncio.gather(*(end(worker) for worker in workers))

    # -- One worker -----------------------------------------------------------------------------------------------------

    async def _fill(self, seat: _Seat) -> None:
        """Put a new worker in a seat. Who sat there before still runs."""
        socket = seat.path.with_name(f"worker-{next(self._numbers)}.sock")
        process = await spawn(
            [sys.executable, "-m", "mcp_extproc", "serve", str(self._config_file),
             "--listen", f"unix:{socket}", *self._options],
            environment=self._environment,
        )  # fmt: skip
        try:
            await _until_it_listens(process, socket)
            _move(socket, seat.path)
        except BaseException:
            await end(process)
            socket.unlink(missing_ok=True)
            raise
        if seat.socket is not None:
            seat.socket.unlink(missing_ok=True)
        seat.process, seat.socket = process, socket

    async def _keep(self, seat: _Seat) -> None:
        """Start a worker again when it dies. Meanwhile Envoy sends to others, or answers 503; nothing passes undecided."""
        started = time.monotonic()
        while True:
            process = seat.process
            assert process is not None
            code = await process.wait()
            if process is not seat.process:
                started = time.monotonic()  # it was replaced
                continue
            pause = seat.pause(time.monotonic() - started)
            died = {"pid": process.pid, "exit": ending(code), "restart_in_seconds": pause}
            log.event(_LOG, logging.ERROR, "worker_died", died)
            await asyncio.sleep(pause)
            started = time.monotonic()
            async with seat.changing:
                if process is seat.process:
                    await self._try_to_fill(seat)

    async def _try_to_fill(self, seat: _Seat) -> None:
        try:
            await self._fill(seat)
        except StartError as error:
            # The dead one is still in the seat: it is tried again, later.
            log.event(_LOG, logging.ERROR, "worker_not_started", {"why": str(error)})

    def _dismiss(self, seat: _Seat, process: Process) -> None:
        terminate(process)
        seat.leaving.append(process)
        self._go(self._see_off(seat, process))
        for oldest in seat.leaving[:-_MAX_LEAVING]:
            log.event(_LOG, logging.WARNING, "worker_cut_off", {
                "pid": oldest.pid,
                "why": f"{_MAX_LEAVING} more workers were replaced since, and still have calls",
            })  # fmt: skip
            self._go(end(oldest))  # its second SIGTERM

    async def _see_off(self, seat: _Seat, process: Process) -> None:
        await process.wait()
        seat.leaving.remove(process)

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _move(socket: Path, path: Path) -> None:
    # The worker's own name stays: it may still be about to set the mode of the file.
    link = socket.with_suffix(".link")
    link.hardlink_to(socket)
    link.rename(path)


async def _until_it_listens(process: Process, socket: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await _listens(socket):
        if process.returncode is not None:
            raise StartError(f"the worker ended at start with {ending(process.returncode)}; see its messages above")
        if time.monotonic() > deadline:
            raise StartError(f"the worker did not listen on {socket} within {START_SECONDS:g} s")
        await asyncio.sleep(_POLL_SECONDS)


async def _listens(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    return True
