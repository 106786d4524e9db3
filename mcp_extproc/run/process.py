"""Child processes: they start with what they need, end with their parent, and are ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Collection, Iterable, Mapping, Sequence

from mcp_extproc.run import open_files

KILL_SECONDS = 5.0
"""Between the signal that asks and the one that ends."""


class StartError(Exception):
    """The gateway can't start. ``str()`` says what, where, and what to do."""


async def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    stderr: int | None = None,
    descriptors: Collection[int] = (),
) -> Process:
    """Start a child.

    Args:
        command: the program and its arguments.
        environment: variables beside our own.
        stdin: what it reads from its standard input.
        stderr: file descriptor for what it says; ours by default.
        descriptors: further file descriptors that it gets, under the same numbers.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stderr=stderr,
        pass_fds=tuple(descriptors),
        # Ctrl-C reaches us alone, and we end the children in order.
        start_new_session=True,
        preexec_fn=_prepare,
    )
    if stdin is not None:
        assert process.stdin is not None
        # One that ended before it read all is noticed by whoever waits for it.
        process.stdin.write(stdin)
        process.stdin.close()
    return process


async def end(process: Process | None, seconds: float = KILL_SECONDS) -> None:
    """End a child: SIGTERM, and SIGKILL where it stays."""
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
    """Ask a child to end, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


def ending(code: int) -> str:
    """How a child ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _prepare() -> None:
    """What a child does before its program starts."""
    open_files.allow_many()
    _die_with_parent()


def _die_with_parent() -> None:
    """Have the kernel end a child whose parent was killed without a chance to do so (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
