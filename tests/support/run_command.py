"""``mcp-extproc run`` as a child of the test, which reads what it writes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT
from tests.support.waiting import PATIENCE

RUN = [sys.executable, "-m", "mcp_extproc", "run"]


@asynccontextmanager
async def piped(command: Sequence[str], environment: Mapping[str, str], folder: Path = ROOT) -> AsyncIterator[Process]:
    """A command that is killed if it does not end before.

    Args:
        command: program and arguments.
        environment: all of it.
        folder: where it runs.
    """
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def running(file: Path, *options: str, **environment: str) -> AsyncIterator[Process]:
    """``mcp-extproc run`` with a file, in a wide window."""
    async with piped([*RUN, str(file), *options], {**os.environ, "COLUMNS": "160", **environment}) as process:
        yield process


async def finished(file: Path, *options: str, **environment: str) -> tuple[int, str, str]:
    """Exit code and output of a run that ends by itself."""
    async with running(file, *options, **environment) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def announced(process: Process) -> dict[str, Any]:
    """What ``--json`` prints when the gateway is ready."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while line := await process.stdout.readline():
            entry: dict[str, Any] = json.loads(line)
            if "url" in entry:
                return entry
    raise AssertionError(await process.stderr.read() if process.stderr else "")


def write(folder: Path, document: dict[str, Any], name: str = "mcp-servers.json") -> Path:
    """A configuration's file."""
    file = folder / name
    file.write_text(json.dumps(document))
    return file
