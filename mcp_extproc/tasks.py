"""Tasks with an owner: they end with the object they work for, and none of them fails silently.

Where tasks live as long as a block, and stand and fall together, :class:`asyncio.TaskGroup` is the tool. Those of an object
come and go while it lives, and one that fails must end neither the others nor the code that started it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from mcp_extproc.slices import Slices
from mcp_extproc.telemetry import log

RESTART_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before the next attempt of a task that is kept running, by how often it failed in a row."""

STEADY_SECONDS = 60.0
"""A task that ran for longer before it failed starts at the first pause again."""

SLICE_SECONDS = 0.001
"""Of work in slices, before others run. The step that is begun then is done first."""

_T = TypeVar("_T")


_slice_of: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""Held for a slice of the work in an event loop, until everybody else had his turn."""


async def in_slices(work: Slices[_T]) -> _T:
    """The result of work that would keep others waiting if it were done at once. They run between its slices, and between
    those of all such work together: fifty large bodies hold others up no longer than one."""
    try:
        next(work)  # most of it is over with that
        await asyncio.sleep(0)
        turn = _slice_of.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        while True:
            async with turn:  # first come, first served
                _slice(work)
                await asyncio.sleep(0)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _slice(work: Slices[object]) -> None:
    """As many steps as fit into a slice. How long one takes nobody knows before: rules, say, may be three or thousands.

    Raises:
        StopIteration: that was all.
    """
    end = time.monotonic() + SLICE_SECONDS
    next(work)
    while time.monotonic() < end:
        next(work)


class Tasks:
    """The tasks of one object.

    An unexpected exception is logged as ``task_failed``, with the task's name and where it was raised. So is a task
    that ends as cancelled without being cancelled itself: something that it waited for was.

    Args:
        logger: of the owner.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._log = logger
        self._running: set[asyncio.Task[Any]] = set()

    def start(
        self,
        name: str,
        work: Coroutine[Any, Any, _T],
        *,
        expected: tuple[type[Exception], ...] = (),
        on_failure: Callable[[], object] = lambda: None,
        **about: str,
    ) -> asyncio.Task[_T]:
        """Start a task. It may be awaited, which raises what it raises.

        Args:
            name: what it does, for the log.
            work: to be done.
            expected: what it may raise, as its result.
            on_failure: called when it fails otherwise; ends what can't go on without it.
            about: what it is about, such as ``server``, for the log.
        """
        return self._start(work, {"task": name, **about}, expected, on_failure)

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], **about: str) -> asyncio.Task[None]:
        """Start a task that is started again when it fails, after a pause. It is over once it returns.

        Args:
            name: what it does, for the log.
            work: called for each attempt.
            about: what it is about, such as ``server``, for the log.
        """
        fields = {"task": name, **about}
        return self._start(self._kept(work, fields), fields)

    def cancel(self) -> None:
        """Have all tasks end, soon."""
        for task in self._running:
            task.cancel()

    async def close(self) -> None:
        """End all tasks, and those that they start on their way out."""
        while self._running:
            self.cancel()
            await asyncio.wait(set(self._running))

    def _start(
        self,
        work: Coroutine[Any, Any, _T],
        fields: Mapping[str, str],
        expected: tuple[type[Exception], ...] = (),
        on_failure: Callable[[], object] = lambda: None,
    ) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name=fields["task"])
        self._running.add(task)
        task.add_done_callback(partial(self._ended, fields, expected, on_failure))
        return task

    def _ended(
        self,
        fields: Mapping[str, str],
        expected: tuple[type[Exception], ...],
        on_failure: Callable[[], object],
        task: asyncio.Task[Any],
    ) -> None:
        self._running.discard(task)
        error = _failure_of(task)
        if error is not None and not isinstance(error, expected):
            log.failure(self._log, "task_failed", error, fields)
            on_failure()

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]], fields: Mapping[str, str]) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            started = loop.time()
            try:
                await work()
                return
            except (Exception, asyncio.CancelledError) as error:
                if _is_cancelled():
                    raise
                failures = 1 if loop.time() - started > STEADY_SECONDS else min(failures + 1, len(RESTART_SECONDS))
                # Not to the second: what breaks one session's task may break those of all others at the same time.
                pause = RESTART_SECONDS[failures - 1] * random.uniform(0.8, 1.0)  # noqa: S311 - no secret
                log.failure(self._log, "task_failed", error, {**fields, "restart_in_seconds": round(pause, 1)})
            await asyncio.sleep(pause)


def _failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Why a task ended otherwise than by returning, or by being cancelled on purpose."""
    if not task.cancelled():
        return task.exception()
    return None if task.cancelling() else asyncio.CancelledError("what the task waited for was cancelled")


def _is_cancelled() -> bool:
    """Whether the running task itself was cancelled, and not only what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
