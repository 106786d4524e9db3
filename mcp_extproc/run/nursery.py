"""Where workers come from: a warm process with one configuration, of which each worker is a fork.

It has imported what a worker needs, and read the configuration, once for all. So a worker starts in a moment, and shares most
of its memory with the others. It has no thread, no event loop, no connection, and not the secret that sessions are sealed
with, which comes with each request; nor gRPC, which does not survive a fork.

A worker is not its child for long: it is handed over to the supervisor, which waits for its end, and it ends with the
supervisor. A nursery that dies takes nobody with it, and is replaced when the next worker is started. It is replaced for each
configuration, too, by a new program: so a reload runs the code that is installed by then.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NoReturn, Protocol

import msgspec

from mcp_extproc.config import Loaded, without_programs
from mcp_extproc.processes import WAITED, adopt_orphans, be_named
from mcp_extproc.run.forked import fork
from mcp_extproc.run.process import (
    PYTHON,
    START_SECONDS,
    Adopted,
    StartError,
    Subprocess,
    end,
    ending,
    preparing,
    spawn,
)

Work = Callable[[Sequence[str]], object]
"""A worker's life, given the arguments of ``mcp-extproc worker``. It may end in SystemExit."""

_REQUEST_BYTES = 1 << 16
_MOST_DESCRIPTORS = 3

_MOST_OPEN = 1 << 20
"""Descriptors from this one on are not looked for: without close_range(2) each takes a system call."""


class Request(msgspec.Struct):
    """A worker that is wanted. The descriptors of the sockets and pipes that it gets travel beside it."""

    arguments: list[str]
    environment: dict[str, str]
    descriptors: list[str]
    """The options in which the worker is told of them."""


class Nursery:
    """The supervisor's end.

    Args:
        config: what it has read.
        connection: to the process.
        process: the process.
    """

    def __init__(self, config: Loaded, connection: socket.socket, process: Subprocess) -> None:
        self.config = config
        self._connection = connection
        self._process = process

    @classmethod
    async def start(cls, config: Loaded) -> Nursery:
        """Start the program."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as unless_started, theirs:
            unless_started.enter_context(ours)
            process = await spawn(
                [*_program("nursery", config), "--connection", str(theirs.fileno())],
                stdin=config.text.encode(),
                descriptors=[theirs.fileno()],
            )
            unless_started.pop_all()
        return cls(config, ours, process)

    async def worker(
        self, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Mapping[str, int]
    ) -> Adopted:
        """Start a worker. Returns before it serves.

        Raises:
            StartError: this process ended before.
        """
        request = Request([*arguments], {**environment}, [*descriptors])
        self._connection.setblocking(False)
        adopt_orphans()
        with WAITED.starting():
            try:
                socket.send_fds(self._connection, [msgspec.json.encode(request)], [*descriptors.values()])
                async with asyncio.timeout(START_SECONDS):
                    answer = await asyncio.get_running_loop().sock_recv(self._connection, 64)
            except TimeoutError:
                raise StartError(f"the worker was not ready within {START_SECONDS:g} s") from None
            except ConnectionError:
                answer = b""
            if answer:
                self._connection.send(b"1")  # without it, because whoever asked has given up, the worker does not begin
                return Adopted(int(answer))
        code = await self._process.wait()
        raise StartError(f"the worker ended at start with {ending(code)}; see its messages above")

    async def end(self) -> None:
        """End it. Its workers go on."""
        self._connection.close()
        await end(self._process)


class Starter(Protocol):
    """How the supervisor starts a worker."""

    async def start(self, config: Loaded, arguments: Sequence[str], descriptors: Mapping[str, int]) -> Subprocess:
        """Start a worker. Returns before it serves.

        Args:
            config: what it serves.
            arguments: of ``mcp-extproc worker``.
            descriptors: what it inherits, by the options in which it is told.

        Raises:
            StartError: it ended at once.
            OSError: the system refuses a process.
        """

    async def rest(self) -> None:
        """Keep nothing for the next start, as it takes memory. Workers run the code that is installed by then."""


class Programs:
    """Each worker is a program of its own, as gRPC does not survive a fork.

    Args:
        environment: variables for the workers, added to ours.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def start(self, config: Loaded, arguments: Sequence[str], descriptors: Mapping[str, int]) -> Subprocess:
        """Start one."""
        told = [word for option, number in descriptors.items() for word in (option, str(number))]
        return await spawn(
            [*_program("worker", config), *arguments, *told],
            environment=self._environment,
            stdin=config.text.encode(),
            descriptors=[*descriptors.values()],
        )

    async def rest(self) -> None:
        """Nothing is kept."""


class Nurseries:
    """Workers are forks of a nursery, one for each configuration.

    Args:
        environment: variables for the workers, added to ours.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._first: Forked | None = None
        self._current: Nursery | None = None
        self._changing = asyncio.Lock()

    def begin_with(self, first: Forked) -> None:
        """Begin with a nursery that was forked already."""
        self._first = first

    async def start(self, config: Loaded, arguments: Sequence[str], descriptors: Mapping[str, int]) -> Subprocess:
        """Fork one."""
        async with self._changing:
            if self._first is not None:
                self._current, self._first = self._first.taken(), None
            if self._current is not None and self._current.config is config:
                # It may have died since.
                with suppress(StartError):
                    return await self._worker(self._current, arguments, descriptors)
            await self._end()
            self._current = await Nursery.start(config)
            return await self._worker(self._current, arguments, descriptors)

    async def rest(self) -> None:
        """End the nursery. The next worker is a fork of a new one."""
        async with self._changing:
            await self._end()

    async def _worker(self, nursery: Nursery, arguments: Sequence[str], descriptors: Mapping[str, int]) -> Subprocess:
        try:
            return await nursery.worker(arguments, self._environment, descriptors)
        except BaseException:
            # What it answers now would be taken for the answer to the next request.
            await self._end()
            raise

    async def _end(self) -> None:
        if self._first is not None:
            self._current, self._first = self._first.taken(), None
        if self._current is not None:
            nursery, self._current = self._current, None
            await nursery.end()


class Forked:
    """A nursery that is a fork of this process, from before its event loop: it shares this process's memory as well.

    Args:
        config: what the workers serve.
        prepare: imports what workers need, in the nursery alone, and returns a worker's life.
    """

    def __init__(self, config: Loaded, prepare: Callable[[], Work]) -> None:
        self._config = config
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()
        _flush()
        gc.freeze()  # memory is shared until somebody writes to it, as the garbage collector does to all that it looks at
        self._pid = fork()
        if self._pid == 0:
            ours.close()
            try:
                preparing(supervisor)()
                os.setsid()
                _without_input()
                signal.pthread_sigmask(
                    signal.SIG_UNBLOCK, {signal.SIGINT}
                )  # which nobody sends from a terminal any more
                _without_others(theirs.fileno())
                serve(theirs, prepare(), supervisor)
            except Exception:  # noqa: BLE001 - as at the end of a program
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()
        self._connection = ours

    def taken(self) -> Nursery:
        """It, for the event loop that runs by now."""
        return Nursery(self._config, self._connection, Adopted(self._pid))


def serve(connection: socket.socket, work: Work, supervisor: int) -> NoReturn:
    """Fork workers until the supervisor hangs up.

    Args:
        connection: to the supervisor.
        work: a worker's life.
        supervisor: its process id.
    """
    be_named("mcp-nursery")
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, _MOST_DESCRIPTORS)
        if not message:
            os._exit(0)
        request = msgspec.json.decode(message, type=Request)
        child, begins = _fork(request, descriptors, connection, work, supervisor)
        if not child:  # the system has no more processes
            os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            connection.send(str(child).encode())
            os.write(begins, connection.recv(1))
        except ConnectionError:
            os._exit(0)
        os.close(begins)


def _fork(
    request: Request, descriptors: Sequence[int], connection: socket.socket, work: Work, supervisor: int
) -> tuple[int, int]:
    """A worker below the supervisor: its parent, a process in between, is gone by now. It begins when it is told to, by a byte
    at the descriptor, and ends when that is closed before."""
    (pids, tells), (begin, begins) = os.pipe(), os.pipe()
    between = os.fork()
    if between == 0:
        try:
            os.close(begins)
            child = os.fork()
            if child:
                os.write(tells, str(child).encode())
                os._exit(0)
            connection.close()
            os.close(pids)
            os.close(tells)
            begun = os.read(begin, 1)
            os.close(begin)
            if begun:
                _live(request, descriptors, work, supervisor)
        finally:
            os._exit(1)
    os.close(tells)
    os.close(begin)
    child = int(os.read(pids, 64) or 0)
    os.close(pids)
    os.waitpid(between, 0)
    return child, begins


def _live(request: Request, descriptors: Sequence[int], work: Work, supervisor: int) -> NoReturn:
    code: object = 1
    try:
        preparing(supervisor)()
        os.setsid()
        os.environ.update(request.environment)
        options = zip(request.descriptors, map(str, descriptors), strict=True)
        work([*request.arguments, *(word for option in options for word in option)])
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - as at the end of a program
        traceback.print_exc()
    with suppress(OSError):
        _flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _program(command: str, config: Loaded) -> list[str]:
    # What is found at run time is not in the configuration's text.
    found = [word for name in sorted(config.sse) for word in ("--sse", name)]
    found += ["--status", config.status] if config.status is not None else []
    part = ["--without-programs"] if config.part is without_programs else []
    return [*PYTHON, "-m", "mcp_extproc", command, config.name, *found, *part]


def _flush() -> None:
    """Else a fork would write what is left once more."""
    sys.stdout.flush()
    sys.stderr.flush()


def _without_others(kept: int) -> None:
    """Close what this process was started with, as in a program that is spawned: somebody may wait for the end of a pipe that
    a shell had open. Of what the supervisor has opened, one descriptor is kept."""
    os.closerange(3, kept)
    os.closerange(max(kept + 1, 3), min(os.sysconf("SC_OPEN_MAX"), _MOST_OPEN))


def _without_input() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
