"""Records what a real Envoy sends to a real worker: ``python -m tests.extproc.recorded.record``.

A relay stands between the two, and keeps what it reads from Envoy. Three Envoys are recorded one after the other: one as the
gateway configures it; one that lives with small windows, few streams on a connection, health checks and pings; one whose
worker is replaced again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from hyperframe.frame import GoAwayFrame

from mcp_extproc.address import UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, LISTENER, Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.run.envoy_binary import find_envoy
from tests.extproc.recorded import recording
from tests.extproc.recorded.recording import Read, Recording
from tests.extproc.recorded.servers import Quiet, Talkative
from tests.extproc.recorded.traffic import Agent
from tests.support.processes import comes_up, free_port, program, there
from tests.support.scripted import tool

SECRET = "s" * 32

AGENTS = 24

_PATIENCE = 30.0

_TURN_SECONDS = 0.1
"""After which a worker is replaced."""

Patch = dict[str, Any]

MODEST: Patch = {
    "perConnectionBufferLimitBytes": 32768,
    "healthChecks": [{
        "timeout": "5s", "interval": "0.1s", "noTrafficInterval": "0.1s", "unhealthyThreshold": 5, "healthyThreshold": 1,
        "grpcHealthCheck": {"serviceName": pb.SERVICE_NAME},
    }],
    "typedExtensionProtocolOptions": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "commonHttpProtocolOptions": {"maxRequestsPerConnection": 200},
        "explicitHttpConfig": {"http2ProtocolOptions": {
            "maxConcurrentStreams": 8, "initialStreamWindowSize": 65535, "initialConnectionWindowSize": 65535,
            "connectionKeepalive": {"interval": "0.1s", "timeout": "10s"},
        }},
    }},
}  # fmt: skip
"""The cluster of workers for an Envoy with little room."""


class Relay:
    """Carries bytes between Envoys and workers, and keeps what Envoys say."""

    def __init__(self) -> None:
        self.reads: list[Read] = []
        self.drains: dict[int, int] = {}
        self.worker = ""
        """Path of the socket that new connections go to."""
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        """A new connection of Envoy's."""
        self._connections += 1
        return _FromEnvoy(self, self._connections)

    def spawn(self, work: Any) -> None:
        """Do something, and end it with the relay."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _FromEnvoy(asyncio.Protocol):
    """Each read is kept as it came."""

    def __init__(self, relay: Relay, number: int) -> None:
        self._relay = relay
        self._number = number
        self._early: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._worker: asyncio.StreamWriter | None = None
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._relay.spawn(self._carry_back(transport))

    def data_received(self, data: bytes) -> None:
        self._relay.reads.append(Read(self._number, data))
        if self._worker is None:
            self._early.append(data)
        else:
            self._worker.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._relay.reads.append(Read(self._number, b""))
        self._over = True
        if self._worker is not None:
            self._worker.close()

    async def _carry_back(self, envoy: asyncio.Transport) -> None:
        try:
            reader, self._worker = await asyncio.open_unix_connection(self._relay.worker)
        except OSError:
            envoy.abort()
            return
        self._worker.writelines(self._early)
        seen = bytearray()
        while not self._over and (data := await reader.read(1 << 18)):
            seen += data
            if any(isinstance(frame, GoAwayFrame) for _, frame in recording.frames_in(seen)):
                self._relay.drains.setdefault(self._number, len(self._relay.reads))
            envoy.write(data)
        envoy.close()
        self._worker.close()


class Stage:
    """Where everything runs: a directory with its sockets and files, the servers, and the relay."""

    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self.directory = directory
        self.document = document
        self.file = directory / "gateway.json"
        self.file.write_text(json.dumps(document))
        self.config = GatewayConfig.model_validate(document)
        self.layout = Layout.in_directory(directory)
        self.relay = Relay()
        self._workers = 0

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """A worker that new connections go to."""
        self._workers += 1
        path = self.directory / f"worker-{self._workers}.sock"
        command = [
            sys.executable, "-m", "mcp_extproc", "serve", str(self.file), "--listen", f"unix:{path}",
            "--upstreams", str(self.layout.upstreams), "--batches", str(self.layout.batches),
        ]  # fmt: skip
        environment = {SECRET_VARIABLE: SECRET}
        log = self.directory / "worker.log"
        async with program(command, log=log, environment=environment) as process:
            await there(process, log, path)
            self.relay.worker = str(path)
            yield

    @asynccontextmanager
    async def envoy(self, patch: Patch) -> AsyncIterator[str]:
        """An Envoy in front of the relay. Yields the URL for clients."""
        document = json.loads(to_json(bootstrap(self.config, self.layout)))
        [cluster] = [one for one in document["staticResources"]["clusters"] if one["name"] == EXTPROC_CLUSTER]
        cluster |= patch
        file = self.directory / "envoy.json"
        file.write_text(json.dumps(document))
        log = self.directory / "envoy.log"
        command = [find_envoy(), "-c", str(file), "--disable-hot-restart", "--concurrency", "2",
                   "--log-level", "warning", "--parent-shutdown-time-s", "1"]  # fmt: skip
        async with program(command, log=log) as process:
            port = await comes_up(process, log, self._port, "Envoy listens")
            yield f"http://localhost:{port}/mcp"
            await self._admin("POST", "/drain_listeners?graceful&skip_exit")

    async def _port(self) -> int | None:
        if await self._admin("GET", "/ready") is None:
            return None
        found = re.search(rf"^{LISTENER}::.*:(\d+)$", await self._admin("GET", "/listeners") or "", re.MULTILINE)
        return None if found is None else int(found[1])

    async def _admin(self, method: str, path: str) -> str | None:
        admin = str(self.directory / "admin.sock")
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(admin)) as http,
                http.request(method, f"http://admin{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None


async def agents(url: str, turns: int, seed: int) -> None:
    """Let clients do so many things each."""

    async def one(number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_PATIENCE)) as http:
            await Agent(url, http, Random(seed * 1000 + number)).run(turns)

    async with asyncio.TaskGroup() as group:
        for number in range(AGENTS):
            group.create_task(one(number))


async def record() -> Recording:
    """Run everything."""
    async with AsyncExitStack() as stack:
        alpha = await stack.enter_async_context(Talkative())
        beta = await stack.enter_async_context(Quiet("beta", stateless=True, pages=[[tool("echo")]]))
        gone = f"http://127.0.0.1:{free_port()}/mcp"
        servers = {"alpha": {"url": alpha.url}, "beta": {"url": beta.url}, "gamma": {"url": gone}}
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp")))
        stage = Stage(directory, {"listen": {"port": 0}, "servers": servers})
        await stack.enter_async_context(_listening(stage))
        async with stage.worker():
            async with stage.envoy({}) as url:
                await agents(url, 165, seed=1)
            async with stage.envoy(MODEST) as url:
                await agents(url, 100, seed=2)
        async with _replaced_workers(stage), stage.envoy({}) as url:
            await agents(url, 120, seed=3)
        return Recording(stage.document, SECRET, int(time.time()), stage.relay.reads, stage.relay.drains)


@asynccontextmanager
async def _listening(stage: Stage) -> AsyncIterator[None]:
    [address] = stage.layout.extproc
    assert isinstance(address, UnixAddress)
    server = await asyncio.get_running_loop().create_unix_server(stage.relay.accept, address.path)
    async with server:
        yield


@asynccontextmanager
async def _replaced_workers(stage: Stage) -> AsyncIterator[None]:
    """Workers that take turns: each ends once the next one is there."""
    ready, stop = asyncio.Event(), asyncio.Event()

    async def take_turns() -> None:
        old = AsyncExitStack()
        while not stop.is_set():
            new = AsyncExitStack()
            await new.enter_async_context(stage.worker())
            ready.set()
            await old.aclose()
            old = new
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _TURN_SECONDS)
        await old.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(take_turns())
        await ready.wait()
        yield
        stop.set()


def main() -> None:
    """Record, and say what."""
    recording.save(asyncio.run(record()))
    made = recording.script(recording.load())
    summary: Mapping[str, Any] = {
        "exchanges": len({key for steps in made.steps for key, _ in steps}),
        "connections": len({read.connection for read in made.recording.reads}),
        "drains": len(made.recording.drains),
        "reads": len(made.recording.reads),
        "bytes": sum(len(read.data) for read in made.recording.reads),
        "file": recording.FILE.stat().st_size,
        "frames": dict(made.frames),
        "kinds": dict(made.kinds),
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
