"""Unix sockets to listen on: that nobody else listens there, and that nobody else can connect."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDING_SECONDS = 1.0
"""Time for a process that listens and is about to end: a worker notices a little later that its parent was killed."""

_POLL_SECONDS = 0.02


async def require_free(path: Path) -> None:
    """Nobody listens at a path. A socket that is left of an earlier process may be there.

    Raises:
        OSError: somebody does, or there is something that is no socket. ``str()`` says what to do.
    """
    deadline = time.monotonic() + ENDING_SECONDS
    while _is_served(path):
        if time.monotonic() > deadline:
            raise OSError(
                f"cannot listen on unix:{path}: another process listens there. Stop it, or choose another address with "
                "--directory or --listen."
            )
        await asyncio.sleep(_POLL_SECONDS)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"cannot listen on unix:{path}: there is a file that is no socket. Choose another address.")


@contextmanager
def only_for_us() -> Iterator[None]:
    """Sockets that are made meanwhile have mode 0600 from the first moment on: connecting takes the right to write."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            return True  # its queue is full
        return True
