"""Child processes: they start with what they need, end with their parent, and are ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

from mcp_extproc.extproc import files

_KILL_SECONDS = 5.0


class StartError(Exception):
    """The gateway can't start. ``str()`` says what, where, and what to do."""


async def spawn(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, stderr: int | None = None
) -> Process:
    """Start a child.

    Args:
        command: the program and its arguments.
        environment: variables beside our own.
        stderr: file descriptor for what it says; ours by default.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        # Ctrl-C reaches us alone, and we end the children in order.
        start_new_session=True,
        preexec_fn=_prepare,
    )


async def end(process: Process | None) -> None:
    """End a child: SIGTERM, and SIGKILL where it stays."""
    if process is None or process.returncode is not None:
        return
    terminate(process)
    try:
        await asyncio.wait_for(process.wait(), _KILL_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def terminate(process: Process) -> None:
    """Ask a child to end, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


def ending(code: int) -> str:
    """How a child ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _prepare() -> None:
    """What a child does before its program starts."""
    files.allow_many()
    _die_with_parent()


def _die_with_parent() -> None:
    """Have the kernel end a child whose parent was killed without a chance to do so (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
