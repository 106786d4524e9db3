"""Child processes of a supervisor."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Iterator

import pytest

from mcp_extproc.processes import WAITED
from mcp_extproc.run.process import Adopted, Restarts, spawn, terminate
from tests.support.waiting import PATIENCE


async def test_a_child_is_waited_for_until_it_has_ended() -> None:
    child = await spawn([sys.executable, "-S", "-c", "input()"], keep_stdin=True)
    assert child.pid in WAITED.pids
    assert child.stdin is not None
    child.stdin.close()
    await child.wait()
    assert child.pid not in WAITED.pids


@pytest.fixture
def noticed_by_the_loop() -> Iterator[None]:
    """Before Python 3.12 a thread waits for a child; here nobody takes its end before the event loop runs again."""
    if sys.version_info >= (3, 12):
        yield
    else:
        policy = asyncio.get_event_loop_policy()
        before = policy.get_child_watcher()
        policy.set_child_watcher(asyncio.PidfdChildWatcher())
        yield
        policy.set_child_watcher(before)


@pytest.mark.usefixtures("noticed_by_the_loop")
async def test_a_child_that_has_just_ended_is_not_taken_from_whoever_waits_for_it() -> None:
    """Its signal comes between its end and the event loop's notice of it."""
    child = await spawn([sys.executable, "-S", "-c", "input(); raise SystemExit(3)"], keep_stdin=True)
    assert child.stdin is not None
    child.stdin.write(b"\n")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    terminate(child)
    assert await child.wait() == 3


def test_who_dies_again_soon_waits_longer() -> None:
    restarts = Restarts()
    assert [restarts.pause(1.0) for _ in range(4)] == [0.1, 0.5, 2.0, 2.0]
    assert [restarts.pause(lived) for lived in (100.0, 1.0)] == [0.1, 0.5]


async def test_a_child_may_open_many_files() -> None:
    """The bridge needs four for each stdio session."""
    soft = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    child = await spawn([sys.executable, "-S", "-c", soft], stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert [int(number) for number in out.split()] == [hard, hard]


async def test_a_child_whose_parent_has_died_before_it_could_notice_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells nobody of an end that came before it was asked to. Another process is taken for the parent here."""
    monkeypatch.setattr(os, "getpid", os.getppid)
    child = await spawn(["sh", "-c", "echo ran"], stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE):
        out, _ = await child.communicate()
    assert (child.returncode, out) == (1, b"")


async def test_a_child_that_somebody_else_has_waited_for_has_ended() -> None:
    """How, nobody knows any more."""
    pid = os.posix_spawnp("true", ["true"], {})
    os.waitpid(pid, 0)
    child = Adopted(pid)
    async with asyncio.timeout(PATIENCE):
        assert await child.wait() == child.returncode == 255
    assert pid not in WAITED.pids
