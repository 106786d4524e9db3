"""Tasks with an owner: whatever becomes of one, it is logged or meant, and none outlives its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_extproc import tasks as tasks_module
from mcp_extproc.slices import Slices
from mcp_extproc.tasks import Tasks, in_slices
from tests.support.waiting import eventually

LOG = logging.getLogger("mcp_extproc.test")


class Bug(Exception):
    """Nobody expects it."""


class Refusal(Exception):
    """Somebody does."""


async def fail(error: Exception) -> None:
    raise error


async def waits_for(what: Awaitable[Any]) -> None:
    await what


def failures(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """What was logged, all of it failures with their traces."""
    assert all(record.exc_info for record in caplog.records)
    assert {record.getMessage() for record in caplog.records} <= {"task_failed"}
    return [record.__dict__["mcp_fields"] for record in caplog.records]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "RESTART_SECONDS", (0.0,))


async def settled(tasks: Tasks) -> None:
    """Until all have ended by themselves."""
    await eventually(lambda: tasks._running, "all tasks have ended", until=lambda running: not running)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failure_is_logged_and_ends_what_it_belongs_to(caplog: pytest.LogCaptureFixture) -> None:
    tasks, ended = Tasks(LOG), asyncio.Event()
    tasks.start("post", fail(Bug()), server="a", on_failure=ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    assert failures(caplog) == [{"task": "post", "server": "a"}]
    await settled(tasks)


async def test_whoever_waits_gets_the_failure_too(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(LOG)
    with pytest.raises(Bug):
        await tasks.start("open", fail(Bug()))
    assert failures(caplog) == [{"task": "open"}]


async def test_what_is_expected_is_a_result(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(LOG)
    with pytest.raises(Refusal):
        await tasks.start("open", fail(Refusal()), expected=(Refusal,))
    tasks.start("open", fail(Refusal()), expected=(Refusal,))  # nobody has to wait for it
    await settled(tasks)
    assert failures(caplog) == []


async def test_what_is_kept_starts_again_until_it_is_done(at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    tasks, attempts = Tasks(LOG), iter([Bug(), Bug(), None])

    async def work() -> None:
        if (error := next(attempts)) is not None:
            raise error

    await tasks.keep("pump", work, server="a")
    assert failures(caplog) == [{"task": "pump", "server": "a", "restart_in_seconds": 0.0}] * 2


async def test_pauses_grow_while_it_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 7:
            raise asyncio.CancelledError

    tasks = Tasks(LOG)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    task = tasks.keep("pump", lambda: fail(Bug()))
    await asyncio.wait({task})
    expected = [*tasks_module.RESTART_SECONDS, 30.0, 30.0]
    assert [0.8 * longest <= pause <= longest for pause, longest in zip(slept, expected, strict=True)] == [True] * 7
    slept.clear()
    monkeypatch.setattr(tasks_module, "STEADY_SECONDS", -1.0)  # each ran for longer
    await asyncio.wait({tasks.keep("pump", lambda: fail(Bug()))})
    assert max(slept) <= 1.0


async def test_a_task_whose_cause_is_cancelled_does_not_vanish(at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody cancelled it, and yet it ends as cancelled: the future that it waited for was."""
    tasks, given_up = Tasks(LOG), asyncio.get_running_loop().create_future()
    given_up.cancel()
    ended = asyncio.Event()
    tasks.start("post", waits_for(given_up), on_failure=ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    attempts = iter([waits_for(given_up), asyncio.sleep(0)])
    await tasks.keep("pump", lambda: next(attempts))
    assert [fields["task"] for fields in failures(caplog)] == ["post", "pump"]


async def test_closing_ends_all_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tasks, never = Tasks(LOG), asyncio.Event()

    async def says_goodbye() -> None:
        try:
            await never.wait()
        finally:
            tasks.start("goodbye", waits_for(never.wait()))

    tasks.start("post", waits_for(never.wait()))
    tasks.start("with more", says_goodbye())
    tasks.keep("pump", lambda: waits_for(never.wait()))
    await asyncio.sleep(0)
    await tasks.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert failures(caplog) == []


async def test_a_task_that_fails_while_it_is_ended_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks, never = Tasks(LOG), asyncio.Event()

    async def stumbles() -> None:
        try:
            await never.wait()
        finally:
            raise Bug

    tasks.start("post", stumbles())
    tasks.keep("pump", stumbles)
    await asyncio.sleep(0)
    await tasks.close()
    assert {fields["task"] for fields in failures(caplog)} == {"post", "pump"}


async def test_others_wait_for_one_slice_however_many_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "SLICE_SECONDS", 0.0)
    ran = 0

    def work() -> Slices[int]:
        nonlocal ran
        for _ in range(20):
            ran += 1
            yield
        return 7

    async with asyncio.TaskGroup() as group:
        at_work = [group.create_task(in_slices(work())) for _ in range(10)]
        gone = group.create_task(in_slices(work()))
        await asyncio.sleep(0)  # what is small is done at once
        gone.cancel()
        most = 0
        for _ in range(1000):
            before = ran
            await asyncio.sleep(0)
            most = max(most, ran - before)
    assert [task.result() for task in at_work] == [7] * 10
    assert most == 1


@pytest.mark.parametrize(("seconds", "steps"), [(0.00025, 4), (0.0006, 2), (0.5, 1)])
async def test_a_slice_has_as_many_steps_as_fit_into_it(
    seconds: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than as many as were thought to."""
    now, ran = 0.0, 0

    def work() -> Slices[None]:
        nonlocal now, ran
        for _ in range(100):
            ran, now = ran + 1, now + seconds
            yield

    monkeypatch.setattr(tasks_module, "time", SimpleNamespace(monotonic=lambda: now))
    task = asyncio.create_task(in_slices(work()))
    at_once = []
    for _ in range(300):
        before = ran
        await asyncio.sleep(0)
        at_once.append(ran - before)
    assert task.done()
    assert (ran, max(at_once)) == (100, steps)


async def test_what_begins_at_once_takes_a_step_of_each() -> None:
    """A slice of each would be as long as all of them together."""
    ran = 0

    def work() -> Slices[None]:
        nonlocal ran
        for _ in range(20):
            ran += 1
            yield

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(in_slices(work()))
        await asyncio.sleep(0)
        assert ran == 10
