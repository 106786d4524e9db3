"""Answers that another worker of this machine waits for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mcp_extproc.gateway.relay.identifiers import Asked
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.upstreams.handover import Handover
from tests.support.waiting import eventually
from tests.unit.gateway.support import Rig

IDENTIFIERS = Rig().gateway.identifiers


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's: a socket's path has 107 bytes at most."""
    with TemporaryDirectory(prefix="mcp") as directory:
        yield Path(directory)


def worker(folder: Path | None) -> tuple[Handover, list[tuple[bytes, Verdict]]]:
    told: list[tuple[bytes, Verdict]] = []
    handover = Handover(folder, IDENTIFIERS)
    handover.on_answer = lambda question, verdict: told.append((question, verdict))
    handover.start()
    return handover, told


async def test_each_worker_has_a_name(folder: Path) -> None:
    (one, told), (two, nothing) = worker(folder), worker(folder)
    two.give(Asked(b"q", one.name), Verdict.GIVEN)
    assert await eventually(lambda: told, "it is told") == [(b"q", Verdict.GIVEN)]
    assert nothing == []
    one.close()
    two.give(Asked(b"q", one.name), Verdict.GIVEN)
    two.close()
    assert list(folder.iterdir()) == []


async def test_what_nobody_here_has_sealed_is_dropped(folder: Path) -> None:
    handover, told = worker(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        other = Rig(secret="another secret, as long as the first one").gateway.identifiers
        for text in (b"", b"\xff", b"x" * 5000, other.hidden(b"x").encode(), IDENTIFIERS.hidden(b"x").encode()):
            stranger.sendto(text, str(folder / handover.name))
    handover.give(Asked(b"q", handover.name), Verdict.DECLINED)
    assert await eventually(lambda: told, "it is told") == [(b"q", Verdict.DECLINED)]
    handover.close()


async def test_names_lead_nowhere_else(folder: Path) -> None:
    handover, told = worker(folder)
    for name in ("", "../x", "answers-", "answers-/x", f"{handover.name}/../{handover.name}"):
        handover.give(Asked(b"q", name), Verdict.GIVEN)
    handover.give(Asked(b"last", handover.name), Verdict.GIVEN)
    assert await eventually(lambda: told, "it is told") == [(b"last", Verdict.GIVEN)]
    handover.close()


async def test_what_dead_workers_left_is_removed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder / "answers-1-2"))
    (folder / "other").touch()
    living, _ = worker(folder)
    next_one, _ = worker(folder)
    assert {path.name for path in folder.iterdir()} == {"other", living.name, next_one.name}
    living.close()
    next_one.close()


async def test_without_a_directory_nothing_is_handed_over() -> None:
    handover, told = worker(None)
    assert handover.name == ""
    handover.give(Asked(b"q", "answers-1-2"), Verdict.GIVEN)
    handover.close()
    assert told == []
