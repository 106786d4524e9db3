"""``mcp-extproc explain``: the lists of real servers, read through a real Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
import textwrap
from pathlib import Path

from tests.support.processes import ROOT
from tests.support.run_command import write
from tests.support.scripted import ScriptedServer, tool


async def explain(file: Path, *options: str) -> tuple[int, str]:
    """Exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcp_extproc", "explain", str(file), *options,
        cwd=ROOT, env={**os.environ, "COLUMNS": "160"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(90):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_what_a_caller_sees_of_what_servers_list(tmp_path: Path, alpha: ScriptedServer) -> None:
    alpha.pages = [[{**tool("look"), "annotations": {"readOnlyHint": True}}], [tool("change")]]
    file = write(tmp_path, {
        "servers": {"alpha": {"url": alpha.url}},
        "authorization": {"rules": [{"name": "readers", "action": "allow", "annotations": {"readOnlyHint": True}}]},
    })  # fmt: skip
    code, out = await explain(file)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["server", "kind", "name", "verdict", "rule"],
        ["alpha", "tools", "alpha__look", "allowed", "readers"],
        ["alpha", "tools", "alpha__change", "hidden", "default"],
    ]
    code, out = await explain(file, "--tool", "alpha__change", "--json")
    assert code == 0
    assert [item["verdict"] for item in json.loads(out)["items"]] == ["hidden"]
    await alpha.stop()
    code, out = await explain(file, "--json")
    assert (code, json.loads(out)["items"], len(json.loads(out)["unread"])) == (1, [], 1)


DOCUMENT = (ROOT / "docs" / "security.md").read_text()


async def test_the_steps_of_the_documentation(tmp_path: Path, alpha: ScriptedServer) -> None:
    """They print what they are said to print."""
    section = DOCUMENT.partition("## What may this caller see, and why\n")[2].partition("\n## ")[0]
    found = re.findall(r"^ *```([a-z ]+)\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    fences = [(kind, textwrap.dedent(text)) for kind, text in found]
    [(_, document)] = [fence for fence in fences if fence[0] == "yaml gateway"]
    alpha.pages = [
        [
            {**tool("issue_read"), "annotations": {"readOnlyHint": True}},
            tool("issue_edit"),
            tool("delete_all"),
            tool("report"),
        ]
    ]
    file = tmp_path / "gateway.yaml"
    file.write_text(document.replace("http://127.0.0.1:3001/mcp", alpha.url))
    said: list[str] = []
    printed: list[str] = []
    for kind, text in fences:
        if kind == "text":
            said += [" ".join(line.split()) for line in text.splitlines()]
        for command in text.splitlines() if kind == "sh" else ():
            program, verb, _, *options = shlex.split(command)
            assert (program, verb) == ("mcp-extproc", "explain")
            code, out = await explain(file, *options)
            assert code == 0, command
            printed += [" ".join(line.split()) for line in out.splitlines()]
    assert printed == said
