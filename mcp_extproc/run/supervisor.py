"""The workers of one gateway: started, restarted, and replaced one after the other.

Each worker has an address that Envoy knows, and there is always a process behind it: Envoy's connections to an old worker
stay open until its GOAWAY, and new ones reach the new worker. This also works with a single worker, without a spare
endpoint.

The supervisor owns the listening socket, and the workers inherit it. Connections that are not accepted yet stay in its
queue: those that come while a worker that died is replaced wait for the next one. Envoy does not repeat exchanges.

The transport grpcio can't take over a socket. With it a new worker listens on a Unix socket of its own, which is moved to
the path once it serves (rename(2) is atomic). At a TCP address it listens beside the one before (SO_REUSEPORT), and the
supervisor keeps others from there.

Workers get the configuration from the supervisor, not from its file: a worker that dies is restarted with the configuration
of the others, even if the file has changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from io import FileIO
from itertools import count
from pathlib import Path

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.config import Loaded
from mcp_extproc.contract import EJECTION
from mcp_extproc.run import listening, unix_sockets
from mcp_extproc.run.nursery import Starter
from mcp_extproc.run.process import (
    KILL_SECONDS,
    START_SECONDS,
    Restarts,
    StartError,
    Subprocess,
    end,
    end_all,
    ending,
    terminate,
)
from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

_APART_SECONDS = EJECTION

_MAX_LEAVING = 2
"""Maximum for one address of replaced workers that still have calls. They use memory, so the oldest of more is ended."""

_LOG = log.logger("supervisor")


class _Seat:
    """An address, with one worker at a time."""

    def __init__(self, address: Address, *, inherits: bool) -> None:
        self.address = address
        self._inherits = inherits
        self.listening: socket.socket | None = None
        """What workers inherit: where they listen, or at TCP beside which they do."""
        self.process: Subprocess | None = None
        self.config: Loaded | None = None
        """The current worker."""
        self.socket: tuple[int, int] | None = None
        """Device and inode of our socket at a path."""
        self.changing = asyncio.Lock()
        self.leaving: list[Subprocess] = []
        """Replaced workers that still have calls, the oldest first."""
        self.restarts = Restarts()

    async def open(self) -> None:
        """Listen, unless workers do that themselves once they are ready.

        Raises:
            StartError: the address can't be used.
        """
        if isinstance(self.address, UnixAddress):
            path = Path(self.address.path)
            try:
                if self._inherits:
                    self.listening = await listening.listen(self.address)
                    self.socket = _identity(path)
                else:
                    await unix_sockets.require_free(path)
            except OSError as error:
                raise StartError(str(error)) from None
            return
        self.listening = listening.at_port(self.address) if self._inherits else listening.shared_port(self.address)

    def close(self) -> None:
        """Remove the socket at the address, unless somebody else has put another one there by now."""
        if self.listening is not None:
            self.listening.close()
        if isinstance(self.address, UnixAddress) and self.socket is not None:
            with suppress(FileNotFoundError):
                path = Path(self.address.path)
                if _identity(path) == self.socket:
                    path.unlink()


class Supervisor:
    """Keeps one worker running at each address.

    Args:
        config: the workers' configuration.
        options: further arguments of ``mcp-extproc worker``.
        addresses: one for each worker, as Envoy knows them.
        starter: starts workers.
        reports: at which workers tell the collector what they did, where there is one.
        inherits: whether the workers' transport can take over a listening socket.
    """

    def __init__(
        self,
        config: Loaded,
        options: Sequence[str],
        addresses: Sequence[Address],
        starter: Starter,
        reports: ReportChannel,
        *,
        inherits: bool,
    ) -> None:
        self.config = config
        self._options = options
        self._starter = starter
        self._reports = reports
        self._seats = [_Seat(address, inherits=inherits) for address in addresses]
        self._tasks = Tasks(_LOG)
        self._numbers = count(1)
        self._starts = 0
        """How many are under way."""

    @property
    def pids(self) -> list[int]:
        """The current workers, in the order of their addresses."""
        return [seat.process.pid for seat in self._seats if seat.process is not None]

    async def open(self) -> None:
        """Take the addresses. Has to be done before :meth:`start`.

        Raises:
            StartError: one can't be used, as another process listens there.
        """
        for seat in self._seats:
            await seat.open()

    async def start(self) -> None:
        """Start all workers, and wait until they serve.

        Raises:
            StartError: one can't serve.
            OSError: the system refuses a process, or a file for its socket.
        """
        try:
            async with self._starting(), asyncio.TaskGroup() as group:
                for seat in self._seats:
                    group.create_task(self._fill(seat))
        except* (StartError, OSError) as errors:
            raise errors.exceptions[0] from None
        for seat in self._seats:
            self._tasks.keep("keep_worker", partial(self._keep, seat))

    async def restart(self, config: Loaded | None = None) -> None:
        """Replace all workers, one after the other. The old ones finish their calls, within their draining time.

        If this is repeated quickly, the oldest are ended with their calls.

        Args:
            config: of the new workers, and of those that are started later. Default: the same as before.

        Raises:
            StartError: a new worker can't serve. As after any other exception, all serve the old configuration.
        """
        before = self.config
        self.config = config or before
        async with self._starting():
            try:
                await self._starter.rest()
                await self._replace_all(self._seats)
            except Exception:
                self.config = before
                await self._replace_all([seat for seat in self._seats if seat.config is not before])
                raise

    async def old_ones_gone(self) -> None:
        """Wait until no worker is left that was replaced."""
        for worker in [worker for seat in self._seats for worker in seat.leaving]:
            await worker.wait()

    async def stop_keeping(self) -> None:
        """From now on a worker that dies is not started again."""
        await self._tasks.close()

    async def stop(self, seconds: float = KILL_SECONDS) -> None:
        """End all workers, including replaced ones.

        Args:
            seconds: time for running calls.
        """
        await self.stop_keeping()
        workers = [worker for seat in self._seats for worker in (seat.process, *seat.leaving)]
        try:
            await self._starter.rest()
            await end_all(workers, seconds)
        finally:
            for seat in self._seats:
                seat.close()

    @asynccontextmanager
    async def _starting(self) -> AsyncIterator[None]:
        """The time in which workers are started: afterwards nothing is kept for it, unless others are."""
        self._starts += 1
        try:
            yield
        finally:
            self._starts -= 1
            if not self._starts:
                await self._starter.rest()

    # -- One worker -----------------------------------------------------------------------------------------------------

    async def _replace_all(self, seats: Sequence[_Seat]) -> None:
        """One after the other, each when Envoy uses the one before again: the old one's connections have ended."""
        for number, seat in enumerate(seats):
            if number:
                await asyncio.sleep(_APART_SECONDS)
            await self._replace(seat)

    async def _replace(self, seat: _Seat) -> None:
        async with seat.changing:
            old = seat.process
            await self._fill(seat)
            if old is not None and old.returncode is None:
                self._dismiss(seat, old)

    async def _fill(self, seat: _Seat) -> None:
        """Start a new worker at an address. The previous one still runs."""
        config = self.config
        if seat.listening is None:
            assert isinstance(seat.address, UnixAddress)
            path = Path(seat.address.path)
            own = path.with_name(f"{path.name}.{next(self._numbers)}")
            process = await self._started(config, UnixAddress(str(own)))
            try:
                own.rename(path)
                seat.socket = _identity(path)
            except BaseException:
                await end(process)
                own.unlink(missing_ok=True)
                raise
        else:
            process = await self._started(config, seat.listening)
        seat.process, seat.config = process, config

    async def _started(self, config: Loaded, listen: Address | socket.socket) -> Subprocess:
        """A new worker, ready to serve."""
        ready, says_ready = os.pipe()
        arguments, descriptors = self._options, {"--ready": says_ready}
        if config.config.collects:
            descriptors["--reports"] = self._reports.worker_end
        if isinstance(listen, socket.socket):
            descriptors["--inherited"] = listen.fileno()
        else:
            arguments = [*arguments, "--listen", str(listen)]
        with FileIO(ready) as pipe:
            try:
                process = await self._starter.start(config, arguments, descriptors)
            finally:
                os.close(says_ready)
            try:
                await _until_ready(process, pipe)
            except BaseException:
                await end(process)
                raise
        return process

    async def _keep(self, seat: _Seat) -> None:
        """Restart a worker when it dies. Meanwhile Envoy uses the others, or responds 503; nothing passes undecided."""
        started = time.monotonic()
        while True:
            process = seat.process
            assert process is not None
            code = await process.wait()
            if process is not seat.process:
                started = time.monotonic()  # The worker was replaced.
                continue
            pause = seat.restarts.pause(time.monotonic() - started)
            died = {"pid": process.pid, "exit": ending(code), "restart_in_seconds": pause}
            log.event(_LOG, logging.ERROR, "worker_died", died)
            self._reports.tell_end(process.pid)
            await asyncio.sleep(pause)
            started = time.monotonic()
            async with seat.changing:
                if process is seat.process:
                    await self._try_to_fill(seat)

    async def _try_to_fill(self, seat: _Seat) -> None:
        try:
            async with self._starting():
                await self._fill(seat)
            self._reports.restarts.worker += 1
            self._reports.tell_restarts()
        except (StartError, OSError) as error:
            # The dead one is still in the seat: it is tried again, later.
            log.event(_LOG, logging.ERROR, "worker_not_started", {"why": str(error)})

    def _dismiss(self, seat: _Seat, process: Subprocess) -> None:
        terminate(process)
        seat.leaving.append(process)
        self._tasks.start("see_off_worker", self._see_off(seat, process))
        for oldest in seat.leaving[:-_MAX_LEAVING]:
            log.event(_LOG, logging.WARNING, "worker_cut_off", {
                "pid": oldest.pid,
                "why": f"{_MAX_LEAVING} more workers were replaced since then, and still have calls",
            })  # fmt: skip
            self._tasks.start("end_worker", end(oldest))  # its second SIGTERM

    async def _see_off(self, seat: _Seat, process: Subprocess) -> None:
        await process.wait()
        self._reports.tell_end(process.pid)
        seat.leaving.remove(process)


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


async def _until_ready(process: Subprocess, pipe: FileIO) -> None:
    """Wait for the worker's ready byte; end of file without it means that it has ended."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pipe, readable.set)
    try:
        async with asyncio.timeout(START_SECONDS):
            await readable.wait()
            if not pipe.read(1):
                code = await process.wait()
                raise StartError(f"the worker ended at start with {ending(code)}; see its messages above")
    except TimeoutError:
        raise StartError(f"the worker was not ready within {START_SECONDS:g} s") from None
    finally:
        loop.remove_reader(pipe)
