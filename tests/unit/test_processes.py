"""Whose end is waited for, and how often is looked. What is found below real children: bridge/test_server.py."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from mcp_extproc import processes
from mcp_extproc.processes import Looks, Waited, pauses
from tests.support.waiting import PATIENCE


@dataclass
class Child:
    """A child, as the one who waits for it sees it."""

    pid: int
    returncode: int | None = None


def test_nobody_waits_for_who_has_ended() -> None:
    """Its number may be another one's by then: an orphan's, which would never be collected."""
    waited = Waited()
    children = [Child(pid) for pid in range(100)]
    for child in children:
        waited.add(child)
        child.returncode = 0
    running = Child(7)
    waited.add(running)
    assert waited.pids == {7}
    assert waited._children == [running]


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Has one more element for each look at all processes."""
    looked: list[bool] = []

    def table() -> dict[int, processes.ProcessEntry]:
        looked.append(True)
        return {}

    monkeypatch.setattr(processes, "table", table)
    return looked


async def test_one_look_is_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looked_at(monkeypatch)
    looks = Looks()
    found = await asyncio.gather(*(looks.next(pause) for pause in [0.0, *[3600.0] * 50]))
    assert len({id(look) for look in found}) == len(looked) == 1


async def test_nobody_looks_for_who_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looked_at(monkeypatch)
    looks = Looks()
    waiting = asyncio.create_task(looks.next(0.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    looks._look()
    assert looked == []


async def test_nobody_is_forgotten_while_nothing_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([OSError(errno.EMFILE, "Too many open files"), FileNotFoundError("/proc")])

    def table() -> dict[int, processes.ProcessEntry]:
        if (error := next(errors, None)) is not None:
            raise error
        return {}

    monkeypatch.setattr(processes, "table", table)
    monkeypatch.setattr(processes, "_LONGEST_PAUSE", 0.01)
    looks = Looks()
    async with asyncio.timeout(PATIENCE):
        one, other = await asyncio.gather(looks.next(0.0), looks.next(3600.0))
    assert one is other


@pytest.mark.parametrize("look", [processes.table, lambda: processes.mark_of(os.getpid())], ids=["table", "mark"])
def test_a_part_is_not_taken_for_all(look: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not seen would count as gone."""

    def read(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(OSError, match="Too many open files"):
        look()


def test_who_has_ended_is_not_seen() -> None:
    child = os.posix_spawnp("true", ["true"], {processes.MARK: "7.1"})
    os.waitpid(child, 0)
    assert child not in processes.table()
    assert processes.mark_of(child) is None


def test_pauses_grow() -> None:
    first, *others = islice(pauses(), 50)
    assert first == 0.0
    assert others == sorted(others)
    assert sum(others[:10]) < 3.0
    assert others[-1] == 0.5
