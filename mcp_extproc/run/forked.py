"""A piece of work in a fork of this process, of which only the result stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

T = TypeVar("T")


def in_a_fork(work: Callable[[], T], kind: type[T]) -> T | None:
    """What ``work`` returns: what it has imported and kept is gone with the process that did it. For a process without threads
    and without an event loop.

    Args:
        work: it is done with whatever is in memory here.
        kind: of its result, as msgspec knows it.

    Returns:
        ``None`` where it raised, or there can be no other process: whoever needs the result does it here, and sees why.
    """
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as pipe:
        try:
            pid = os.fork()
        except OSError:
            os.close(writes)
            return None
        if pid == 0:
            _tell(work, writes)
        os.close(writes)
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        return None
    return msgspec.msgpack.decode(told, type=kind)


def _tell(work: Callable[[], object], pipe: int) -> None:
    code = 1
    try:
        with suppress(Exception):
            with os.fdopen(pipe, "wb") as file:
                file.write(msgspec.msgpack.encode(work()))
            code = 0
    finally:
        os._exit(code)
