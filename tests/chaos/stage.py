"""A gateway as it runs in containers: Envoy, a process that keeps two workers, and two servers on the official SDK."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from mcp_extproc.address import UnixAddress
from mcp_extproc.cli.serve import WORKER
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.run.envoy_binary import find_envoy
from tests.chaos.load import SERVERS
from tests.support.gateway import TestClient
from tests.support.processes import (
    children_of,
    free_port,
    gone,
    http_server,
    is_alive,
    name_of,
    program,
    sdk_server,
    there,
)
from tests.support.waiting import PATIENCE

WORKERS = 2

BASE_ID = "base-id"
"""File with the number under which Envoys of one hot restart find each other."""

ALPHA_TIMEOUT = 10.0
"""Seconds that server ``alpha`` may be silent: more than it ever is by itself, also where processes start beside it."""


class Part:
    """A program at a port that can be ended and started again."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.command = command
        self.port = port
        self._log = log
        self._stack = AsyncExitStack()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, command: list[str] | None = None) -> None:
        """Start it, or another program in its place."""
        self.process = await self._stack.enter_async_context(
            http_server(command or self.command, self.port, log=self._log)
        )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()
        await self._stack.aclose()


class Stage:
    """All that runs."""

    def __init__(
        self,
        folder: Path,
        sockets: Path,
        gateway: asyncio.subprocess.Process,
        envoy: Part,
        servers: dict[str, Part],
    ) -> None:
        self.folder = folder
        self.sockets = sockets
        self.gateway = gateway
        self.envoy = envoy
        self.servers = servers
        self.admin = Admin(UnixAddress(str(sockets / "admin.sock")))

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers, the oldest first."""
        return sorted(pid for pid in children_of(self.gateway.pid) if _is_worker(pid))

    async def replace_envoy(self) -> None:
        """Envoy's hot restart: a new one takes over the sockets, and the old one ends once its requests had their time."""
        old = self.envoy.process
        base = ["--base-id", (self.folder / BASE_ID).read_text().strip()]
        await self.envoy.start([*envoy_command(self.sockets), *base, "--restart-epoch", "1"])
        assert old is not None
        async with asyncio.timeout(PATIENCE):
            assert await old.wait() == 0

    def rewrite(self, **servers: str) -> None:
        """Edit the configuration: further servers, by name."""
        write_config(self.folder, self.envoy.port, {name: part.port for name, part in self.servers.items()}, servers)


def write_config(folder: Path, port: int, ports: dict[str, int], more: dict[str, str]) -> Path:
    """The gateway's configuration."""
    sections: dict[str, Any] = {
        name: {"url": f"http://127.0.0.1:{at}/mcp", **({"timeout": ALPHA_TIMEOUT} if name == "alpha" else {})}
        for name, at in ports.items()
    }
    sections |= {name: {"url": url} for name, url in more.items()}
    file = folder / "gateway.yaml"
    new = folder / "gateway.yaml.new"
    new.write_text(json.dumps({"listen": {"port": port}, "servers": sections, "log": {"access": ""}}))
    new.replace(file)
    return file


def _is_worker(pid: int) -> bool:
    return name_of(pid) == WORKER and is_alive(pid)


def envoy_command(sockets: Path) -> list[str]:
    """To start Envoy on the files that the gateway wrote."""
    return [find_envoy(), "-c", str(sockets / "envoy.json"), "--log-level", "warning", "--concurrency", "2",
            # Envoys of one hot restart meet at a socket in a folder of their own (docs/envoy.md).
            "--socket-path", str(sockets / "restart"),
            "--drain-time-s", "1", "--drain-strategy", "immediate", "--parent-shutdown-time-s", "10"]  # fmt: skip


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[tuple[Stage, TestClient]]:
    """Start all; afterwards nothing of it is left."""
    async with AsyncExitStack() as stack:
        # Not in the test's folder, whose path may be long: the hot restart appends 40 characters, and a socket's path has 108.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-")))
        servers = {}
        for name in SERVERS:
            port = free_port()
            servers[name] = Part(sdk_server(name, port), port, folder / f"{name}.log")
            stack.push_async_callback(servers[name].end, signal.SIGKILL)
        await asyncio.gather(*(server.start() for server in servers.values()))
        port = free_port()
        file = write_config(folder, port, {name: part.port for name, part in servers.items()}, {})
        command = [sys.executable, "-m", "mcp_extproc", "serve", str(file),
                   "--workers", str(WORKERS), "--envoy-config", str(sockets)]  # fmt: skip
        log = folder / "gateway.log"
        environment = {"MCP_SESSION_SECRET": "s" * 32}
        gateway = await stack.enter_async_context(program(command, log=log, environment=environment))
        await there(gateway, log, sockets / "envoy.json")
        first = ["--use-dynamic-base-id", "--base-id-path", str(folder / BASE_ID)]
        envoy = Part([*envoy_command(sockets), *first], port, folder / "envoy.log")
        stack.push_async_callback(envoy.end, signal.SIGKILL)
        await envoy.start()
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        running = Stage(folder, sockets, gateway, envoy, servers)
        children = children_of(gateway.pid)
        try:
            yield running, TestClient(f"http://127.0.0.1:{port}/mcp", http)
        finally:
            for pid in running.workers:
                os.kill(pid, signal.SIGCONT)
    children |= {gateway.pid}
    await gone(children)
