"""``mcp-extproc run`` without a file: what agents have is found, shown, and served if it is chosen."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import run_command
from tests.support.gateway import TestClient
from tests.support.processes import ROOT
from tests.support.run_command import announced, piped
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

RUN = [*run_command.RUN, "--port", "0", "--workers", "1"]


class Home:
    """A user's folder, with a project in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.project = path / "shop"
        self.project.mkdir()

    def write(self, name: str, document: Any) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
        return file

    def state(self) -> dict[str, tuple[bytes, int]]:
        """All that is there."""
        files = [path for path in self.path.rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    @property
    def environment(self) -> dict[str, str]:
        moved = ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "GEMINI_CLI_HOME")
        kept = {name: value for name, value in os.environ.items() if name not in moved}
        here = {"HOME": str(self.path), "PYTHONPATH": str(ROOT), "TERM": "dumb", "COLUMNS": "200"}
        return kept | here | {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def home(tmp_path: Path, alpha: ScriptedServer, beta: ScriptedServer) -> Home:
    """Two agents with a server each, of the same name."""
    home = Home(tmp_path)
    home.write("shop/.mcp.json", {"mcpServers": {"notes": {"type": "http", "url": alpha.url}}})
    headers = {"Authorization": "Bearer ${NOTES_TOKEN:-t0ken}"}
    old = {"type": "ws", "url": "http://127.0.0.1:1/sse"}
    home.write(".cursor/mcp.json", {"mcpServers": {"notes": {"url": beta.url, "headers": headers}, "old": old}})
    return home


@asynccontextmanager
async def running(home: Home, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    async with piped([*RUN, *arguments], home.environment, home.project) as process:
        yield process


async def test_in_a_pipe_it_only_says_what_there_is(home: Home) -> None:
    before = home.state()
    async with running(home) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert re.search(rb"claude-code +\.mcp\.json +1 server\n", err)
    assert re.search(rb"cursor +~/\.cursor/mcp\.json +2 servers\n", err)
    assert b"--from" in err
    assert home.state() == before


async def test_all_are_served_and_followed(home: Home, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Without a change of any file; and a change that an agent makes is taken up."""
    before = home.state()
    async with running(home, "--all", "--json") as process:
        ready = await announced(process)
        assert [(server["name"], server["problem"]) for server in ready["servers"]] == [
            ("notes", None), ("notes-claude-code", None),
        ]  # fmt: skip
        assert beta.calls("tools/list")[0].headers["authorization"] == "Bearer t0ken"
        assert home.state() == before
        home.write(".gemini/settings.json", {"theme": "x", "mcpServers": {"third": {"httpUrl": alpha.url}}})
        async with aiohttp.ClientSession() as http:
            client = TestClient(ready["url"], http)

            async def names() -> set[str]:
                session = await client.initialize()
                answer = await client.rpc("tools/list", mcp_session_id=session)
                return {tool["name"].partition("__")[0] for tool in answer.result["tools"]}

            wanted = {"notes", "notes-claude-code", "third"}
            await eventually(names, "the tools of the new server", until=lambda seen: seen == wanted)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
    assert process.returncode == 0
    assert b"notes-claude-code" in err
    assert b"old (cursor, " in err
    assert b"t0ken" not in err


@asynccontextmanager
async def in_terminal(home: Home, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, bytearray]]:
    """The program, what types for it, and what it has shown in a wide window."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, 160))
    process = await asyncio.create_subprocess_exec(
        # A terminal that is dumb counts as narrow, unless both are said.
        *RUN, *arguments, cwd=home.project, env={**home.environment, "COLUMNS": "160", "LINES": "50"},
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = bytearray()

    def read() -> None:
        try:
            shown.extend(os.read(master, 1 << 16))
        except OSError:  # it has ended
            asyncio.get_running_loop().remove_reader(master)

    asyncio.get_running_loop().add_reader(master, read)
    try:
        yield process, master, shown
    finally:
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_in_a_terminal_it_shows_them_and_asks(home: Home, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    before = home.state()
    async with in_terminal(home) as (process, typing, shown):
        await eventually(lambda: b"or all): " in shown, "the question")
        for row in (
            r"server +state +agent +file *",
            rf"notes-claude-code +HTTP: 127\.0\.0\.1:{alpha.port} \(notes.* +claude-code +\.mcp\.json *",
            rf"notes +HTTP: 127\.0\.0\.1:{beta.port} +cursor +~/\.cursor/mcp\.json *",
            r"old +left out: has an unknown type.* +cursor +~/\.cursor/mcp\.json *",
        ):
            assert re.search(rf"^{row}\r$", shown.decode(), re.MULTILINE), (row, shown.decode())
        os.write(typing, b"emacs\n")
        await eventually(lambda: shown.count(b"or all): ") == 2, "the question again")
        assert b"'emacs' is none of claude-code, cursor, all" in shown
        os.write(typing, b"cursor\n")
        await eventually(lambda: re.search(rb"Serving at (\S+)\r", shown), "the address")
        assert re.search(rb"notes +ready", shown), "alone, it has its own name"
        assert beta.calls("tools/list")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    assert home.state() == before


async def test_what_is_chosen_beforehand_is_shown_in_a_terminal(home: Home, beta: ScriptedServer) -> None:
    async with (
        in_terminal(home, "--from", "cursor", "--envoy", "nowhere") as (process, _, shown),
        asyncio.timeout(PATIENCE),
    ):
        assert await process.wait() == 1
        await eventually(lambda: b"error: " in shown, "why it has ended")
        assert re.search(rf"notes +HTTP: 127\.0\.0\.1:{beta.port} +cursor ".encode(), shown)
        assert b"claude-code" not in shown
        assert b"or all): " not in shown
