"""Real stdio servers and real HTTP servers in one file, served by ``mcp-extproc run``, and all of MCP that each can do.

And agents, as far as they need no account: their own commands say whether a server is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification, TextResourceContents

from tests.servers.commands import CLAUDE, CONTEXT7, EVERYTHING, FILESYSTEM, GEMINI, MEMORY, TIME, npx, search_path, uvx
from tests.support import everything
from tests.support.npm import node, package
from tests.support.person import Person, call
from tests.support.processes import children_of, drained, free_port, gone, http_server
from tests.support.run_command import announced, piped, running, write
from tests.support.waiting import PATIENCE, eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

STDIO = ("everything", "files", "memory", "time", "context7")
HTTP = ("web", "python")

DOWNLOAD_SECONDS = 110.0
"""The first start of a server installs it."""

AGENT_SECONDS = 300.0
"""So it is with an agent, which may have several hundred megabytes."""

QUIET = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "GEMINI_CLI_NO_RELAUNCH": "true"}
"""Agents that only check whether a server is there."""


@dataclass(frozen=True)
class Stage:
    """What is served, and where."""

    url: str
    folder: Path
    path: str
    """Where ``npx`` is."""

    @asynccontextmanager
    async def client(self, person: Person) -> AsyncIterator[Client]:
        """A client that all servers have come to: a session begins without those that still start."""
        async with person.client(self.url) as client:
            await eventually(
                lambda: _servers(client), "all servers", seconds=DOWNLOAD_SECONDS, until={*STDIO, *HTTP}.issubset
            )
            yield client

    async def agent(self, folder: Path, package: str, *arguments: str, **environment: str) -> str:
        """What an agent's command prints, to either channel. It starts in ``folder``."""
        entry = npx(package, *arguments, PATH=self.path, **QUIET, **environment)
        command = [entry["command"], *entry["args"]]
        async with piped(command, os.environ | entry["env"], folder) as process, asyncio.timeout(AGENT_SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return (out + err).decode()


async def _servers(client: Client) -> set[str]:
    return {tool.name.partition("__")[0] for tool in (await client.list_tools()).tools}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("together")
    ports = {name: free_port() for name in HTTP}
    web = [node(), str(package("@modelcontextprotocol/server-everything") / "dist" / "index.js"), "streamableHttp"]
    python = [sys.executable, "-W", "ignore", "-m", "tests.support.sdk_rich_server", "python", str(ports["python"])]
    for name in ("here", "there"):
        (folder / name).mkdir()
        (folder / name / "note.txt").write_text(f"I am {name}.")
    path = search_path(folder / "bin")
    file = write(folder, {"mcpServers": {
        "everything": npx(EVERYTHING),
        "files": npx(FILESYSTEM, str(folder / "here")),
        "memory": npx(MEMORY, MEMORY_FILE_PATH=str(folder / "memory.jsonl")),
        "time": uvx(TIME, "--local-timezone=Europe/Berlin"),
        "context7": npx(CONTEXT7),
        **{name: {"url": f"http://localhost:{port}/mcp"} for name, port in ports.items()},
    }})  # fmt: skip
    async with (
        http_server(web, ports["web"], log=folder / "web.log", environment={"PORT": str(ports["web"])}),
        http_server(python, ports["python"], log=folder / "python.log"),
        running(file, "--port", "0", "--json", PATH=path) as process,
        drained(process.stderr, folder / "run.log"),
    ):
        url = (await announced(process))["url"]
        async with drained(process.stdout, folder / "access.log"):
            yield Stage(url, folder, path)
            everything_started = children_of(process.pid)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
        await gone(everything_started)


@pytest.mark.parametrize("server", ["everything", "web"])
async def test_the_reference_server(stage: Stage, server: str) -> None:
    """As a command, and at an address."""
    person = Person()
    async with stage.client(person) as client:
        assert client.instructions is not None
        await everything.answers(client, server)
        await everything.contents(client, server)
        await everything.asks(client, person, server)
        await everything.tells(client, person, server)


async def test_cancellation(stage: Stage) -> None:
    """The call ends, and its server goes on, the same one."""
    began = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        began.set()

    async with stage.client(Person()) as client:
        await call(client, "everything__toggle-simulated-logging")
        lasting = {"duration": 60, "steps": 6000}
        calling = asyncio.create_task(
            client.call_tool("everything__trigger-long-running-operation", lasting, progress_callback=on_progress)
        )
        await began.wait()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        assert calling.cancelled()
        # Its state is still there, so it is no other child.
        assert (await call(client, "everything__toggle-simulated-logging")).startswith("Stopped")


async def test_files_of_the_clients_roots(stage: Stage) -> None:
    """The server asks for them by itself, in no call, and again when they change."""
    person = Person()
    here, there = stage.folder / "here", stage.folder / "there"
    person.roots = [there.as_uri()]
    async with stage.client(person) as client:

        async def allowed() -> str:
            return await call(client, "files__list_allowed_directories")

        await eventually(allowed, "the client's root", until=lambda text: text.endswith(str(there)))
        assert await call(client, "files__read_text_file", path=str(there / "note.txt")) == "I am there."
        refused = await client.call_tool("files__read_text_file", {"path": str(here / "note.txt")})
        assert refused.is_error
        person.roots = [here.as_uri()]
        await client.send_roots_list_changed()
        await eventually(allowed, "the other root", until=lambda text: text.endswith(str(here)))
        assert await call(client, "files__read_text_file", path=str(here / "note.txt")) == "I am here."


async def test_files_of_the_command_line(stage: Stage) -> None:
    """For a client that has no roots."""
    async with Client(stage.url, mode="legacy") as client:
        await eventually(lambda: _servers(client), "the server", until={"files"}.issubset)
        here = stage.folder / "here"
        await call(client, "files__write_file", path=str(here / "new.txt"), content="ä\n")
        assert (here / "new.txt").read_text() == "ä\n"
        tree = json.loads(await call(client, "files__directory_tree", path=str(here)))
        assert {"note.txt", "new.txt"} <= {entry["name"] for entry in tree}


async def test_memory(stage: Stage) -> None:
    """Structured results, a resource, and word of its changes."""
    person = Person()
    async with stage.client(person) as client:
        [uri] = [r.uri for r in (await client.list_resources()).resources if r.uri.startswith("memory+")]
        await client.subscribe_resource(uri)
        entity = {"name": "Ada", "entityType": "person", "observations": ["counts"]}
        created = await client.call_tool("memory__create_entities", {"entities": [entity]})
        assert created.structured_content == {"entities": [entity]}
        await person.until(lambda: uri in {told.params.uri for told in person.of(ResourceUpdatedNotification)})
        [content] = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert json.loads(content.text) == {"entities": [entity], "relations": []}


async def test_time(stage: Stage) -> None:
    async with stage.client(Person()) as client:
        asked = {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kathmandu"}
        told = await client.call_tool("time__convert_time", asked)
        assert told.structured_content is not None
        assert told.structured_content["time_difference"] == "-3.25h"
        [tool] = [tool for tool in (await client.list_tools()).tools if tool.name == "time__get_current_time"]
        assert "Europe/Berlin" in json.dumps(tool.input_schema)
        wrong = await client.call_tool("time__get_current_time", {"timezone": "Mars/Olympus"})
        assert wrong.is_error
        with pytest.raises(MCPError):
            await client.call_tool("time__no_such_tool", {})


async def test_context7(stage: Stage) -> None:
    """What it says of itself is the same as without a gateway, but for the names, and so is what it refuses. The rest it asks
    a website."""
    entry = npx(CONTEXT7, PATH=stage.path)
    alone = stdio_client(StdioServerParameters(command="npx", args=entry["args"], env=os.environ | entry["env"]))
    async with Client(alone, mode="legacy", cache=None) as client:
        tools = (await client.list_tools()).tools
        refused = await client.call_tool("resolve-library-id", {})
    assert refused.is_error
    async with stage.client(Person()) as client:
        listed = [tool for tool in (await client.list_tools()).tools if tool.name.startswith("context7__")]
        assert listed == [tool.model_copy(update={"name": f"context7__{tool.name}"}) for tool in tools]
        assert await client.call_tool("context7__resolve-library-id", {}) == refused


async def test_claude_code(stage: Stage, tmp_path: Path) -> None:
    """The gateway is added as ``run`` says, and then it is there."""
    own = {"CLAUDE_CONFIG_DIR": str(tmp_path), "MCP_TIMEOUT": f"{AGENT_SECONDS * 1000:.0f}"}
    await stage.agent(tmp_path, CLAUDE, "mcp", "add", "--transport", "http", "gateway", stage.url, **own)
    said = await stage.agent(tmp_path, CLAUDE, "mcp", "list", **own)
    assert f"gateway: {stage.url} (HTTP) - ✔ Connected" in said


async def test_gemini_cli(stage: Stage, tmp_path: Path) -> None:
    """In a folder that is trusted: elsewhere it asks nobody."""
    home, settings = tmp_path / "home", tmp_path / ".gemini" / "settings.json"
    home.mkdir()
    settings.parent.mkdir()
    settings.write_text(json.dumps({
        "mcpServers": {"gateway": {"type": "http", "url": stage.url, "timeout": AGENT_SECONDS * 1000}},
        "general": {"enableAutoUpdate": False}, "privacy": {"usageStatisticsEnabled": False},
    }))  # fmt: skip
    own = {"GEMINI_CLI_HOME": str(home), "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    said = await stage.agent(tmp_path, GEMINI, "mcp", "list", **own)
    assert f"✓ gateway: {stage.url} (http) - Connected" in said


async def test_all_at_once(stage: Stage) -> None:
    """Calls to all servers from several sessions run at the same time, and each has its own answer."""

    async def session(number: int) -> list[Any]:
        async with stage.client(Person()) as client:
            asked = {"source_timezone": "UTC", "time": f"0{number}:00", "target_timezone": "UTC"}
            echoed, web, files, time, sampled = await asyncio.gather(
                call(client, "everything__echo", message=f"<{number}>"),
                call(client, "web__get-sum", a=number, b=1),
                call(client, "files__list_allowed_directories"),
                client.call_tool("time__convert_time", asked),
                call(client, "python__sample", prompt=f"x{number}", own_stream=False),
            )
            assert time.structured_content is not None
            assert f"T0{number}:00" in time.structured_content["source"]["datetime"]
            return [echoed, web, files.partition("\n")[0], sampled]

    expected = [
        [
            f"Echo: <{n}>",
            f"The sum of {n} and 1 is {n + 1}.",
            "Allowed directories:",
            f"python heard: <python asks x{n}>",
        ]
        for n in range(4)
    ]
    assert await asyncio.gather(*map(session, range(4))) == expected
