"""The bridge, which runs stdio servers and speaks HTTP+SSE: a process of its own, started when there is a server for it, and
restarted.

The supervisor owns the listening socket, so connections wait while the process is replaced. The process gets its servers over
a pipe, and ends when the pipe does. What it leaves behind when it is killed is adopted and ended here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from mcp_extproc import processes
from mcp_extproc.address import UnixAddress
from mcp_extproc.bridge.environment import problem_of
from mcp_extproc.bridge.spec import SseServer, StdioServer, Told
from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.bridged_servers import sse_servers, stdio_servers
from mcp_extproc.run.listening import listen
from mcp_extproc.run.process import PYTHON, START_SECONDS, Restarts, StartError, end, ending, spawn
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

STOP_SECONDS = 10.0
"""It has children to end, which have some seconds for that themselves."""

_LOG = log.logger("bridge")


class Bridge:
    """The process, while there are servers for it.

    Args:
        layout: where Envoy connects, where it is reached itself, and whether stdio servers are somebody else's.
        folder: of the configuration's file.
    """

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._address = layout.bridge
        self._has_stdio = layout.bridge_elsewhere is None
        self._upstreams = layout.upstreams
        self._folder = folder
        self._listening: socket.socket | None = None
        self._servers: Mapping[str, StdioServer] = {}
        self._sse_servers: Mapping[str, SseServer] = {}
        self._held_bytes = 0
        self._log_options: Sequence[str] = ()
        self._running: _Running | None = None
        self._changing = asyncio.Lock()
        self._tasks = Tasks(_LOG)
        self._restarts = Restarts()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._running is None else self._running.process.pid

    @property
    def unusable(self) -> Mapping[str, str]:
        """Servers whose command can't be started, and why."""
        problems = {name: problem_of(server) for name, server in self._servers.items()}
        return {name: problem for name, problem in problems.items() if problem is not None}

    async def serve(self, config: GatewayConfig) -> None:
        """Have it serve a configuration's stdio and HTTP+SSE servers, from now on. Children of unchanged ones go on.

        Raises:
            StartError: it does not start.
            OSError: it can't be started, or its socket can't be made.
        """
        async with self._changing:
            self._note(config)
            if self._running is None:
                if self._servers or self._sse_servers:
                    await self._begin()
            elif self._running.process.returncode is None:
                await self._tell(self._running)
            # Otherwise the next process is told as soon as it is started.

    async def begin(self, config: GatewayConfig) -> None:
        """The same at the start, where it is to be there before there is any server for it.

        Raises:
            StartError, OSError: as with :meth:`serve`.
        """
        async with self._changing:
            self._note(config)
            await self._begin()

    def _note(self, config: GatewayConfig) -> None:
        servers = stdio_servers(config, self._folder) if self._has_stdio else {}
        _warn_of(servers, self._servers)
        self._servers, self._sse_servers = servers, sse_servers(config, self._upstreams)
        self._held_bytes = config.limits.held_bytes
        options = {"--log-level": config.log.level, "--log-format": config.log.format}
        self._log_options = [word for name, value in options.items() if value is not None for word in (name, value)]

    async def _begin(self) -> None:
        if self._listening is None:
            self._listening = await listen(self._address)
        await self._start()
        self._tasks.keep("keep_bridge", self._keep)

    async def stop_keeping(self) -> None:
        """From now on it is not started again when it dies."""
        await self._tasks.close()

    async def stop(self) -> None:
        """End it, and all children."""
        await self.stop_keeping()
        if self._running is not None:
            self._running.hang_up()
            await end(self._running.process, STOP_SECONDS)
            await _end_orphans(self._running)
            self._running.close()
            self._running = None
        if self._listening is not None:
            # In this order: another one may listen there as soon as this one does not.
            if isinstance(self._address, UnixAddress):
                Path(self._address.path).unlink(missing_ok=True)
            self._listening.close()

    async def _start(self) -> None:
        assert self._listening is not None
        processes.adopt_orphans()
        self._running = await _Running.start(self._listening, self._log_options)
        # Whoever connects meanwhile waits.
        await self._running.tell(self._told())

    def _told(self) -> Told:
        return Told({**self._servers, **self._sse_servers}, self._held_bytes)

    async def _tell(self, running: _Running) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await running.tell(self._told())
                await running.follows()
        except TimeoutError:
            raise StartError(f"the bridge was not ready within {START_SECONDS:g} s") from None

    async def _keep(self) -> None:
        while True:
            running, started = self._running, time.monotonic()
            assert running is not None
            code = await running.process.wait()
            await _end_orphans(running)
            pause = self._restarts.pause(time.monotonic() - started)
            died = {"pid": running.process.pid, "exit": ending(code), "restart_in_seconds": pause}
            log.event(_LOG, logging.ERROR, "bridge_died", died)
            await asyncio.sleep(pause)
            async with self._changing:
                running.close()
                await self._start()


class _Running:
    """One process of the bridge, with its pipes."""

    def __init__(self, process: Process, answers: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.process = process
        self.since = processes.started(process.pid)
        """When it started."""
        self._answers = answers
        self._unanswered = 0
        self._transport = transport

    @classmethod
    async def start(cls, listening: socket.socket, log_options: Sequence[str]) -> _Running:
        number = listening.fileno()
        theirs, ours = os.pipe()
        try:
            process = await spawn(
                [*PYTHON, "-m", "mcp_extproc", "bridge-process", "--inherited", str(number), "--answers", str(ours),
                 *log_options],
                descriptors=[number, ours],
                keep_stdin=True,
            )  # fmt: skip
        except BaseException:
            os.close(theirs)
            raise
        finally:
            os.close(ours)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(theirs, "rb", buffering=0)
        )
        return cls(process, reader, transport)

    async def tell(self, told: Told) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self._unanswered += 1
        with suppress(ConnectionError):
            self.process.stdin.write(msgspec.json.encode(told) + b"\n")
            await self.process.stdin.drain()

    async def follows(self) -> None:
        """Wait until everything that it was told is in effect, or it has ended: then the next process is told."""
        while self._unanswered:
            if not await self._answers.readline():
                return
            self._unanswered -= 1

    def hang_up(self) -> None:
        """Say that nothing more is said, which ends it."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def close(self) -> None:
        """Close the pipes."""
        self.hang_up()
        self._transport.close()


def _warn_of(servers: Mapping[str, StdioServer], before: Mapping[str, StdioServer]) -> None:
    """Name the new servers whose command can't be started: the gateway starts without them."""
    for name, server in servers.items():
        if server != before.get(name) and (problem := problem_of(server)) is not None:
            log.event(_LOG, logging.WARNING, "server_cannot_start", {"server": name, "why": problem})


async def _end_orphans(bridge: _Running) -> None:
    """End what a bridge has left behind: the kernel ends its children, and hands theirs over to us."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            for pause in processes.pauses():
                look = await processes.LOOKS.next(pause)
                left = look.of_bridge(bridge.process.pid, bridge.since)
                if not left and look.is_certain:
                    return
                processes.send(signal.SIGKILL, left)
