"""Programs that tests start, and end by their process ids."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcp_extproc.run.process import Subprocess
from tests.support.waiting import PATIENCE, eventually

ROOT = Path(__file__).parents[2]
WARM_PROCESS = "warm-process"
"""Name of the process of tests.support.warm."""

_T = TypeVar("_T")


def free_port() -> int:
    """A TCP port that nobody else gets before this process ends, and that refuses connections while no server listens.

    A socket that is bound and does not listen keeps it. Servers get past by SO_REUSEADDR (socket(7)).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        holder.detach()
        return port


@asynccontextmanager
async def program(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running program, its output in ``log``. It is ended with SIGTERM, and killed if it stays."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), PATIENCE / 4)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def drained(pipe: asyncio.StreamReader | None, log: Path) -> AsyncIterator[None]:
    """What a program writes to a pipe goes to ``log`` for the time of the block: nobody waits for room in it."""
    assert pipe is not None

    async def drain() -> None:
        with log.open("wb", buffering=0) as file:
            while chunk := await pipe.read(65536):
                file.write(chunk)

    draining = asyncio.create_task(drain())
    try:
        yield
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)


@asynccontextmanager
async def http_server(
    command: Sequence[str], port: int, *, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running server that accepts connections on a port of this machine."""
    async with program(command, log=log, environment=environment) as process:
        await comes_up(process, log, lambda: accepts(port), f"a server on port {port}")
        yield process


async def comes_up(process: Subprocess, log: Path, look: Callable[[], Awaitable[_T]], what: str) -> _T:
    """Wait for something of a program's, as :func:`eventually`, and fail with its output if it ends before."""

    async def look_and_live() -> _T:
        seen = await look()
        assert seen or process.returncode is None, f"it ended before {what}: {log.read_text()}"
        return seen

    return await eventually(look_and_live, what)


def entries(log: Path) -> list[dict[str, Any]]:
    """What a log has in JSON by now. Who writes it may be in the middle of a line, and libraries have lines of their own."""
    *lines, _ = log.read_text().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")]


async def logs(process: Subprocess, log: Path, text: str) -> None:
    """Wait until a program has said something, and fail with all that it said if it ends before."""

    async def said() -> bool:
        return text in log.read_text()

    await comes_up(process, log, said, f"{text!r} in {log.name}")


async def there(process: Subprocess, log: Path, file: Path) -> None:
    """Wait until a program has made a file, and fail with all that it said if it ends before."""

    async def exists() -> bool:
        return file.exists()

    await comes_up(process, log, exists, str(file))


async def gone(pids: Iterable[int]) -> None:
    """Wait until none of these processes is left."""
    await eventually(lambda: [pid for pid in pids if is_alive(pid)], "processes to end", until=lambda left: not left)


async def accepts(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    try:
        _, writer = await asyncio.open_connection("localhost", port)
    except OSError:
        return False
    writer.close()
    return True


def sdk_server(name: str, port: int) -> list[str]:
    """The command of an MCP server built on the official SDK (tests/support/sdk_server.py)."""
    return [sys.executable, "-W", "ignore", "-m", "tests.support.sdk_server", name, str(port)]


def interrupt(pid: int) -> None:
    """What Ctrl-C sends."""
    os.kill(pid, signal.SIGINT)


def children_of(pid: int) -> set[int]:
    """All processes below one, at this moment, but for that of tests.support.warm."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue
            if not name.endswith(f"({WARM_PROCESS}"):
                parents[int(entry.name)] = int(rest.split()[1])
    found: set[int] = set()
    grew = True
    while grew:
        grew = False
        for child, parent in parents.items():
            if child not in found and (parent == pid or parent in found):
                found.add(child)
                grew = True
    return found


def name_of(pid: int) -> str:
    """What ps(1) calls a process; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def envoy_that_says(version: str, folder: Path) -> Path:
    """A program that answers ``--version`` as an Envoy of this version does, and does not start."""
    path = folder / f"envoy-{version}"
    line = f"{path}  version: 9e5580933739775e8bce696a57a2e1bc99368f23/{version}/Clean/RELEASE/BoringSSL"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{line}" && exit 0\necho started >&2\nexit 3\n')
    path.chmod(0o755)
    return path
