"""A complete gateway on this machine: Envoy and its workers as child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from mcp_extproc.address import PipeAddress, TcpAddress, parse_address
from mcp_extproc.config import GatewayConfig, Loaded, Source
from mcp_extproc.config.endpoint import Endpoint, shown, url_of
from mcp_extproc.contract import SECRET_VARIABLE, TRANSPORT_VARIABLE
from mcp_extproc.envoy.files import BOOTSTRAP
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, LISTENER, Layout
from mcp_extproc.run.authorization_servers import AuthorizationServers
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.collector import CollectorProcess
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.run.envoy_binary import command
from mcp_extproc.run.envoy_log import complaint, ended, kept
from mcp_extproc.run.known import Gateway
from mcp_extproc.run.nursery import Forked, Nurseries
from mcp_extproc.run.page import Page
from mcp_extproc.run.process import LEAVING_SECONDS, START_SECONDS, StartError, end, spawn
from mcp_extproc.run.records_pipe import RecordsPipe
from mcp_extproc.run.reload import LiveConfig, Refused
from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.run.supervisor import Supervisor
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.spec import CollectorSpec
from mcp_extproc.upstreams.probe import ServerStatus

STOP_SECONDS = 5.0
"""For running calls to finish when the gateway stops. What a worker does when it ends is :data:`.process.DRAIN_SECONDS`."""

SHOW_SECONDS = 1.0
"""For the last of what Envoy wrote to be shown, once it has ended."""

_SHOW_BYTES = 1 << 16
_SHOW_PARTS = 16

_POLL_SECONDS = 0.02

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound

_LOG = log.logger("standalone")


class StandaloneGateway:
    """Envoy and its workers. Use as an async context manager; leaving it ends all processes and removes their sockets.

    Args:
        source: of the configuration.
        served: its content.
        envoy: the Envoy binary.
        secret: seals session tokens. Default: a random one, as there is one gateway, and its sessions end with it.
        envoy_log: file for Envoy's own log; a temporary one by default.
        workers: number of workers.
        port: port for clients, instead of the configuration's.
        leaving_seconds: time for a replaced worker to finish its calls.
        show: given what Envoy writes to its standard output, as it comes, in a thread; it may block, and misses what comes
            meanwhile. Default: it goes to ``output``.
        output: descriptor of Envoy's standard output, where its access log goes by default. Default: ours.
    """

    def __init__(
        self,
        source: Source,
        served: Loaded,
        envoy: str,
        secret: str | None = None,
        envoy_log: Path | None = None,
        workers: int = 1,
        port: int | None = None,
        leaving_seconds: float = LEAVING_SECONDS,
        show: Callable[[bytes], object] | None = None,
        output: int | None = None,
    ) -> None:
        self._envoy_binary = envoy
        self._directory = Path(tempfile.mkdtemp(prefix="mcp-extproc-"))
        self._envoy_log = envoy_log or self._directory / "envoy.log"
        self._records = PipeAddress(str(self._directory / "records.pipe"))
        self.layout = replace(Layout.in_directory(self._directory, workers), collector=self._records)
        assert self.layout.admin is not None
        self._admin = Admin(self.layout.admin)
        self._envoy: Process | None = None
        self._has_taken_all = False
        self._show = show
        self._output = output
        self._tasks = Tasks(_LOG)
        self._secret = secret
        self._environment: dict[str, str] = {}
        """Of the workers. A nursery has not the secret, so it comes later."""
        self._starter = Nurseries(self._environment)
        self._reports = ReportChannel()
        self._workers = self._supervisor(served, leaving_seconds)
        self._bridge = Bridge(self.layout, source.folder)
        self._issuers = AuthorizationServers(self.layout.keys)
        self._page = Page(self.layout.upstreams, self._as_it_is)
        self._collector = CollectorProcess(self.layout, source.folder, self._reports, self._page)
        self._live = LiveConfig(
            source,
            served,
            port,
            self._workers,
            self._bridge,
            self._issuers,
            self.layout,
            self._directory,
            self._envoy_log,
            self._collector,
        )
        self.port = served.config.listen.port
        """The TCP port for clients; known once started."""

    def _supervisor(self, served: Loaded, leaving_seconds: float) -> Supervisor:
        """Of the workers."""
        options = {
            "--upstreams": str(self.layout.upstreams),
            "--batches": str(self.layout.batches),
            "--drain-seconds": f"{leaving_seconds:g}",
        }
        return Supervisor(
            served,
            [word for option in options.items() for word in option],
            self.layout.extproc,
            self._starter,
            self._reports,
            inherits=os.environ.get(TRANSPORT_VARIABLE) != "grpcio",
        )

    @property
    def url(self) -> str:
        """The endpoint of which people are told."""
        return self.url_of(shown(self.config))

    def url_of(self, endpoint: Endpoint) -> str:
        """Where clients find an endpoint."""
        return url_of(endpoint, self.config.listen.model_copy(update={"port": self.port}))

    @property
    def status_url(self) -> str | None:
        """Where people find the status page, if there is one."""
        return self._page.url

    @property
    def collector_spec(self) -> CollectorSpec | None:
        """What is told to whom; ``None`` where nothing is on."""
        return self._collector.spec

    @property
    def pids(self) -> dict[str, int]:
        """The child processes: ``envoy``, ``bridge`` if a server is behind it, ``collector`` if something is collected,
        ``worker``, ``worker-2`` and so on."""
        envoy = {"envoy": self._envoy.pid} if self._envoy is not None else {}
        workers = enumerate(self._workers.pids, 1)
        bridge = {"bridge": self._bridge.pid} if self._bridge.pid is not None else {}
        collector = {"collector": self._collector.pid} if self._collector.pid is not None else {}
        return (
            envoy
            | bridge
            | collector
            | {f"worker-{number}" if number > 1 else "worker": pid for number, pid in workers}
        )

    async def learn(self, config: GatewayConfig, statuses: Iterable[ServerStatus]) -> None:
        """What servers of a configuration said when they were asked how they are, which the status page shows until they are
        asked again."""
        await self._page.learn(config, statuses)

    def _as_it_is(self) -> Gateway:
        return Gateway(self.config, self._live.served.name, "run", self.port, len(self.layout.extproc))

    def begin_with(self, nursery: Forked) -> None:
        """Begin with the process that the first workers are forks of. No event loop has run here yet.

        Args:
            nursery: with the same configuration.
        """
        self._starter.begin_with(nursery)
        self._live.render_apart()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            await self._start(starting)
            self._running = starting.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    @property
    def config(self) -> GatewayConfig:
        """The configuration of all workers."""
        return self._live.served.config

    async def wait(self) -> None:
        """Wait until Envoy ends by itself.

        Raises:
            StartError: always, with the way in which Envoy ended.
        """
        assert self._envoy is not None
        code = await self._envoy.wait()
        raise StartError(f"Envoy ended with {ended(code, self._envoy_log)}")

    async def transports_found(self) -> None:
        """Wait until all servers have been asked what they speak, where the configuration does not say."""
        await self._live.transports_found()

    async def restart_workers(self) -> None:
        """Replace the workers by new ones with the present configuration, even if it has not
        changed. No call is lost.

        Raises:
            ConfigError, Refused, StartError: it can't be used. The previous configuration stays in use.
        """
        await self._live.reload(even_if_same=True)

    def reload_soon(self) -> None:
        """The same in the background. Errors are logged."""
        self._live.reload_soon()

    # -- Start --------------------------------------------------------------------------------------------------------

    async def _start(self, started: AsyncExitStack) -> None:
        """Start all, in the order in which it is needed. ``started`` gets what stops it, last things first."""
        started.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._environment[SECRET_VARIABLE] = self._secret or secrets.token_urlsafe(32)
        _check_port_is_not_our_own(self._live.served.config)
        _check_port_is_free(self._live.served.config)
        self._live.write_watched()
        self._live.write_bootstrap()
        started.push_async_callback(self._issuers.stop)
        await self._issuers.serve(self._live.served.config)
        started.callback(self._reports.close)
        pipe = RecordsPipe(self._records)
        started.push_async_callback(pipe.close)
        pipe.watch()
        started.push_async_callback(self._collector.stop)  # after Envoy, which writes its last records when it ends
        await self._collector.serve(self._live.served.config)
        started.push_async_callback(self._bridge.stop)
        await self._bridge.serve(self._live.served.config)
        self._require_a_server()
        # First who would start workers again, then Envoy: with its workers gone it would answer 503 to what still comes in.
        started.push_async_callback(self._workers.stop)
        self._envoy = await self._start_envoy(self._directory / BOOTSTRAP)
        if self._show is not None:
            showing = self._tasks.start("show", self._show_output(self._envoy, self._show))
            started.push_async_callback(self._tasks.close)
            started.push_async_callback(asyncio.wait, {showing}, timeout=SHOW_SECONDS)
        started.push_async_callback(end, self._envoy)
        started.push_async_callback(self._workers.stop_keeping)
        await self._workers.open()
        await self._workers.start()
        await self._until_ready(self._envoy)
        started.push_async_callback(self._drain)
        started.push_async_callback(self._live.close)
        self._live.watch()

    def _require_a_server(self) -> None:
        unusable = self._bridge.unusable
        if unusable.keys() == self._live.served.config.servers.keys():
            problems = "".join(f"\n  {name}: {problem}" for name, problem in unusable.items())
            raise StartError(f"no server can be started:{problems}")

    async def _until_ready(self, envoy: Process) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not await self._is_ready():
            if envoy.returncode is not None:
                raise StartError(f"Envoy ended at start with {ended(envoy.returncode, self._envoy_log)}")
            if time.monotonic() > deadline:
                why = complaint(self._envoy_log) + kept(self._envoy_log)
                raise StartError(f"Envoy was not ready within {START_SECONDS:g} s: {why}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _start_envoy(self, configuration: Path) -> Process:
        # Of each key, twice: that Envoy's filter is work in progress.
        quiet = any(section.api_keys is not None for _, section in self.config.authentications())
        with self._envoy_log.open("ab") as log_file:
            return await spawn(
                [*command(self._envoy_binary, configuration), "--log-level", "warning",
                 # Calls appear in the access log immediately, not after ten seconds.
                 "--file-flush-interval-msec", "100", "--concurrency", str(min(os.cpu_count() or 1, 4)),
                 *(["--component-log-level", "misc:error"] if quiet else [])],
                stdout=self._output if self._show is None else asyncio.subprocess.PIPE, stderr=log_file.fileno(),
            )  # fmt: skip

    async def _show_output(self, envoy: Process, show: Callable[[bytes], object]) -> None:
        """Hand over what Envoy writes until it ends. It is read also while nobody reads the terminal, for which neither Envoy
        nor our end waits; what does not fit is lost."""
        assert envoy.stdout is not None
        parts: queue.Queue[bytes] = queue.Queue(_SHOW_PARTS)
        # No task of an executor, which would be waited for at the end.
        loop, shown = asyncio.get_running_loop(), asyncio.Event()

        def over() -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(shown.set)

        threading.Thread(target=_showing, args=(parts, show, over), name="show", daemon=True).start()
        while part := await envoy.stdout.read(_SHOW_BYTES):
            with contextlib.suppress(queue.Full):
                parts.put_nowait(part)
        with contextlib.suppress(queue.Full):
            parts.put_nowait(b"")
            await shown.wait()

    async def _is_ready(self) -> bool:
        """Whether Envoy listens and all workers are healthy."""
        if await self.admin("GET", "/ready") is None:
            return False
        await self._require_taken()
        listeners = await self.admin("GET", "/listeners") or ""
        bound = re.search(rf"^{LISTENER}::.*:(\d+)$", listeners, re.MULTILINE)
        if bound is None:
            # Envoy continues without a listener that it could not bind.
            raise StartError(f"Envoy does not listen: {complaint(self._envoy_log)}")
        self.port = int(bound[1])
        return await self.stat(f"cluster.{EXTPROC_CLUSTER}.membership_healthy") == len(self.layout.extproc)

    async def _require_taken(self) -> None:
        """Envoy goes on without what it rejects: without a table of routes its listener would answer 404 to all."""
        if self._has_taken_all:
            return
        try:
            await self._live.require_taken()
        except Refused as refused:
            raise StartError(str(refused)) from None
        self._has_taken_all = True

    async def stat(self, name: str) -> int | None:
        """One of Envoy's counters or gauges; ``None`` if it does not respond, or has no statistic of this name."""
        return await self._admin.stat(name)

    async def stats(self, pattern: str) -> Mapping[str, str] | None:
        """Envoy's statistics by name, as :meth:`Admin.stats`."""
        return await self._admin.stats(pattern)

    async def admin(self, method: str, path: str) -> str | None:
        """Send a request to Envoy's admin interface; ``None`` if the response is not 200."""
        return await self._admin.ask(method, path)

    # -- Stop ---------------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Reject new connections and let running calls finish, for a limited time."""
        if await self.admin("POST", "/drain_listeners?graceful&skip_exit") is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not await self.stat(f"http.{LISTENER}.downstream_rq_active"):
                break
            await asyncio.sleep(_POLL_SECONDS)


def _showing(parts: queue.Queue[bytes], show: Callable[[bytes], object], over: Callable[[], object]) -> None:
    while part := parts.get():
        with contextlib.suppress(OSError):  # the terminal is closed
            show(part)
    over()


def _check_port_is_not_our_own(config: GatewayConfig) -> None:
    """What listens before Envoy does would take its port."""
    metrics, listen = config.telemetry.metrics, config.listen
    ours = {"status.address": config.status.address, "telemetry.metrics.address": metrics and metrics.address}
    for key, text in ours.items():
        address = parse_address(text) if text else None
        if not isinstance(address, TcpAddress) or address.port != listen.port or address.port == 0:
            continue
        hosts = {"127.0.0.1" if address.host == "localhost" else address.host, listen.address}
        if len(hosts) == 1 or not hosts.isdisjoint(_EVERYWHERE):
            raise StartError(f"{key} has the port that clients connect to, {listen.port}. Choose another one for it.")


def _check_port_is_free(config: GatewayConfig) -> None:
    address, port = config.listen.address, config.listen.port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise StartError(
                f"cannot listen on {address}:{port}: {error.strerror}. Choose another port with --port, or stop the process"
                " that uses it."
            ) from None
