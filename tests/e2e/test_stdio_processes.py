"""Children of stdio servers, counted: none is left, however and whenever the gateway ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_extproc.cli.serve import WORKER
from mcp_extproc.processes import MARK
from tests.support.gateway import Answer, TestClient
from tests.support.processes import ROOT, children_of, gone, is_alive, name_of
from tests.support.run_command import RUN, announced, finished, piped, running, write
from tests.support.waiting import PATIENCE, eventually

SERVER = [sys.executable, "-S", "-E", str(ROOT / "tests" / "support" / "stdio_server.py")]


def entry(*arguments: str, **keys: Any) -> dict[str, Any]:
    return {"command": SERVER[0], "args": [*SERVER[1:], *arguments], **keys}


@asynccontextmanager
async def client(url: str) -> AsyncIterator[TestClient]:
    async with aiohttp.ClientSession() as http:
        yield TestClient(url, http)


async def call(client: TestClient, session: str, name: str, **arguments: Any) -> Any:
    """What a tool returned. Sessions begin without children that take long to start, and a worker that gRPC's library serves
    may be replaced just now: so long nobody has begun the call."""

    def begun(answer: Answer) -> bool:
        return answer.status != 503 and b"is still starting" not in answer.body

    answer = await eventually(lambda: client.call(session, name, arguments), f"{name} runs", until=begun)
    return json.loads(answer.result["content"][0]["text"])


async def works(client: TestClient, session: str, name: str) -> Any:
    """What a tool returned, as soon as it is answered at all."""

    async def answered() -> Any:
        return (await client.call(session, name)).json

    answer = await eventually(answered, f"{name} works", until=lambda answer: "result" in answer)
    return json.loads(answer["result"]["content"][0]["text"])


def named(pids: set[int], word: str) -> list[int]:
    """Those of some processes with a word among their arguments."""

    def arguments(pid: int) -> list[bytes]:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            return []

    return [pid for pid in pids if word.encode() in arguments(pid)]


def workers_of(pid: int) -> list[int]:
    return [child for child in children_of(pid) if name_of(child) == WORKER]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_the_gateway_ends(tmp_path: Path, number: signal.Signals) -> None:
    file = write(tmp_path, {"mcpServers": {"good": entry("good"), "stubborn": entry("stubborn")}})
    async with running(file, "--port", "0", "--json") as process:
        url = (await announced(process))["url"]
        async with client(url) as agent:
            session = await agent.initialize()
            left = [await call(agent, session, f"{name}__start", daemon=daemon, hidden=hidden)
                    for name in ("good", "stubborn") for daemon in (False, True) for hidden in (False, True)]  # fmt: skip
            everything = children_of(process.pid)
            assert set(left) <= everything
            assert all(map(is_alive, left))
            process.send_signal(number)
            async with asyncio.timeout(PATIENCE):
                await process.communicate()
        await gone(everything)


async def test_the_bridge_is_killed(tmp_path: Path) -> None:
    """Nobody is left of whatever its children had started, the gateway's own processes stay, and sessions go on."""
    file = write(tmp_path, {"mcpServers": {"good": entry("good")}})
    async with running(file, "--port", "0", "--json", "--workers", "2") as process:
        url = (await announced(process))["url"]
        async with client(url) as agent:
            session = await agent.initialize()
            started = [await call(agent, session, "good__start", daemon=daemon, hidden=hidden)
                       for daemon in (False, True) for hidden in (False, True)]  # fmt: skip
            everything = children_of(process.pid)
            [bridge] = named(everything, "bridge-process")
            of_bridge = children_of(bridge)
            assert set(started) <= of_bridge
            os.kill(bridge, signal.SIGKILL)
            await gone(of_bridge)
            assert is_alive(await works(agent, session, "good__pid"))
            assert all(map(is_alive, everything - of_bridge - {bridge}))
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                await process.communicate()


async def test_the_bridge_and_its_supervisor_are_killed_at_once(tmp_path: Path) -> None:
    """The kernel ends the bridge's own children."""
    file = write(tmp_path, {"mcpServers": {"good": entry("good")}})
    async with running(file, "--port", "0", "--json") as process:
        url = (await announced(process))["url"]
        async with client(url) as agent:
            session = await agent.initialize()
            pid = await call(agent, session, "good__pid")
            [bridge] = named(children_of(process.pid), "bridge-process")
            everything = children_of(process.pid)
            assert pid in everything
            os.kill(process.pid, signal.SIGSTOP)  # it sees nothing of the bridge's end
            os.kill(bridge, signal.SIGKILL)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        await gone(everything)


async def test_a_worker_is_killed_and_then_envoy(tmp_path: Path) -> None:
    """A worker has nothing to do with children. Without Envoy the gateway ends, and with it all that they had started."""
    file = write(tmp_path, {"mcpServers": {"good": entry("good")}})
    with tempfile.TemporaryDirectory(prefix="run-") as folder:  # where Envoy's log stays
        await _worker_and_envoy_killed(file, folder)


async def _worker_and_envoy_killed(file: Path, folder: str) -> None:
    async with running(file, "--port", "0", "--json", "--workers", "1", TMPDIR=folder) as process:
        url = (await announced(process))["url"]
        async with client(url) as agent:
            session = await agent.initialize()
            pid = await call(agent, session, "good__pid")
            left = [await call(agent, session, "good__start", daemon=daemon, hidden=True) for daemon in (False, True)]
            [worker] = workers_of(process.pid)
            os.kill(worker, signal.SIGKILL)
            await eventually(lambda: set(workers_of(process.pid)) - {worker}, "another worker")
            assert await works(agent, session, "good__pid") == pid
            everything = children_of(process.pid)
            assert {pid, *left} <= everything
            [envoy] = [one for one in everything if name_of(one) == "envoy"]
            os.kill(envoy, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                await process.communicate()
        await gone(everything)


async def test_a_reload_that_removes_and_adds(tmp_path: Path) -> None:
    def configure(**servers: Any) -> Path:
        return write(tmp_path, {"mcpServers": servers})

    file = configure(same=entry("good"), removed=entry("good"))
    async with running(file, "--port", "0", "--json") as process, client((await announced(process))["url"]) as agent:
        session = await agent.initialize()
        same, removed = [await call(agent, session, f"{name}__pid") for name in ("same", "removed")]
        configure(same=entry("good"), added=entry("good"))
        await gone([removed])
        assert await call(agent, session, "same__pid") == same

        async def added() -> bool:
            answer = (await agent.rpc("tools/list", mcp_session_id=session)).json
            return "result" in answer and any(tool["name"] == "added__pid" for tool in answer["result"]["tools"])

        await eventually(added, "the new server")
        assert is_alive(same)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.communicate()


async def test_the_only_server_takes_long_to_start(tmp_path: Path) -> None:
    """A session begins at once, and the server joins it."""
    ready = tmp_path / "ready"
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps({"servers": {"late": {
        "command": [*SERVER, "when", str(ready)], "discovery_timeout": "2s",
    }}}))  # fmt: skip
    async with running(file, "--port", "0", "--json") as process, client((await announced(process))["url"]) as agent:
        session = await agent.initialize()
        listed = (await agent.rpc("tools/list", mcp_session_id=session)).result
        assert listed["tools"] == []
        assert [missing["reason"] for missing in listed["_meta"]["mcp-extproc/unavailable"]] == ["starting"]
        ready.touch()

        async def joined() -> bool:
            answer = await agent.rpc("tools/list", mcp_session_id=session)
            return any(tool["name"] == "late__pid" for tool in answer.result["tools"])

        await eventually(joined, "the server")
        assert is_alive(await call(agent, session, "late__pid"))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.communicate()


async def test_a_folder_with_python_files(tmp_path: Path) -> None:
    """It is where the gateway is started, and may be a stranger's: nothing in it is imported by ours."""
    for name in ("html", "aiohttp", "msgspec"):
        (tmp_path / f"{name}.py").write_text("import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n")
    file = write(tmp_path, {"mcpServers": {"good": entry("good", cwd="/")}})
    command = [sys.executable, "-P", *RUN[1:], str(file), "--port", "0", "--json", "--workers", "1"]
    async with (
        piped(command, dict(os.environ), tmp_path) as process,
        client((await announced(process))["url"]) as agent,
    ):
        assert await call(agent, await agent.initialize(), "good__pid")
        [first] = workers_of(process.pid)
        process.send_signal(signal.SIGHUP)  # workers of a new nursery
        await eventually(lambda: set(workers_of(process.pid)) - {first}, "another worker")
        assert await call(agent, await agent.initialize(), "good__pid")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.communicate()
    assert not (tmp_path / "imported").exists()


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """The start goes on without it, and names it."""
    file = write(tmp_path, {"mcpServers": {"good": entry("good"), "absent": {"command": "nonsense"}}})
    async with running(file, "--port", "0", "--json") as process:
        ready = await announced(process)
        states = {server["name"]: server["problem"] for server in ready["servers"]}
        assert states["good"] is None
        assert "the command nonsense was not found" in states["absent"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
    events = [json.loads(line) for line in err.decode().splitlines() if line.startswith("{")]
    assert [event["server"] for event in events if event["event"] == "server_cannot_start"] == ["absent"]


async def test_a_start_that_fails_leaves_nobody(tmp_path: Path) -> None:
    file = write(tmp_path, {"mcpServers": {"absent": {"command": "nonsense"}, "other": {"command": "/no/such"}}})
    code, _, err = await finished(file, "--port", "0")
    assert code == 1
    assert "absent: the command nonsense was not found: install it, or give its full path" in err
    assert "other: there is no such program: correct `command`" in err
    file = write(tmp_path, {"mcpServers": {"good": entry("good", env={"WHERE": str(tmp_path)})}})
    envoy = tmp_path / "envoy"
    envoy.write_text("#!/bin/sh\nexit 3\n")
    envoy.chmod(0o755)
    code, _, err = await finished(file, "--port", "0", "--envoy", str(envoy))
    assert code == 1
    assert "Envoy ended at start" in err
    await eventually(lambda: _with(f"WHERE={tmp_path}"), "all children to end", until=lambda left: not left)


def _with(variable: str) -> list[int]:
    """Processes with a variable and our mark in their environment."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if variable.encode() in environment and any(each.startswith(f"{MARK}=".encode()) for each in environment):
            found.append(int(directory.name))
    return found


async def test_check_reports_stdio_servers(tmp_path: Path) -> None:
    file = write(tmp_path, {"mcpServers": {"good": entry("good"), "ends": entry("exit", "3")}})
    command = [*RUN[:-1], "check", str(file), "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    report = json.loads(out)
    assert process.returncode == 1, err
    assert {server["name"]: server["version"] for server in report["servers"]} == {"good": "2025-11-25", "ends": None}
    [problem] = report["problems"]
    assert (problem["kind"], problem["server"]) == ("unreachable", "ends")
    assert "cannot start 3" in problem["text"]
