"""Waiting for what nobody tells a test of: a log, a counter, a process, a file."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, cast, overload

PATIENCE: Final = 60.0
"""Seconds until a test fails that waits for something. Long, because machines are busy; nothing is asserted on time. A test
has four times as many (pyproject.toml)."""

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05

_T = TypeVar("_T")


@overload
async def eventually(
    look: Callable[[], Awaitable[_T]], what: str, *, until: Callable[[_T], object] = bool, seconds: float = PATIENCE
) -> _T: ...
@overload
async def eventually(
    look: Callable[[], _T], what: str, *, until: Callable[[_T], object] = bool, seconds: float = PATIENCE
) -> _T: ...
async def eventually(
    look: Callable[[], _T] | Callable[[], Awaitable[_T]],
    what: str,
    *,
    until: Callable[[_T], object] = bool,
    seconds: float = PATIENCE,
) -> _T:
    """Look again and again until what is seen is true, or as ``until`` wants it. Returns what was seen.

    Whatever ``look`` raises ends the waiting, so that it can tell that there is nothing to wait for any more.

    Raises:
        AssertionError: not within ``seconds``. Says ``what`` was waited for, and what was seen last.
    """
    seen: object = "nothing yet"
    pause = _FIRST_PAUSE
    try:
        async with asyncio.timeout(seconds) as patience:
            while True:
                looked = look()
                value = cast("_T", await looked if inspect.isawaitable(looked) else looked)
                if until(value):
                    return value
                seen = value
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
    except TimeoutError:
        if not patience.expired():
            raise  # that of what looked
        raise AssertionError(f"waited {seconds:g} s in vain: {what}; last seen: {seen!r}") from None


async def stays(look: Callable[[], _T], seconds: float = 0.5) -> _T:
    """Wait until what is seen has been the same for so long; returns it.

    For what nothing tells of and nothing can be asked about: that somebody has stopped.
    """
    loop = asyncio.get_running_loop()
    seen, since = look(), loop.time()

    def still() -> bool:
        nonlocal seen, since
        if (now := look()) != seen:
            seen, since = now, loop.time()
        return loop.time() - since >= seconds

    await eventually(still, "it stays as it is")
    return seen
