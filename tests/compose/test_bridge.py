"""``docker compose --env-file compose/bridge.env up``: stdio servers from npm and PyPI, in a container of their own.

The tests share one stack and run in their order; the last one takes it down.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mcp import MCPError
from mcp.client.client import Client
from mcp_types import TextContent

from tests.compose.docker import Stack, require_engine, require_node, running, take_down, until_logged
from tests.compose.traffic import traffic
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1800)

DOWNLOAD_SECONDS = 300.0
RECOVERY_SECONDS = 120.0

CALLS = {"time": ("time__get_current_time", {"timezone": "Europe/Berlin"}), "dates": ("date__today", {})}


@pytest.fixture(scope="module")
def stack(mounted: Path) -> Iterator[Stack]:
    require_engine()
    require_node()
    with running("compose/bridge.env", mounted) as stack:
        yield stack


async def called(url: str, tool: str, **arguments: object) -> str | None:
    """What a tool says in a new session; ``None`` while its server is not there."""
    async with Client(url) as client:
        if tool not in {each.name for each in (await client.list_tools()).tools}:
            return None
        [block, *_] = (await client.call_tool(tool, dict(arguments))).content
        assert isinstance(block, TextContent)
        return block.text


async def answer(url: str, tool: str, **arguments: object) -> str:
    """What a tool says, as soon as its server is downloaded and there."""
    said = await eventually(lambda: called(url, tool, **arguments), f"{tool} is there", seconds=DOWNLOAD_SECONDS)
    assert said is not None
    return said


async def test_servers_of_npm_and_pypi(stack: Stack) -> None:
    """As soon as they are downloaded; the others do not wait for them."""
    assert await called(stack.url, "date__weekday", day="2026-11-21") == "Saturday"
    assert "hello" in await answer(stack.url, "everything__echo", message="hello")
    now = await answer(stack.url, "time__get_current_time", timezone="Europe/Berlin")
    assert json.loads(now)["timezone"] == "Europe/Berlin"


def test_each_container_has_only_what_it_needs(stack: Stack) -> None:
    """Programs run where nothing of the gateway's is: neither its sockets, nor its secrets, nor its servers."""
    look = "for program in node npx uv uvx; do command -v $program; done; true"
    assert stack.execute("gateway", "sh", "-c", look) == ""
    assert stack.execute("envoy", "sh", "-c", look) == ""
    assert len(stack.execute("bridge", "sh", "-c", look).split()) == 4
    assert stack.execute("bridge", "ls", "-A", "/run/mcp-extproc", "/run/mcp-bridge").split() == [
        "/run/mcp-bridge:", "bridge.sock", "/run/mcp-extproc:"
    ]  # fmt: skip
    assert stack.execute("bridge", "stat", "--format", "%u %a", "/run/mcp-bridge/bridge.sock") == "10001 600\n"
    assert "SECRET" not in stack.execute("bridge", "cat", "/proc/1/environ")
    assert set(stack.inspect("bridge")["NetworkSettings"]["Networks"]) == {f"{stack.project}_stdio"}
    assert "bridge-process" not in stack.execute("gateway", "sh", "-c", "cat /proc/[0-9]*/cmdline")


def test_the_bridges_container_can_do_little(stack: Stack) -> None:
    status = dict(line.split(":\t", 1) for line in stack.execute("bridge", "cat", "/proc/1/status").splitlines())
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"10001"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert stack.inspect("bridge")["HostConfig"]["ReadonlyRootfs"] is True
    assert not stack.inspect("bridge")["HostConfig"]["PortBindings"]


async def test_it_is_healthy(stack: Stack) -> None:
    async def healthy() -> bool:
        state = (await asyncio.to_thread(stack.inspect, "bridge"))["State"]
        return bool(state["Health"]["Status"] == "healthy")

    await eventually(healthy, "the health check", seconds=RECOVERY_SECONDS)


async def test_the_bridge_is_killed_while_clients_call(stack: Stack) -> None:
    """Calls to its servers fail as errors that name the server, those to others go on, and it comes back."""
    async with Client(stack.url) as client, traffic(stack.url, CALLS) as tally:
        await tally.all_served(20, RECOVERY_SECONDS)
        tally.errors.clear()  # "still starting", of a session that began before its child
        before = stack.inspect("bridge")["State"]["StartedAt"]
        await asyncio.to_thread(stack.kill, "bridge")
        await eventually(lambda: tally.errors, "a call fails", seconds=RECOVERY_SECONDS)
        seconds = await tally.all_served(20, RECOVERY_SECONDS)
        assert stack.inspect("bridge")["State"]["StartedAt"] != before

        async def served() -> object:
            try:
                return (await client.call_tool(*CALLS["time"])).content
            except MCPError:  # its session has a child of its own, which has to start
                return None

        await eventually(served, "the SDK's session is served again", seconds=RECOVERY_SECONDS)
    print(f"\nbridge killed: recovered after {seconds:.1f} s; {tally}")
    assert not tally.lost
    assert not tally.refused
    assert all("time" in message for message in tally.errors), tally.errors


async def test_a_server_is_added(stack: Stack, mounted: Path) -> None:
    file = mounted / "gateway-bridge.yaml"
    configuration = yaml.safe_load(file.read_text(encoding="utf-8"))
    configuration["servers"]["again"] = configuration["servers"]["time"]
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    new.rename(file)
    await until_logged(stack, "bridge", "config_reloaded")
    await until_logged(stack, "gateway", "config_reloaded")
    assert "Asia/Tokyo" in await answer(stack.url, "again__get_current_time", timezone="Asia/Tokyo")


async def test_taken_down_it_leaves_nothing(stack: Stack) -> None:
    assert all(stack.left().values())
    await asyncio.to_thread(take_down, stack)
    assert stack.left() == {"containers": [], "networks": [], "volumes": []}
