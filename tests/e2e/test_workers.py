"""Several workers behind one Envoy: each session has its own, and calls survive what happens to a worker."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_extproc import __version__
from mcp_extproc.cli.serve import WORKER
from mcp_extproc.config import ConfigError
from mcp_extproc.contract import TRANSPORT_VARIABLE
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER
from tests.e2e.conftest import StartGateway
from tests.support.gateway import Answer, TestClient, TestGateway
from tests.support.processes import ROOT, children_of, gone, name_of
from tests.support.run_command import RUN, announced, piped, running, write
from tests.support.scripted import ScriptedServer, echo
from tests.support.transports import sockets_are_held
from tests.support.waiting import PATIENCE, eventually

SESSIONS = 16
WELL = "cluster.mcp_extproc.membership_healthy"


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: they end its workers."""
    return start_own


class Load:
    """Calls in many sessions at once, one after the other in each."""

    def __init__(self, gateway: TestClient, sessions: list[str]) -> None:
        self.lost: list[tuple[str, Answer]] = []
        """Sessions, and what calls of theirs got instead of a result."""
        self.answered = 0
        self._gateway = gateway
        self._sessions = sessions
        self._stopping = False

    @property
    def failed(self) -> list[tuple[int, bytes]]:
        """What failed calls got."""
        return [(answer.status, answer.body) for _, answer in self.lost]

    async def run(self) -> None:
        await asyncio.gather(*(self._calls(session) for session in self._sessions))

    def stop(self) -> None:
        """No more calls; those under way are answered."""
        self._stopping = True

    async def more(self, count: int) -> None:
        """Until so many further calls were answered."""
        until = self.answered + count
        await eventually(lambda: self.answered, f"{count} more calls are answered", until=lambda now: now >= until)

    async def _calls(self, session: str) -> None:
        while not self._stopping:
            answer = await self._gateway.call(session, "alpha__echo")
            self.answered += 1
            if answer.status != 200 or "result" not in answer.json:
                self.lost.append((session, answer))


@asynccontextmanager
async def load(gateway: TestClient, sessions: list[str] | None = None) -> AsyncIterator[Load]:
    """Calls that go on for the time of the block, in new sessions by default."""
    calls = Load(gateway, sessions or [await gateway.initialize() for _ in range(SESSIONS)])
    async with asyncio.TaskGroup() as group:
        group.create_task(calls.run())
        await calls.more(SESSIONS)
        try:
            yield calls
        finally:
            calls.stop()


async def until_known(client: TestClient, session: str, tool: str, *, known: bool = True) -> Answer:
    """Call a tool until it is known, or is not any more: the last worker that was replaced may get a call before it has read
    that it was."""

    async def call() -> Answer:
        answer = await client.call(session, tool)
        assert answer.status == 200, answer
        return answer

    told = f"{tool} is {'known' if known else 'gone'}"
    return await eventually(call, told, until=lambda answer: ("result" in answer.json) == known)


async def until_served(client: TestClient, session: str, tool: str) -> None:
    """Call a tool until a worker is there that answers."""
    await eventually(lambda: client.call(session, tool), "a worker answers", until=lambda answer: answer.status == 200)


async def until_well(gateway: TestGateway, workers: int) -> None:
    """Until Envoy sends requests to so many workers."""
    await eventually(lambda: gateway.local.stat(WELL), f"{workers} are well", until=lambda seen: seen == workers)


async def exchanges(gateway: TestGateway) -> list[int]:
    """How many exchanges Envoy has begun with each worker, in the order of their addresses."""
    text = await gateway.local.admin("GET", "/clusters") or ""
    paths = [re.escape(str(address).removeprefix("unix:")) for address in gateway.local.layout.extproc]
    counts = [re.search(rf"^{EXTPROC_CLUSTER}::{path}::rq_total::(\d+)$", text, re.MULTILINE) for path in paths]
    return [int(count[1]) for count in counts if count is not None]


async def sessions_by_worker(gateway: TestGateway) -> list[list[str]]:
    """New sessions, those of each worker; nothing else may call meanwhile."""
    found: list[list[str]] = [[] for _ in await exchanges(gateway)]
    for _ in range(SESSIONS):
        session = await gateway.initialize()
        before = await exchanges(gateway)
        assert (await gateway.call(session, "alpha__echo")).result
        after = await exchanges(gateway)
        [worker] = [number for number, count in enumerate(before) if after[number] != count]
        found[worker].append(session)
    return found


@sockets_are_held
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_rolling_restart_loses_no_call(start: StartGateway, alpha: ScriptedServer, workers: int) -> None:
    async with start({"alpha": alpha.url}, workers=workers) as gateway:
        before = set(gateway.local.pids.values())
        async with load(gateway) as calls:
            await gateway.local.restart_workers()
            await calls.more(10 * SESSIONS)
        assert calls.failed == []
        after = set(gateway.local.pids.values())
        assert len(after) == workers + 1
        assert before & after == {gateway.local.pids["envoy"]}
        await gone(before - after)


async def test_a_long_call_outlives_its_worker(start: StartGateway, alpha: ScriptedServer) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(request: Any, message: dict[str, Any]) -> Any:
        arrived.set()
        await release.wait()
        return echo(message)

    alpha.on["tools/call"] = slow
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        pending = asyncio.create_task(gateway.call(session, "alpha__echo"))
        async with asyncio.timeout(PATIENCE):
            await arrived.wait()
        await gateway.local.restart_workers()
        release.set()
        assert (await pending).result


async def test_a_killed_worker_takes_only_what_it_had(start: StartGateway, alpha: ScriptedServer) -> None:
    """Its sessions lose calls until Envoy has seen that it is gone, and none once another has its place. The other worker's
    sessions lose none."""
    async with start({"alpha": alpha.url}, workers=2) as gateway:
        of_the_dead, of_the_other = await sessions_by_worker(gateway)
        dead = gateway.local.pids["worker"]
        async with load(gateway, [*of_the_dead, *of_the_other]) as calls:
            os.kill(dead, signal.SIGKILL)
            await eventually(lambda: gateway.local.pids["worker"], "another worker", until=lambda pid: pid != dead)
            await until_well(gateway, 2)
            # As many that each thread of Envoy's has had some.
            await calls.more(5 * SESSIONS)
            before = list(calls.lost)
            await calls.more(5 * SESSIONS)
        assert calls.lost == before
        for session, lost in before:
            assert session in of_the_dead
            # 200 where the server has the call already, and the worker was asked about its answer; 504 where a call has waited
            # too long for the new worker.
            assert (lost.status, lost.error["code"]) in ((503, -32603), (200, -32603), (504, -32603))


async def test_a_worker_that_hangs_gets_no_requests(start: StartGateway, alpha: ScriptedServer) -> None:
    """It still takes connections. Health checks find it."""
    async with start({"alpha": alpha.url}, workers=2) as gateway:
        sessions = [await gateway.initialize() for _ in range(SESSIONS)]
        hung = gateway.local.pids["worker"]
        os.kill(hung, signal.SIGSTOP)
        try:
            await until_well(gateway, 1)
            # Repeated, as Envoy's threads learn of it one after the other.
            for session in sessions:
                await until_served(gateway, session, "alpha__echo")
        finally:
            os.kill(hung, signal.SIGCONT)
        await until_well(gateway, 2)


async def test_each_session_has_a_worker_of_its_own(start: StartGateway, alpha: ScriptedServer) -> None:
    """DELETE is remembered by one worker only: whoever asks afterwards has to come to it."""
    async with start({"alpha": alpha.url}, workers=2) as gateway:
        for _ in range(SESSIONS):
            session = await gateway.initialize()
            assert (await gateway.send(None, method="DELETE", mcp_session_id=session)).status == 204
            assert {(await gateway.rpc("ping", mcp_session_id=session)).status for _ in range(3)} == {404}


async def test_the_key_of_a_session_can_not_be_chosen(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}, workers=2) as gateway:
        session = await gateway.initialize()
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo","arguments":{}}}'
        answer = await gateway.send(body, mcp_session_id=session, x_mcp_session_key="mine")
        assert answer.result
        [call] = alpha.calls("tools/call")
        assert call.headers["x-mcp-session-key"] == session[:24]


async def test_a_restart_that_fails_changes_nothing(start: StartGateway, alpha: ScriptedServer, tmp_path: Path) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = gateway.local.pids
        (tmp_path / "gateway.yaml").write_text("servers: {")
        with pytest.raises(ConfigError, match=r"gateway\.yaml"):
            await gateway.local.restart_workers()
        assert gateway.local.pids == before
        assert (await gateway.call(session, "alpha__echo")).result


async def test_sighup_and_workers_of_run(tmp_path: Path, alpha: ScriptedServer) -> None:
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    async with running(file, "--port", "0", "--json", "--workers", "2") as process:
        await announced(process)
        before = workers_of(process.pid)
        assert len(before) == 2
        process.send_signal(signal.SIGHUP)
        await eventually(
            lambda: workers_of(process.pid) - before, "two new workers", until=lambda workers: len(workers) >= 2
        )
        await gone(before)
        children = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
        await gone(children)


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
async def test_sighup_after_an_upgrade_runs_the_new_code(tmp_path: Path, alpha: ScriptedServer, transport: str) -> None:
    """`run` has the old code in its memory, of which its first workers are forks."""
    installed = tmp_path / "installed"
    shutil.copytree(ROOT / "mcp_extproc", installed / "mcp_extproc")
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    command = [*RUN, str(file), "--port", "0", "--json", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(installed), TRANSPORT_VARIABLE: transport}
    async with piped(command, environment, tmp_path) as process, aiohttp.ClientSession() as http:
        client = TestClient((await announced(process))["url"], http)
        session, before = await client.initialize(), workers_of(process.pid)
        assert await versions(client) == {__version__}
        module = installed / "mcp_extproc" / "__init__.py"
        module.write_text(module.read_text().replace(f'"{__version__}"', '"9.9.9"'))
        process.send_signal(signal.SIGHUP)
        await gone(before)
        assert await eventually(lambda: versions(client), "workers answer", until=bool) == {"9.9.9"}
        assert (await client.call(session, "alpha__echo")).result


async def versions(client: TestClient) -> set[str]:
    """The gateway's, as its workers say it to new sessions; none while one is replaced, which grpcio does not hide."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    answers = [await client.rpc("initialize", hello) for _ in range(SESSIONS)]
    if any(answer.status == 503 for answer in answers):
        return set()
    return {answer.result["serverInfo"]["version"] for answer in answers}


def workers_of(pid: int) -> set[int]:
    """The workers below a process."""
    return {child for child in children_of(pid) if name_of(child) == WORKER}
