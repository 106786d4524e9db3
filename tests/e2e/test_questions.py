"""The questions in docs/observability.md, answered as a reader would: by its configuration and its commands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp

from tests.e2e.test_production import shell
from tests.support.gateway import TestClient
from tests.support.processes import free_port
from tests.support.run_command import announced, piped
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import PATIENCE, eventually
from tests.unit.test_docs import HAND_WRITTEN, Block, blocks

KEYS = {"operator": "operator-of-the-docs", "reader": "reader-of-the-docs-1"}
CALLS = (("operator", "list"), ("operator", "delete"), ("reader", "list"), ("reader", "delete"), ("reader", "made_up"))


def section() -> list[Block]:
    """The blocks of the questions."""
    [page] = [document for document in HAND_WRITTEN if document.name == "observability.md"]
    start = page.read_text(encoding="utf-8").partition("## Questions")[0].count("\n")
    return [block for block in blocks() if block.document == page and block.line > start]


async def test_each_is_answered(tmp_path: Path) -> None:
    async with ScriptedServer("notes", pages=[[tool("list"), tool("delete")]]) as notes:
        here = {"http://127.0.0.1:3001/mcp": notes.url, "127.0.0.1:9464": f"127.0.0.1:{free_port()}"}

        def text(block: Block) -> str:
            found = block.text
            for there, ours in here.items():
                found = found.replace(there, ours)
            return found

        configuration, *steps = [block for block in section() if block.info in ("yaml gateway", "sh", "text")]
        (tmp_path / "gateway.yaml").write_text(text(configuration))
        (tmp_path / "keys.yaml").write_text(json.dumps(KEYS))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MCP_SESSION_SECRET": "s" * 40}
        command = [sys.executable, "-m", "mcp_extproc", "run", "gateway.yaml", "--port", "0", "--json"]
        async with piped(command, environment, tmp_path) as process:
            url = (await announced(process))["url"]
            await _call(url)
            audit = tmp_path / "audit.jsonl"
            await eventually(
                lambda: audit.read_text().count('"method":"tools/call"'), "all lines", until=lambda n: n == len(CALLS)
            )
            commands = [block for block in steps if block.info == "sh"]
            answers = [block for block in steps[1:] if block.info == "text"]
            assert len(commands) == len(answers)
            for asked, expected in zip(commands, answers, strict=True):
                said = await shell(text(asked), tmp_path)
                missing = [line for line in expected.text.splitlines() if line not in said]
                assert missing == [], f"{asked} says\n{said}"
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.communicate()


async def _call(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        client = TestClient(url, http)
        for who, name in CALLS:
            key = {"x_api_key": KEYS[who]}
            session = await client.initialize(**key)
            await client.rpc("tools/list", mcp_session_id=session, **key)
            call = {"name": f"notes__{name}", "arguments": {}}
            await client.rpc("tools/call", call, mcp_session_id=session, **key)
