"""Child processes: started, tied to the parent's lifetime, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mcp_extproc.bridge.processes import WAITED, ending_with_parent
from mcp_extproc.bridge.processes import ending as ending
from mcp_extproc.run import open_files

KILL_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""


class StartError(Exception):
    """The gateway can't start. ``str()`` is the problem, its place, and what to do."""


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
            preexec_fn=_preparing(),
        )
        WAITED.add(process)
    if stdin is not None:
        assert process.stdin is not None
        # A child that ended before it read everything is handled by its waiter.
        process.stdin.write(stdin)
        process.stdin.close()
    return process


async def end(process: Process | None, seconds: float = KILL_SECONDS) -> None:
    """End a child: SIGTERM, then SIGKILL if it does not end."""
    if process is None or process.returncode is not None:
        return
    terminate(process)
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def end_all(processes: Iterable[Process | None], seconds: float = KILL_SECONDS) -> None:
    """End children side by side. What goes wrong with one is raised once all others have ended.

    Raises:
        ExceptionGroup: some could not be ended.
    """
    outcomes = await asyncio.gather(*(end(process, seconds) for process in processes), return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if errors:
        raise ExceptionGroup("children that could not be ended", errors)


def terminate(process: Process) -> None:
    """Send SIGTERM to a child if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


def _preparing() -> Callable[[], None]:
    """What runs in the child before its program starts."""
    ends_with_us = ending_with_parent(os.getpid(), signal.SIGTERM)

    def prepare() -> None:
        open_files.allow_many()
        ends_with_us()

    return prepare
