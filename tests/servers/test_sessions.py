"""Twenty sessions at once with a real stdio server: each has a child of its own, and none of these is left."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from mcp.client.client import Client

from tests.servers.commands import MEMORY, NPX_ENV, search_path
from tests.support.processes import children_of, drained, free_port, gone, http_server, sdk_server
from tests.support.run_command import announced, running, write
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

SESSIONS = 20

PATIENCE = 110.0
"""Seconds: the first start installs the server, and then twenty start at once."""

OWN_FILE = f'MEMORY_FILE_PATH="$(mktemp -d)/memory.jsonl" exec npx -y {MEMORY}'
"""By default all children of this server have one file."""


async def test_each_has_its_own_memory_until_it_ends(tmp_path: Path) -> None:
    port = free_port()
    file = write(tmp_path, {"mcpServers": {
        "adds": {"url": f"http://localhost:{port}/mcp"},
        "memory": {"command": "sh", "args": ["-c", OWN_FILE], "env": {**NPX_ENV, "TMPDIR": str(tmp_path)}},
    }})  # fmt: skip
    async with (
        http_server(sdk_server("adds", port), port, log=tmp_path / "adds.log"),
        running(file, "--port", "0", "--json", PATH=search_path(tmp_path / "bin")) as process,
        drained(process.stderr, tmp_path / "run.log"),
    ):
        url = (await announced(process))["url"]

        def count() -> int:
            return _servers(process.pid)

        there, counted = asyncio.Barrier(SESSIONS + 1), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            sessions = [group.create_task(_session(url, number, there, counted)) for number in range(SESSIONS)]
            await there.wait()
            # One more waits for the next session.
            await eventually(count, "a child for each session", seconds=PATIENCE, until=(SESSIONS + 1).__eq__)
            counted.set()
        assert [session.result() for session in sessions] == [[f"entity {number}"] for number in range(SESSIONS)]
        await eventually(count, "no child but the one that waits", seconds=PATIENCE, until=(1).__eq__)
        everything = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
        await gone(everything)


async def _session(url: str, number: int, there: asyncio.Barrier, counted: asyncio.Event) -> list[str]:
    """Remember something while all others do, too. Returns the names of what is remembered then."""
    async with Client(url, mode="legacy", cache=None) as client:

        async def tools() -> set[str]:
            return {tool.name for tool in (await client.list_tools()).tools}

        # A session begins without it where its child takes long to start.
        await eventually(tools, "the server", seconds=PATIENCE, until={"memory__read_graph", "adds__add"}.issubset)
        entity = {"name": f"entity {number}", "entityType": "number", "observations": []}
        await client.call_tool("memory__create_entities", {"entities": [entity]})
        await there.wait()
        graph = (await client.call_tool("memory__read_graph", {})).structured_content
        await counted.wait()
    assert graph is not None
    return [entity["name"] for entity in graph["entities"]]


def _servers(gateway: int) -> int:
    """How many children of the gateway are the server itself, which ``npx`` starts with ``sh`` and ``node``."""
    found = 0
    for pid in children_of(gateway):
        try:
            program, *arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        found += program.endswith(b"node") and any(word.endswith(b"/mcp-server-memory") for word in arguments)
    return found
