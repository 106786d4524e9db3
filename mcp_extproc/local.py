"""A whole gateway on this machine: Envoy and its workers as child processes, started, watched and ended together."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import tempfile
import time
from asyncio.subprocess import Process
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from mcp_extproc.children import StartError, end, ending, spawn
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.envoy.bootstrap import bootstrap, to_json
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, LISTENER, Layout
from mcp_extproc.supervisor import Supervisor
from mcp_extproc.upstreams.address import UnixAddress

START_SECONDS = 30.0
DRAIN_SECONDS = 5.0
"""How long calls may go on once the gateway was told to stop."""

LEAVING_SECONDS = 300.0
"""How long a worker that was replaced may go on with the calls whose answers it reads."""

_POLL_SECONDS = 0.02


class LocalGateway:
    """Envoy and its workers. Use as an async context manager; leaving it ends all and removes their sockets.

    Args:
        config: the whole configuration.
        config_file: where the workers read it from.
        envoy: the Envoy binary.
        secret: seals session tokens.
        envoy_log: file for Envoy's own log; a temporary one by default.
        workers: how many.
        leaving_seconds: how long a worker that was replaced may go on with its calls.
    """

    def __init__(
        self,
        config: GatewayConfig,
        config_file: Path,
        envoy: str,
        secret: str,
        envoy_log: Path | None = None,
        workers: int = 1,
        leaving_seconds: float = LEAVING_SECONDS,
    ) -> None:
        self._config = config
        self._envoy_binary = envoy
        self._directory = Path(tempfile.mkdtemp(prefix="mcp-extproc-"))
        self._envoy_log = envoy_log or self._directory / "envoy.log"
        self.layout = Layout.in_directory(self._directory, workers)
        self._envoy: Process | None = None
        self._workers = Supervisor(
            config_file,
            [
                "--upstreams",
                str(self.layout.upstreams),
                "--batches",
                str(self.layout.batches),
                "--drain-seconds",
                f"{leaving_seconds:g}",
            ],
            [address for address in self.layout.extproc if isinstance(address, UnixAddress)],
            {SECRET_VARIABLE: secret},
        )
        self.port = config.listen.port
        """The TCP port that clients use; known once started."""

    @property
    def url(self) -> str:
        """The MCP endpoint."""
        host = self._config.listen.address
        host = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(host, host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self._config.listen.path}"

    @property
    def pids(self) -> dict[str, int]:
        """The child processes: ``envoy``, ``worker``, ``worker-2`` and so on."""
        envoy = {"envoy": self._envoy.pid} if self._envoy is not None else {}
        workers = enumerate(self._workers.pids, 1)
        return envoy | {f"worker-{number}" if number > 1 else "worker": pid for number, pid in workers}

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop(drain=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop(drain=True)

    async def wait(self) -> None:
        """Until Envoy ends by itself.

        Raises:
            StartError: always, saying how Envoy ended.
        """
        assert self._envoy is not None
        code = await self._envoy.wait()
        raise StartError(f"Envoy ended with {ending(code)}: {self._envoy_complaint()}")

    async def restart_workers(self) -> None:
        """Replace all workers, one after the other; no call is lost. They read the configuration file again.

        Raises:
            StartError: a new worker can't serve. Those that were not replaced go on.
        """
        await self._workers.restart()

    # -- Start --------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        _check_port_is_free(self._config)
        configuration = self._directory / "envoy.json"
        configuration.write_text(to_json(bootstrap(self._config, self.layout)))
        self._envoy = await self._start_envoy(configuration)
        await self._workers.start()
        deadline = time.monotonic() + START_SECONDS
        while not await self._is_ready():
            if self._envoy.returncode is not None:
                raise StartError(
                    f"Envoy ended at start with {ending(self._envoy.returncode)}: {self._envoy_complaint()}"
                )
            if time.monotonic() > deadline:
                raise StartError(f"Envoy was not ready within {START_SECONDS:g} s: {self._envoy_complaint()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _start_envoy(self, configuration: Path) -> Process:
        with self._envoy_log.open("ab") as log_file:
            return await spawn(
                [self._envoy_binary, "-c", str(configuration), "--log-level", "warning", "--use-dynamic-base-id",
                 # Calls show up in the access log as they happen, not ten seconds later.
                 "--file-flush-interval-msec", "100",
                 "--concurrency", str(min(os.cpu_count() or 1, 4)), "--parent-shutdown-time-s", "1"],
                stderr=log_file.fileno(),
            )  # fmt: skip

    async def _is_ready(self) -> bool:
        """Envoy listens, and sees that all workers are well."""
        if await self.admin("GET", "/ready") is None:
            return False
        listeners = await self.admin("GET", "/listeners") or ""
        bound = re.search(rf"^{LISTENER}::.*:(\d+)$", listeners, re.MULTILINE)
        if bound is None:
            # Envoy goes on without a listener that it could not bind.
            raise StartError(f"Envoy does not listen: {self._envoy_complaint()}")
        self.port = int(bound[1])
        return await self.stat(f"cluster.{EXTPROC_CLUSTER}.membership_healthy") == len(self.layout.extproc)

    async def stat(self, name: str) -> int | None:
        """One of Envoy's counters or gauges; ``None`` where it does not answer, or has none of this name."""
        text = await self.admin("GET", f"/stats?filter=^{re.escape(name)}$")
        return int(text.rpartition(":")[2]) if text else None

    async def admin(self, method: str, path: str) -> str | None:
        """Ask Envoy's admin interface; ``None`` where it does not answer 200."""
        assert isinstance(self.layout.admin, UnixAddress)
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            connector = aiohttp.UnixConnector(self.layout.admin.path)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
                http.request(method, f"http://admin{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def _envoy_complaint(self) -> str:
        """What Envoy's log says went wrong, its last severe line."""
        try:
            lines = self._envoy_log.read_text(errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        severe = [line for line in lines if "[critical]" in line or "[error]" in line] or lines
        return re.sub(r"^(\[[^\]]*\])+ ?", "", severe[-1]) if severe else "it wrote nothing to its log"

    # -- Stop ---------------------------------------------------------------------------------------------------------

    async def _stop(self, *, drain: bool) -> None:
        if drain:
            await self._drain()
        # First who would start workers again, then Envoy: with its workers gone it would answer 503 to what still comes in.
        await self._workers.stop_keeping()
        await end(self._envoy)
        await self._workers.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _drain(self) -> None:
        """Refuse new connections and let running calls finish, for a while."""
        if await self.admin("POST", "/drain_listeners?graceful&skip_exit") is None:
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            if not await self.stat(f"http.{LISTENER}.downstream_rq_active"):
                return
            await asyncio.sleep(_POLL_SECONDS)


def _check_port_is_free(config: GatewayConfig) -> None:
    address, port = config.listen.address, config.listen.port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise StartError(
                f"cannot listen on {address}:{port}: {error.strerror}. Choose another port with --port, or end what uses it."
            ) from None
