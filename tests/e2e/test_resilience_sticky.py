"""Sticky sessions with three real replicas of a server on the official SDK, which keeps its sessions in memory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from tests.e2e.conftest import StartGateway
from tests.e2e.test_reload import edit
from tests.support.gateway import Answer, TestGateway
from tests.support.processes import free_port, gone, http_server, sdk_server
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually

NAMES = ("one", "two", "three")

FAILED = "failed"
"""In place of a replica."""

ACTIVE = "cluster.mcp/sdk.upstream_cx_active"


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: they read what Envoy counted and remembers."""
    return start_own


@dataclass
class Replica:
    name: str
    port: int
    pid: int


@asynccontextmanager
async def replicas(directory: Path) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as stack:

        async def started(name: str) -> Replica:
            port = free_port()
            server = http_server(sdk_server(name, port), port, log=directory / f"{name}.log")
            return Replica(name, port, (await stack.enter_async_context(server)).pid)

        yield [await started(name) for name in NAMES]


def section(group: Sequence[Replica], **config: Any) -> dict[str, Any]:
    return {"endpoints": [f"127.0.0.1:{one.port}" for one in group], "sticky_sessions": True, **config}


def message(answer: Answer) -> dict[str, Any]:
    """The one JSON-RPC message of an answer, which the SDK sends as an event."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json
    [found] = [
        json.loads(line[5:]) for line in answer.body.splitlines() if line.startswith(b"data:") and line[5:].strip()
    ]
    assert isinstance(found, dict)
    return found


async def who(gateway: TestGateway, session: str, id: int = 1) -> str:
    """The replica that answers a call."""
    found = message(await gateway.call(session, "sdk__add", {"a": 1, "b": 2}, id=id))
    assert found["id"] == id
    return replica_of(found)


def replica_of(found: dict[str, Any]) -> str:
    """The replica that a result names."""
    text: str = found["result"]["content"][0]["text"]
    name, _, total = text.partition(": ")
    assert total == "3"
    return name


@pytest.mark.parametrize("workers", [1, 2])
async def test_sessions_stay_with_their_replica(start: StartGateway, tmp_path: Path, workers: int) -> None:
    async with replicas(tmp_path) as group, start({"sdk": section(group)}, workers=workers) as gateway:
        sessions = [await gateway.initialize() for _ in range(9)]
        homes = [await who(gateway, session) for session in sessions]
        assert set(homes) == set(NAMES)
        for _ in range(3):
            assert await asyncio.gather(*(who(gateway, session) for session in sessions)) == homes
        listed = await asyncio.gather(*(gateway.rpc("tools/list", mcp_session_id=session) for session in sessions))
        assert all(len(message(answer)["result"]["tools"]) == 4 for answer in listed)
        # None of it was a repair.
        assert await gateway.local.stat("cluster.mcp/sdk.upstream_rq_retry") == 0
        for session in sessions:
            assert (await gateway.send(None, method="DELETE", mcp_session_id=session)).status == 204


@dataclass
class Calls:
    """Calls in one session, one after the other."""

    gateway: TestGateway
    session: str
    got: list[str] = field(default_factory=list)
    """For each call the replica that answered it, or :data:`FAILED`."""

    async def go_on(self, stopping: asyncio.Event) -> None:
        """Each call gets exactly one answer, or its end."""
        while not stopping.is_set():
            self.got.append(await self._one(id=len(self.got) + 1))

    async def answered(self, count: int) -> None:
        """Until so many further calls were answered."""
        before = len(self.got)

        def since() -> int:
            return sum(name != FAILED for name in self.got[before:])

        await eventually(since, f"{count} more calls are answered", until=lambda now: now >= count)

    async def _one(self, id: int) -> str:
        try:
            answer = await self.gateway.call(self.session, "sdk__add", {"a": 1, "b": 2}, id=id)
        except ClientPayloadError:
            # The answer's head was out already; the stream ends where the replica did.
            return FAILED
        found = message(answer)
        assert (answer.status, found["id"]) == (200, id)
        if "error" in found:
            # The replica may have begun it: it may have had its effect, so it is not repeated.
            assert found["error"]["code"] == -32603
            return FAILED
        return replica_of(found)


async def test_the_sessions_of_a_dead_replica_go_on(start: StartGateway, tmp_path: Path) -> None:
    """Calls that the dying replica gets fail, and those of its sessions only. Once another has answered in a session, no call
    fails there any more. No other session moves."""
    async with replicas(tmp_path) as group, start({"sdk": section(group)}) as gateway:
        sessions = [await gateway.initialize() for _ in range(9)]
        homes = [await who(gateway, session) for session in sessions]
        dead = group[0]
        calls = [Calls(gateway, session) for session in sessions]
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as callers:
            for each in calls:
                callers.create_task(each.go_on(stopping))
            await asyncio.gather(*(each.answered(5) for each in calls))
            os.kill(dead.pid, signal.SIGKILL)
            await gone([dead.pid])
            await asyncio.gather(*(each.answered(10) for each in calls))
            stopping.set()
        for home, each in zip(homes, calls, strict=True):
            in_turn = [name for name, _ in groupby(each.got)]
            if home == dead.name:
                assert in_turn[0] == home
                assert in_turn[1:-1] in ([], [FAILED])
                assert in_turn[-1] in NAMES[1:]
            else:
                assert in_turn == [home]
        after = [each.got[-1] for each in calls]
        retried = await gateway.local.stat("cluster.mcp/sdk.upstream_rq_retry")
        for _ in range(3):
            assert [await who(gateway, session) for session in sessions] == after
        assert await gateway.local.stat("cluster.mcp/sdk.upstream_rq_retry") == retried


async def test_a_list_of_a_dead_replicas_session(start: StartGateway, tmp_path: Path) -> None:
    async with replicas(tmp_path) as group, start({"sdk": section(group)}) as gateway:
        sessions = [await gateway.initialize() for _ in range(6)]
        os.kill(group[1].pid, signal.SIGKILL)
        for session in sessions:
            result = message(await gateway.rpc("tools/list", mcp_session_id=session))["result"]
            assert "_meta" not in result
            assert len(result["tools"]) == 4


async def test_all_replicas_are_dead(start: StartGateway, tmp_path: Path) -> None:
    """A JSON-RPC error that says so, and no loop through the repair listener."""
    async with replicas(tmp_path) as group, start({"sdk": section(group)}) as gateway:
        session = await gateway.initialize()
        for one in group:
            os.kill(one.pid, signal.SIGKILL)
        await gone([one.pid for one in group])
        await eventually(
            lambda: gateway.local.stat(ACTIVE), "Envoy has no connection to them", until=lambda seen: seen == 0
        )
        answer = await gateway.call(session, "sdk__add", {"a": 1, "b": 2}, id=7)
        assert (answer.status, answer.error["code"], answer.json["id"]) == (200, -32603, 7)
        # Some other program may have got the port of a dead one, and hang up.
        assert re.search("'sdk' (is unreachable|failed)", answer.error["message"])


async def test_a_session_without_an_address_in_it(start: StartGateway, tmp_path: Path) -> None:
    """Opened before sticky sessions were configured: any replica may get it, and another opens it again."""
    async with replicas(tmp_path) as group:
        (tmp_path / "before").mkdir()
        from tests.support.gateway import gateway as started

        loose = {**section(group[:1]), "sticky_sessions": False}
        async with started(tmp_path / "before", {"sdk": loose}) as gateway:
            session = await gateway.initialize()
        async with start({"sdk": section(group)}) as gateway:
            homes = [await who(gateway, session) for _ in range(12)]
            # The replica that opened it may have been hit at first; any other opens a sticky one.
            assert len(set(homes[3:])) == 1


async def test_sessions_stay_with_their_replica_through_reloads(
    start: StartGateway, tmp_path: Path, alpha: ScriptedServer
) -> None:
    """Another server comes and goes, and a replica is taken out: its sessions alone begin again, elsewhere."""
    async with replicas(tmp_path) as group, start({"sdk": section(group)}, workers=2) as gateway:
        sessions = [await gateway.initialize() for _ in range(9)]
        homes = {session: await who(gateway, session) for session in sessions}
        gone_name, other = group[0].name, {"alpha": {"url": alpha.url}}
        for servers in ({"sdk": section(group), **other}, {"sdk": section(group)}, {"sdk": section(group[1:])}):
            before = gateway.workers
            edit(tmp_path, servers)
            calling = [asyncio.create_task(who(gateway, session, id)) for session in sessions for id in (11, 12, 13)]
            await replaced(gateway, before)
            await asyncio.gather(*calling)
        after = {session: await who(gateway, session) for session in sessions}
        assert {s: home for s, home in after.items() if homes[s] != gone_name} == {
            s: home for s, home in homes.items() if home != gone_name
        }
        assert gone_name not in after.values()


async def replaced(gateway: TestGateway, before: list[int]) -> None:
    """Wait until no worker is in use that was there before."""
    await eventually(lambda: set(before) & set(gateway.workers), "workers are replaced", until=lambda left: not left)
