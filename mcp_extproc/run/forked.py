"""A piece of work in a fork of this process, of which only the result stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from mcp_extproc.processes import ending_with_parent

T = TypeVar("T")


def in_a_fork(work: Callable[[], T], result: type[T]) -> T | None:
    """What ``work`` returns: what it has imported and kept is gone with the process that did it. For a process without threads
    and without an event loop.

    Args:
        work: it is done with whatever is in memory here.
        result: its type, as msgspec knows it.

    Returns:
        ``None`` where it raised, or there can be no other process: whoever needs the result does it here, and sees why.
    """
    reads, writes = os.pipe()
    ends_with_us = ending_with_parent(os.getpid(), signal.SIGKILL)
    with os.fdopen(reads, "rb") as pipe:
        try:
            pid = fork()
        except OSError:
            os.close(writes)
            return None
        if pid == 0:
            try:
                os.close(reads)  # else nobody would hang up
                ends_with_us()
                _tell(work, writes)
            finally:
                os._exit(1)
        os.close(writes)
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        return None
    return msgspec.msgpack.decode(told, type=result)


def fork() -> int:
    """As :func:`os.fork`, but Ctrl-C waits meanwhile: an exception in what runs around a fork, as logging has it, is lost. In
    the child it waits until that lets it in, as the child is to do nothing of what its parent would do then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _tell(work: Callable[[], object], pipe: int) -> None:
    with suppress(Exception):
        with os.fdopen(pipe, "wb") as file:
            file.write(msgspec.msgpack.encode(work()))
        os._exit(0)
