"""Subprocesses of a supervisor: started, tied to the parent's lifetime, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from mcp_extproc.processes import WAITED, ending_with_parent
from mcp_extproc.processes import ending as ending
from mcp_extproc.run import open_files

START_SECONDS = 30.0
"""Until a process has to be ready. Envoy resolves host names within this time."""

DRAIN_SECONDS = 10.0
"""Default time for running exchanges after SIGTERM, in seconds."""

LEAVING_SECONDS = 300.0
"""Seconds for a replaced worker to finish calls whose responses it reads."""

KILL_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""

RESTART_SECONDS = (0.1, 0.5, 2.0)
"""Pauses before the next start, by how often in a row it has died soon."""

_STEADY_SECONDS = 60.0
"""What ran for longer is started again as if it had not died before."""

_UNKNOWN = 255
"""The exit code of a child that somebody else has waited for, as asyncio has it."""


PYTHON: Final = (sys.executable, "-P")
"""Our own programs. Without ``-P`` they would import modules from the folder that they start in, which may be a stranger's."""


class StartError(Exception):
    """The gateway can't start. ``str()`` is the problem, its place, and what to do."""


class Subprocess(Protocol):
    """A process that the supervisor has started, as asyncio has it."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; ``None`` while it runs."""

    async def wait(self) -> int:
        """Wait for its end. Returns :attr:`returncode`."""


class Restarts:
    """Of a process that has to be there always."""

    def __init__(self) -> None:
        self._deaths = 0
        """Consecutive ones, each soon after the start."""

    def pause(self, lived: float) -> float:
        """Seconds to wait before the next start of one that died after ``lived`` seconds."""
        self._deaths = 1 if lived > _STEADY_SECONDS else min(self._deaths + 1, len(RESTART_SECONDS))
        return RESTART_SECONDS[self._deaths - 1]


class Adopted:
    """A child of ours that something else has started, or that was forked by hand. For an event loop that runs.

    Args:
        pid: its process id. It may have ended, but nobody has waited for it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        WAITED.add(self)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name=f"wait-{pid}", daemon=True).start()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Not by a file descriptor (pidfd_open(2)): older systems, and some sandboxes, have none."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        # Until here the process id is nobody else's.
        try:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            self.returncode = _UNKNOWN
        self._ended.set()

    async def wait(self) -> int:
        """Wait for its end."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode


async def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    keep_stdin: bool = False,
    stdout: int | None = None,
    stderr: int | None = None,
    descriptors: Collection[int] = (),
) -> Process:
    """Start a child.

    Args:
        command: the program and its arguments.
        environment: variables added to our own.
        stdin: content of its standard input.
        keep_stdin: leave its standard input open, to write more.
        stdout: file descriptor of its standard output, or ``asyncio.subprocess.PIPE``; ours by default.
        stderr: file descriptor of its standard error; ours by default.
        descriptors: further file descriptors to inherit, with the same numbers.
    """
    with WAITED.starting():
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL if stdin is None and not keep_stdin else asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(descriptors),
            # Ctrl-C reaches only the parent, which ends the children in order.
            start_new_session=True,
            preexec_fn=preparing(os.getpid()),
        )
        WAITED.add(process)
    if stdin is not None:
        assert process.stdin is not None
        # A child that ended before it read everything is handled by its waiter.
        process.stdin.write(stdin)
        process.stdin.close()
    return process


async def end(process: Subprocess | None, seconds: float = KILL_SECONDS) -> None:
    """End a child: SIGTERM, then SIGKILL if it does not end."""
    if process is None or process.returncode is not None:
        return
    terminate(process)
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        _send(process, signal.SIGKILL)
        await process.wait()


async def end_all(processes: Iterable[Subprocess | None], seconds: float = KILL_SECONDS) -> None:
    """End children side by side. What goes wrong with one is raised once all others have ended.

    Raises:
        ExceptionGroup: some could not be ended.
    """
    outcomes = await asyncio.gather(*(end(process, seconds) for process in processes), return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if errors:
        raise ExceptionGroup("children that could not be ended", errors)


def terminate(process: Subprocess) -> None:
    """Send SIGTERM to a child if it still runs."""
    _send(process, signal.SIGTERM)


def _send(process: Subprocess, number: signal.Signals) -> None:
    """Not by asyncio's own methods: before Python 3.13 those ask first whether the child has ended, and so may take its exit
    code from whoever waits for it, who then says 255 (CPython issue 87744)."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def preparing(parent: int) -> Callable[[], None]:
    """What every child of ours does before anything else.

    Args:
        parent: the process that it is to end with.
    """
    ends_with_it = ending_with_parent(parent, signal.SIGTERM)

    def prepare() -> None:
        open_files.allow_many()
        ends_with_it()

    return prepare
