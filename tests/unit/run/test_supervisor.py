"""Workers are kept alive whatever goes wrong. With children that do nothing; with real workers: tests/e2e/test_workers.py."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_extproc import tasks
from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.config import Loaded, load
from mcp_extproc.run import process, supervisor
from mcp_extproc.run.nursery import Programs
from mcp_extproc.run.process import StartError, Subprocess, spawn
from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.run.supervisor import Supervisor
from tests.support.waiting import eventually


class Bug(Exception):
    """Nobody expects it."""


class Rests(Programs):
    """Notes the workers of each time when nothing is kept any more."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__({})
        self.workers: list[list[int]] = []
        self._supervisor = supervisor

    async def rest(self) -> None:
        self.workers.append(self._supervisor.pids)


class Children(Supervisor):
    """A supervisor of children that only wait for their end.

    ``fails`` are the next starts that fail, and how.
    """

    def __init__(self, config: Loaded, directory: Path, *, inherits: bool = False) -> None:
        self.starter = Rests(self)
        addresses = [UnixAddress(str(directory / name)) for name in "ab"]
        super().__init__(config, [], addresses, self.starter, ReportChannel(), inherits=inherits)
        self.fails: list[Exception | None] = []
        self.started: list[tuple[Subprocess, Loaded]] = []

    async def _started(self, config: Loaded, listen: Address | socket.socket) -> Subprocess:
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        if isinstance(listen, UnixAddress):
            Path(listen.path).touch()
        process = await spawn(["sleep", "1000"])
        self.started.append((process, config))
        return process


@pytest.fixture
async def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Children]:
    monkeypatch.setattr(tasks, "RESTART_SECONDS", (0.01,))
    monkeypatch.setattr(process, "RESTART_SECONDS", (0.01,))
    monkeypatch.setattr(supervisor, "_APART_SECONDS", 0.01)
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:  # paths of sockets have to be short
        children = Children(configuration(tmp_path), Path(directory))
        await children.start()
        yield children
        await children.stop()
        assert [process.returncode is None for process, _ in children.started] == [False] * len(children.started)


def configuration(directory: Path, server: str = "a") -> Loaded:
    file = directory / f"{server}.yaml"
    file.write_text(f"servers: {{{server}: {{url: 'http://{server}.example/mcp'}}}}")
    return load(file, {})


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (StartError("it does not start"), "worker_not_started"),
        (OSError(24, "Too many open files"), "worker_not_started"),
        (Bug(), "task_failed"),
    ],
    ids=["start", "system", "bug"],
)
async def test_a_worker_that_can_not_be_started_again_is_tried_again(
    children: Children, error: Exception, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = children.pids
    children.fails = [error, error]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: children.pids[0] != first, "another worker has taken the place")
    assert children.pids[1] == second
    assert [record.getMessage() for record in caplog.records] == [
        "worker_died",
        event,
        "worker_died",
        event,
        "worker_died",
    ]
    assert [bool(record.exc_info) for record in caplog.records if record.getMessage() == "task_failed"] == [
        True
    ] * caplog.messages.count("task_failed")
    # The one that came is watched as well.
    again = children.pids[0]
    os.kill(again, signal.SIGKILL)
    await eventually(lambda: children.pids[0] != again, "another worker has taken the place")


@pytest.mark.parametrize(
    "error", [StartError("no"), OSError(28, "No space left"), Bug()], ids=["start", "system", "bug"]
)
async def test_all_serve_the_old_configuration_when_the_new_one_breaks_half_way(
    children: Children, tmp_path: Path, error: Exception
) -> None:
    old = children.config
    children.fails = [None, error]  # the second worker
    with pytest.raises(type(error)):
        await children.restart(configuration(tmp_path, "b"))
    serving = {process.pid: config for process, config in children.started}
    assert [serving[pid] for pid in children.pids] == [old, old]
    assert children.config is old


async def test_workers_that_can_not_be_replaced_keep_their_configuration(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are started later."""

    async def breaks() -> None:
        raise Bug

    old = children.config
    with monkeypatch.context() as broken:
        broken.setattr(children._starter, "rest", breaks)
        with pytest.raises(Bug):
            await children.restart(configuration(tmp_path, "b"))
    assert children.config is old


async def test_a_worker_that_can_not_take_its_seat_is_ended(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Path) -> None:
        raise OSError(28, "No space left")

    before = children.pids
    new = configuration(tmp_path, "b")
    monkeypatch.setattr(Path, "rename", breaks)
    with pytest.raises(OSError, match="No space left"):
        await children.restart(new)
    assert children.pids == before
    assert children.started[-1][0].returncode is not None


async def test_a_start_that_the_system_refuses(tmp_path: Path) -> None:
    """It is raised as it is, for whoever says to people what is wrong."""
    children = Children(configuration(tmp_path), tmp_path)
    children.fails = [OSError(24, "Too many open files")]
    with pytest.raises(OSError, match="Too many open files"):
        await children.start()
    await children.stop()
    assert {process.returncode is None for process, _ in children.started} <= {False}


async def test_connections_wait_for_the_next_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is the supervisor's, and stays when workers die or are replaced."""
    monkeypatch.setattr(process, "RESTART_SECONDS", (1000.0,))
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:
        children = Children(configuration(tmp_path), Path(directory), inherits=True)
        await children.open()
        path = Path(directory) / "a"
        socket_of_its_own = path.stat().st_ino
        assert path.stat().st_mode & 0o777 == 0o600
        await children.start()
        await children.restart()
        os.kill(children.pids[0], signal.SIGKILL)
        running = children.started[2][0]
        await running.wait()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert path.stat().st_ino == socket_of_its_own
        await children.stop()
        assert not path.exists()


async def test_only_its_own_sockets_are_removed(tmp_path: Path) -> None:
    """While the last calls of one gateway end, another one may have taken its place."""
    children = Children(configuration(tmp_path), tmp_path)
    await children.open()
    await children.start()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.yaml", "b"]
    (tmp_path / "other").touch()
    (tmp_path / "other").rename(tmp_path / "a")
    await children.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.yaml"]


async def test_nothing_is_kept_for_starts_once_all_workers_serve(children: Children, tmp_path: Path) -> None:
    """What workers are forked from takes as much memory as one."""
    assert children.starter.workers == [children.pids]
    first = children.pids
    await children.restart(configuration(tmp_path, "b"))
    assert children.starter.workers[1:] == [first, children.pids], "the code may have changed; once more at the end"


async def test_workers_that_die_at_once_are_started_from_the_same(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, start_one, dead = asyncio.Barrier(2), children._started, children.pids

    async def together(config: Loaded, listen: Address | socket.socket) -> Subprocess:
        await both.wait()
        return await start_one(config, listen)

    monkeypatch.setattr(children, "_started", together)
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: children.starter.workers[1:], "they are replaced")
    assert children.starter.workers == [dead, children.pids]
    assert not {*dead} & {*children.pids}
