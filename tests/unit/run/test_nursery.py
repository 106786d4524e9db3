"""Workers that are forks: whose children they are, what they have, and what they have not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcp_extproc.config import Loaded, load
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.processes import adopt_orphans
from mcp_extproc.run import nursery
from mcp_extproc.run.nursery import Nurseries, Nursery, Request
from mcp_extproc.run.process import Adopted, StartError, Subprocess, end, terminate
from mcp_extproc.run.supervisor import _until_ready
from tests.support.processes import ROOT, gone, name_of
from tests.support.waiting import PATIENCE

SECRET = "k" * 40

# What a supervisor does, as a program of its own: in this one there are threads.
SUPERVISOR = """
import asyncio, json, os, random, sys, threading
from contextlib import suppress
from pathlib import Path

from mcp_extproc.config import load
import mcp_extproc.run.worker
from mcp_extproc.run.nursery import Forked, Nurseries

random.seed(1)

def work(arguments):
    import asyncio, socket
    facts = {
        "arguments": arguments[:-2],
        "parent": os.getppid() == SUPERVISOR,
        "leader": os.getsid(0) == os.getpid(),
        "random": random.random(),
        "threads": threading.active_count(),
        "loop": asyncio._get_running_loop() is not None,
        "packages": sorted({name.partition(".")[0] for name in sys.modules}),
        "own": sorted(name for name in sys.modules if name.startswith("mcp_extproc.")),
        "sockets": [number for number in map(int, os.listdir("/proc/self/fd")) if is_socket(number)],
        "inherited": is_open(INHERITED),
        "input": os.read(0, 1).decode(),
        "variable": os.environ["VARIABLE"],
    }
    os.write(int(arguments[-1]), json.dumps(facts).encode())
    sys.exit(int(arguments[0]))

def is_open(pipe):
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if os.fstat(number).st_ino == pipe:
                return True
    return False

def is_socket(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except OSError:
        return False

async def main():
    nurseries = Nurseries({"VARIABLE": "x"})
    nurseries.begin_with(forked)
    found = []
    for code in ("0", "7"):
        reads, writes = os.pipe()
        process = await nurseries.start(served, [code], {"--ready": writes})
        os.close(writes)
        with open(reads) as told:
            facts = json.load(told)
        found.append({**facts, "code": await process.wait()})
    await nurseries.rest()
    print(json.dumps(found))

SUPERVISOR = os.getpid()
INHERITED = os.fstat(int(sys.argv[2])).st_ino
served = load(Path(sys.argv[1]), {})
forked = Forked(served, lambda: work)
asyncio.run(main())
"""


@pytest.fixture
def served(tmp_path: Path) -> Loaded:
    return configuration(tmp_path, "a")


def configuration(folder: Path, server: str) -> Loaded:
    file = folder / "gateway.yaml"
    file.write_text(f"servers: {{{server}: {{url: 'http://{server}.example/mcp'}}}}")
    return load(file, {})


@pytest.fixture
def forked(served: Loaded) -> list[dict[str, Any]]:
    """What two workers say of themselves."""
    reads, writes = os.pipe()
    try:
        command = [sys.executable, "-c", SUPERVISOR, served.name, str(writes)]
        done = subprocess.run(
            command, cwd=ROOT, pass_fds=[writes], stdout=subprocess.PIPE, text=True, timeout=60, check=True
        )
    finally:
        os.close(reads)
        os.close(writes)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_they_are_the_supervisors_own_children(forked: list[dict[str, Any]]) -> None:
    """It waits for them, and they notice its end. Ctrl-C at its terminal does not reach them."""
    assert [(worker["parent"], worker["leader"], worker["code"]) for worker in forked] == [
        (True, True, 0),
        (True, True, 7),
    ]


def test_they_are_told_what_a_program_would_be_told(forked: list[dict[str, Any]]) -> None:
    assert [worker["arguments"] for worker in forked] == [["0"], ["7"]]
    assert {(worker["variable"], worker["input"]) for worker in forked} == {("x", "")}


def test_random_numbers_differ(forked: list[dict[str, Any]]) -> None:
    """Waiting times of all workers would be the same otherwise."""
    assert len({worker["random"] for worker in forked}) == 2


def test_they_begin_without_threads_loop_and_connections(forked: list[dict[str, Any]]) -> None:
    assert {(worker["threads"], worker["loop"]) for worker in forked} == {(1, False)}
    assert [worker["sockets"] for worker in forked] == [[], []]


def test_they_keep_nothing_open_that_the_supervisor_was_started_with(forked: list[dict[str, Any]]) -> None:
    """A script may wait for the end of a pipe of its own."""
    assert [worker["inherited"] for worker in forked] == [False, False]


def test_they_import_no_more_than_they_use(forked: list[dict[str, Any]]) -> None:
    for worker in forked:
        assert {"aiohttp", "cryptography", "uvloop"} <= {*worker["packages"]}
        assert {"envoy_data_plane", "grpc", "re2", "rich"}.isdisjoint(worker["packages"])
        assert not [
            name for name in worker["own"] if name.startswith(("mcp_extproc.check", "mcp_extproc.envoy.render"))
        ]


# -- Nurseries that are programs ------------------------------------------------------------------------------------------


class Crew:
    """Workers of one supervisor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nurseries = Nurseries({SECRET_VARIABLE: SECRET})
        self.workers: list[Subprocess] = []

    @property
    def nursery(self) -> int:
        current = self.nurseries._current
        assert current is not None
        return current._process.pid

    async def start(self, config: Loaded) -> Subprocess:
        """One that serves."""
        reads, writes = os.pipe()
        address = f"unix:{self.folder}/{len(self.workers)}"
        with FileIO(reads) as ready:
            try:
                words = ["--listen", address, "--upstreams", "unix:/nowhere", "--batches", "unix:/nowhere"]
                worker = await self.nurseries.start(config, words, {"--ready": writes})
            finally:
                os.close(writes)
            self.workers.append(worker)
            await _until_ready(worker, ready)
        return worker


@pytest.fixture
async def crew() -> AsyncIterator[Crew]:
    with tempfile.TemporaryDirectory(prefix="mcp") as folder:  # paths of sockets have to be short
        crew = Crew(Path(folder))
        yield crew
        await crew.nurseries.rest()
        for worker in crew.workers:
            await end(worker)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_one_nursery_for_all_workers_of_a_configuration(crew: Crew, served: Loaded) -> None:
    first, nursery = await crew.start(served), crew.nursery
    second = await crew.start(served)
    assert crew.nursery == nursery
    assert {parent_of(pid) for pid in (first.pid, second.pid, nursery)} == {os.getpid()}
    assert [name_of(pid) for pid in (first.pid, nursery)] == ["mcp-worker", "mcp-nursery"]


async def test_another_configuration_and_other_code_need_another_nursery(
    crew: Crew, served: Loaded, tmp_path: Path
) -> None:
    worker = await crew.start(served)
    nurseries = [crew.nursery]
    await crew.start(configuration(tmp_path, "b"))
    nurseries.append(crew.nursery)
    await crew.nurseries.rest()  # the next one has what is installed by then
    await crew.start(served)
    nurseries.append(crew.nursery)
    assert len({*nurseries}) == 3
    await gone(nurseries[:2])
    assert worker.returncode is None


async def test_a_nursery_that_died_is_replaced(crew: Crew, served: Loaded) -> None:
    worker, dead = await crew.start(served), crew.nursery
    os.kill(dead, signal.SIGKILL)
    assert (await crew.start(served)).pid != worker.pid
    assert crew.nursery != dead
    assert worker.returncode is None


async def test_a_program_that_does_not_start(crew: Crew, served: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a half-installed upgrade, say."""
    monkeypatch.setattr(nursery, "PYTHON", ("/bin/false",))
    with pytest.raises(StartError, match="ended at start with exit code 1"):
        await crew.start(served)


async def test_the_secret_is_not_in_a_nursery(crew: Crew, served: Loaded) -> None:
    worker = await crew.start(served)
    for pid in (crew.nursery, worker.pid):
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_worker_that_nobody_waits_for_any_more_does_not_begin(served: Loaded, tmp_path: Path) -> None:
    """Whoever asked was cancelled, and hung up."""
    nursery = await Nursery.start(served)
    words = ["--listen", f"unix:{tmp_path}/s", "--upstreams", "unix:/nowhere", "--batches", "unix:/nowhere"]
    reads, writes = os.pipe()
    request = Request(words, {}, ["--ready"])
    nursery._connection.setblocking(False)
    socket.send_fds(nursery._connection, [msgspec.json.encode(request)], [writes])
    os.close(writes)
    adopt_orphans()
    async with asyncio.timeout(PATIENCE):
        worker = Adopted(int(await asyncio.get_running_loop().sock_recv(nursery._connection, 64)))
    nursery._connection.close()
    assert await worker.wait() == 1
    assert await nursery._process.wait() == 0
    assert os.read(reads, 1) == b""
    os.close(reads)


async def test_a_worker_that_is_killed(crew: Crew, served: Loaded) -> None:
    worker = await crew.start(served)
    os.kill(worker.pid, signal.SIGKILL)
    assert await worker.wait() == -signal.SIGKILL
    terminate(worker)  # it has ended: nobody else gets the signal
    assert worker.returncode == -signal.SIGKILL


async def test_a_nursery_ends_when_its_supervisor_hangs_up(served: Loaded) -> None:
    nursery = await Nursery.start(served)
    nursery._connection.close()
    assert await nursery._process.wait() == 0
