"""Waiting for room in what a process may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp_extproc.held import Waiting

Queue = Callable[[Callable[[], object]], Waiting | None]
"""Takes what is called once the bytes are there, as :meth:`Holding.wait` and :meth:`Part.wait` do."""


async def granted(queue: Queue, seconds: float) -> bool:
    """Wait for bytes; whether they are there.

    Args:
        queue: where to wait.
        seconds: for how long.
    """
    there = asyncio.Event()
    waiting = queue(there.set)
    if waiting is None:
        return False
    try:
        async with asyncio.timeout(seconds):
            await there.wait()
    except TimeoutError:
        return there.is_set()
    finally:
        waiting.leave()
    return True
