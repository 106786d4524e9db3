"""When a configuration is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from pathlib import Path

import pytest

from mcp_extproc.config import Loaded
from mcp_extproc.run import changes
from mcp_extproc.run.changes import Changes
from tests.support.waiting import eventually


class Scripted:
    """A source whose signature at each look is given. After the last one it stays."""

    def __init__(self, *signatures: Hashable) -> None:
        self.left = list(signatures)
        self.looks = 0

    @property
    def folder(self) -> Path:
        return Path()

    def load(self) -> Loaded:
        raise NotImplementedError

    def signature(self) -> Hashable:
        self.looks += 1
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.001)


async def test_a_change_is_told_once_and_when_it_is_complete() -> None:
    """Also what changed between its first reading and the first look."""
    source = Scripted("a", "a", "half", "whole", "whole", "whole", "b", "b")
    watched = Changes(source)
    looks = []
    for _ in range(3):
        assert await watched.next() is False
        looks.append(source.looks)
    assert looks == [2, 5, 8]


async def test_asked_without_a_change() -> None:
    source = Scripted("a")
    watched = Changes(source)
    assert await watched.next() is False
    waiting = asyncio.create_task(watched.next())
    watched.ask()
    assert await waiting is True
    watched.ask()
    watched.ask()
    assert await watched.next() is True
    waiting = asyncio.create_task(watched.next())
    await eventually(lambda: source.looks, "more looks", until=lambda looks: looks >= 20)
    assert not waiting.done()
    waiting.cancel()
