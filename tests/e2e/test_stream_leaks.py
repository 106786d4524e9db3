"""Clients that listen and go leave nothing behind in a worker: no hub, no task, no stream at a server, no file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_extproc.config import GatewayConfig, load
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.run import worker as worker_module
from mcp_extproc.run.envoy_binary import find_envoy
from mcp_extproc.upstreams.get_streams import Streams
from tests.e2e.conftest import StartGateway
from tests.support.processes import free_port, program
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually

SESSIONS = 20
ROUNDS = 3


class Quiet(ScriptedServer):
    """Its streams of GETs stay open, and nothing comes on them."""

    open_streams = 0

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return await super()._serve(request)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.open_streams += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open_streams -= 1
        return response


class Rig:
    """A worker in this process, Envoy, and two servers."""

    def __init__(self, url: str, servers: list[Quiet], streams: list[Streams]) -> None:
        self.servers = servers
        self._url = url
        self._streams = streams

    def hubs(self) -> int:
        [streams] = self._streams
        return len(streams._merged)

    def streams(self) -> list[int]:
        return [server.open_streams for server in self.servers]

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client whose connections end with their requests."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http:
            yield http

    async def begin(self, http: aiohttp.ClientSession) -> dict[str, str]:
        """Open a session; returns its headers."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        headers = {"accept": "application/json, text/event-stream"}
        async with http.post(self._url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return {"mcp-session-id": answer.headers["mcp-session-id"]}

    async def listen(self, http: aiohttp.ClientSession, session: dict[str, str]) -> aiohttp.ClientResponse:
        answer = await http.get(self._url, headers={"accept": "text/event-stream", **session})
        assert answer.status == 200, await answer.text()
        return answer

    async def end(self, http: aiohttp.ClientSession, session: dict[str, str]) -> None:
        async with http.delete(self._url, headers=session) as answer:
            assert answer.status == 204, await answer.text()


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    made: list[Streams] = []

    def make(*args: Any) -> Streams:
        made.append(Streams(*args))
        return made[-1]

    monkeypatch.setattr(worker_module, "Streams", make)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Quiet(name)) for name in ("alpha", "beta")]
        config = _config(tmp_path, servers)
        # Paths of Unix sockets have to be short.
        layout = Layout.in_directory(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leaks-"))))
        transport = os.environ.get("MCP_EXTPROC_TRANSPORT", worker_module.DEFAULT_TRANSPORT)
        options = worker_module.WorkerOptions(layout.extproc[0], layout.upstreams, layout.batches, transport)
        await stack.enter_async_context(worker_module.worker(config, options, "s" * 32))
        file = tmp_path / "envoy.json"
        file.write_text(to_json(bootstrap(config, layout)))
        command = [
            find_envoy(),
            "-c",
            str(file),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--concurrency",
            "1",
        ]
        await stack.enter_async_context(program(command, log=tmp_path / "envoy.log"))
        rig = Rig(f"http://127.0.0.1:{config.listen.port}/mcp", servers, made)
        await _ready(rig)
        yield rig


def _config(directory: Path, servers: list[Quiet]) -> GatewayConfig:
    file = directory / "gateway.yaml"
    file.write_text(
        json.dumps({
            "listen": {"port": free_port()},
            "servers": {server.name: {"url": server.url} for server in servers},
            "log": {"access": "", "level": "error"},
        })
    )  # fmt: skip
    return load(file, {}).config


async def _ready(rig: Rig) -> None:
    async with rig.client() as http:

        async def serves() -> bool:
            with contextlib.suppress(aiohttp.ClientError, AssertionError):
                await rig.end(http, await rig.begin(http))
                return True
            return False

        await eventually(serves, "a stream is served")


def files() -> int:
    """What this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@asynccontextmanager
async def _nothing_left() -> AsyncIterator[None]:
    """Of what is done in the block as often as ``ROUNDS * SESSIONS``, by the tasks and files of this process. Some more are
    Envoy's connections to the servers, as many as had requests at the same time."""
    tasks, opened = len(asyncio.all_tasks()), files()
    yield
    await eventually(lambda: len(asyncio.all_tasks()), "no more tasks", until=lambda now: now < tasks + SESSIONS)
    await eventually(files, "no more files", until=lambda now: now < opened + SESSIONS)


async def _come_and_go(rig: Rig, count: int, *, ended_first: bool) -> None:
    """Sessions whose clients break their streams and then end them, or the other way round."""
    async with rig.client() as http:
        sessions = [await rig.begin(http) for _ in range(count)]
        open_streams = [await rig.listen(http, session) for session in sessions]
        await eventually(
            rig.streams,
            "a stream at each server for each client",
            until=lambda streams: streams == [count] * len(rig.servers),
        )
        assert rig.hubs() == count
        for session, stream in zip(sessions, open_streams, strict=True):
            if ended_first:
                await rig.end(http, session)
                assert await stream.read() == b""
            stream.close()
            if not ended_first:
                await rig.end(http, session)
        await eventually(rig.hubs, "no hub", until=lambda hubs: hubs == 0)
        await eventually(rig.streams, "no stream at any server", until=lambda streams: not any(streams))


@pytest.mark.parametrize("ended_first", [False, True], ids=["broken", "ended"])
async def test_listeners_leave_nothing_behind(rig: Rig, ended_first: bool) -> None:
    await _come_and_go(rig, 3, ended_first=ended_first)
    async with _nothing_left():
        for _ in range(ROUNDS):
            await _come_and_go(rig, SESSIONS, ended_first=ended_first)


async def test_processes_may_open_as_many_files_as_the_system_allows(start_own: StartGateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        async with Quiet("alpha") as server, start_own({"alpha": server.url}) as gateway:
            for name, pid in gateway.local.pids.items():
                assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard), name
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_client_that_reconnects_leaves_nothing_behind(rig: Rig) -> None:
    """One session, many streams one after the other, each opened while the last is still there."""
    async with rig.client() as http:
        session = await rig.begin(http)
        stream = await rig.listen(http, session)
        await eventually(rig.streams, "a stream at each server", until=lambda streams: streams == [1, 1])
        async with _nothing_left():
            for _ in range(ROUNDS * SESSIONS):
                newer = await rig.listen(http, session)
                stream.close()
                stream = newer
        await eventually(rig.streams, "a stream at each server", until=lambda streams: streams == [1, 1])
        assert rig.hubs() == 1
        stream.close()
        await eventually(rig.hubs, "no hub", until=lambda hubs: hubs == 0)
        await eventually(rig.streams, "no stream at any server", until=lambda streams: not any(streams))
