"""A whole gateway on this machine: Envoy and a worker as child processes, started, watched and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.envoy.bootstrap import bootstrap, to_json
from mcp_extproc.envoy.layout import LISTENER, Layout
from mcp_extproc.extproc import files
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.address import UnixAddress

START_SECONDS = 30.0
DRAIN_SECONDS = 5.0
"""How long calls may go on once the gateway was told to stop."""

_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.02
_RESTART_SECONDS = (0.1, 0.5, 2.0)

_LOG = log.logger("local")


class StartError(Exception):
    """The gateway can't start. ``str()`` says what, where, and what to do."""


class LocalGateway:
    """Envoy and a worker. Use as an async context manager; leaving it ends both and removes their sockets.

    Args:
        config: the whole configuration.
        config_file: where the worker reads it from.
        envoy: the Envoy binary.
        secret: seals session tokens.
        envoy_log: file for Envoy's own log; a temporary one by default.
    """

    def __init__(
        self, config: GatewayConfig, config_file: Path, envoy: str, secret: str, envoy_log: Path | None = None
    ) -> None:
        self._config = config
        self._config_file = config_file
        self._envoy_binary = envoy
        self._secret = secret
        self._directory = Path(tempfile.mkdtemp(prefix="mcp-extproc-"))
        self._envoy_log = envoy_log or self._directory / "envoy.log"
        self.layout = Layout.in_directory(self._directory)
        self._envoy: Process | None = None
        self._worker: Process | None = None
        self._watcher: asyncio.Task[None] | None = None
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
        """The child processes."""
        children = {"envoy": self._envoy, "worker": self._worker}
        return {name: process.pid for name, process in children.items() if process is not None}

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
        raise StartError(f"Envoy ended with {_exit(code)}: {self._envoy_complaint()}")

    # -- Start --------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        _check_port_is_free(self._config)
        configuration = self._directory / "envoy.json"
        configuration.write_text(to_json(bootstrap(self._config, self.layout)))
        await self._start_worker()
        with self._envoy_log.open("ab") as log_file:
            self._envoy = await _spawn(
                [self._envoy_binary, "-c", str(configuration), "--log-level", "warning", "--use-dynamic-base-id",
                 # Calls show up in the access log as they happen, not ten seconds later.
                 "--file-flush-interval-msec", "100",
                 "--concurrency", str(min(os.cpu_count() or 1, 4)), "--parent-shutdown-time-s", "1"],
                stderr=log_file.fileno(),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        await self._until(self._worker_listens, self._worker, "the worker", deadline)
        await self._until(self._envoy_is_ready, self._envoy, "Envoy", deadline)
        self._watcher = asyncio.create_task(self._keep_worker())

    async def _start_worker(self) -> None:
        self._worker = await _spawn(
            [sys.executable, "-m", "mcp_extproc", "serve", str(self._config_file),
             "--listen", str(self.layout.extproc), "--upstreams", str(self.layout.upstreams),
             "--batches", str(self.layout.batches)],
            environment={SECRET_VARIABLE: self._secret},
        )  # fmt: skip

    async def _until(
        self, ready: Callable[[], Awaitable[bool]], process: Process | None, what: str, deadline: float
    ) -> None:
        assert process is not None
        while not await ready():
            if process.returncode is not None:
                why = f": {self._envoy_complaint()}" if process is self._envoy else "; see its messages above"
                raise StartError(f"{what} ended at start with {_exit(process.returncode)}{why}")
            if time.monotonic() > deadline:
                raise StartError(f"{what} was not ready within {START_SECONDS:g} s: {self._envoy_complaint()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _worker_listens(self) -> bool:
        assert isinstance(self.layout.extproc, UnixAddress)
        try:
            _, writer = await asyncio.open_unix_connection(self.layout.extproc.path)
        except OSError:
            return False
        writer.close()
        return True

    async def _envoy_is_ready(self) -> bool:
        if await self.admin("GET", "/ready") is None:
            return False
        listeners = await self.admin("GET", "/listeners") or ""
        bound = re.search(rf"^{LISTENER}::.*:(\d+)$", listeners, re.MULTILINE)
        if bound is None:
            # Envoy goes on without a listener that it could not bind.
            raise StartError(f"Envoy does not listen: {self._envoy_complaint()}")
        self.port = int(bound[1])
        return True

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

    # -- Watch --------------------------------------------------------------------------------------------------------

    async def _keep_worker(self) -> None:
        """Start the worker again when it dies. Meanwhile Envoy answers 503, and nothing passes undecided."""
        attempts = 0
        while True:
            assert self._worker is not None
            started = time.monotonic()
            code = await self._worker.wait()
            attempts = 0 if time.monotonic() - started > 60 else min(attempts + 1, len(_RESTART_SECONDS))
            pause = _RESTART_SECONDS[max(attempts - 1, 0)]
            log.event(_LOG, logging.ERROR, "worker_died", {"exit": _exit(code), "restart_in_seconds": pause})
            await asyncio.sleep(pause)
            await self._start_worker()

    # -- Stop ---------------------------------------------------------------------------------------------------------

    async def _stop(self, *, drain: bool) -> None:
        if drain:
            await self._drain()
        # First who would start the worker again, then Envoy: with its worker gone it would answer 503 to what still comes in.
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await _end(self._envoy)
        await _end(self._worker)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _drain(self) -> None:
        """Refuse new connections and let running calls finish, for a while."""
        if await self.admin("POST", "/drain_listeners?graceful&skip_exit") is None:
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        counter = f"http.{LISTENER}.downstream_rq_active"
        while time.monotonic() < deadline:
            stats = await self.admin("GET", f"/stats?filter=^{counter}$")
            if stats is None or stats.strip() == f"{counter}: 0":
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


async def _spawn(
    command: list[str], *, environment: Mapping[str, str] | None = None, stderr: int | None = None
) -> Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        # Ctrl-C reaches us alone, and we end the children in order.
        start_new_session=True,
        preexec_fn=_prepare,
    )


def _prepare() -> None:
    """What a child does before its program starts."""
    files.allow_many()
    _die_with_parent()


def _die_with_parent() -> None:
    """Have the kernel end a child whose parent was killed without a chance to do so (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


async def _end(process: Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _KILL_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
