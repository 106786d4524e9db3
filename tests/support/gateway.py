"""A real gateway for end-to-end tests: Envoy and a worker as child processes, and a plain HTTP client in front."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from mcp_extproc.config import FileSource, Loaded
from mcp_extproc.run.envoy_binary import find_envoy
from mcp_extproc.run.process import LEAVING_SECONDS
from mcp_extproc.run.standalone import StandaloneGateway
from tests.support import warm
from tests.support.processes import entries
from tests.support.waiting import eventually

ACCEPT = "application/json, text/event-stream"


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed

    @property
    def result(self) -> dict[str, Any]:
        assert self.status == 200, (self.status, self.body)
        assert "result" in self.json, self.json
        result = self.json["result"]
        assert isinstance(result, dict)
        return result

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert isinstance(error, dict)
        return error


class TestClient:
    """A plain HTTP client of a gateway."""

    __test__ = False

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def send(
        self, body: bytes | AsyncIterator[bytes] | None, *, method: str = "POST", url: str | None = None, **headers: str
    ) -> Answer:
        """One raw request. Header names are given with underscores; an empty value leaves a default header out."""
        fields = {"content-type": "application/json", "accept": ACCEPT} if method == "POST" else {}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {name: value for name, value in fields.items() if value}
        skip = {"content-type", "accept", "user-agent"}
        # aiohttp warns of large bodies that are plain bytes.
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self.http.request(method, url or self.url, data=data, headers=fields, skip_auto_headers=skip) as got:
            return Answer(got.status, got.headers, await got.read())

    async def rpc(self, method: str, params: Any = None, *, id: Any = 1, **headers: str) -> Answer:
        """One JSON-RPC request."""
        message = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            message["params"] = params
        return await self.send(json.dumps(message).encode(), **headers)

    async def initialize(self, version: str = "2025-11-25", capabilities: Any = None, **headers: str) -> str:
        """Open a session; returns its id."""
        answer = await self.rpc("initialize", {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "test", "version": "0"},
        }, **headers)  # fmt: skip
        assert "result" in answer.json, answer.json
        return answer.headers["mcp-session-id"]

    async def call(self, session: str, name: str, arguments: Any = None, *, id: Any = 1) -> Answer:
        """Call a tool."""
        return await self.rpc("tools/call", {"name": name, "arguments": arguments or {}}, id=id, mcp_session_id=session)


class TestGateway(TestClient):
    """A running gateway and a client of it."""

    def __init__(
        self, local: StandaloneGateway, http: aiohttp.ClientSession, access_log: Path, since: float = 0.0
    ) -> None:
        super().__init__(local.url, http)
        self.local = local
        self.access_log = access_log
        self._since = since

    @property
    def workers(self) -> list[int]:
        """The process ids of all workers."""
        return [pid for name, pid in self.local.pids.items() if name not in ("envoy", "collector")]

    def signal_workers(self, number: signal.Signals) -> None:
        """Send a signal to all workers: a test does not know which of them has its session."""
        for pid in self.workers:
            os.kill(pid, number)

    async def logged(self, **fields: Any) -> dict[str, Any]:
        """The access log entry with these fields (underscores stand for dots), as soon as Envoy wrote it."""
        dotted = {name.replace("_", "."): value for name, value in fields.items()}
        return await access_log_entry(self.access_log, dotted, self._since)


async def access_log_entry(log: Path, fields: Mapping[str, Any], since: float = 0.0) -> dict[str, Any]:
    """The first entry of an access log with these fields, as soon as Envoy wrote it.

    Args:
        log: the file.
        fields: and their values.
        since: requests that began before it are passed over, in seconds since 1970.
    """
    earliest = datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def found(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            entry for entry in entries
            if all(entry.get(name) == value for name, value in fields.items())
            and entry.get("start_time", earliest) >= earliest
        ]  # fmt: skip

    def look() -> list[dict[str, Any]]:
        return found(entries(log)) if log.exists() else []

    return (await eventually(look, f"an entry of the access log with {dict(fields)}"))[0]


@asynccontextmanager
async def gateway(
    directory: Path,
    servers: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    workers: int | None = None,
    leaving_seconds: float = LEAVING_SECONDS,
    **config: Any,
) -> AsyncIterator[TestGateway]:
    """Start a gateway in front of these servers (name to URL, or to its section of the configuration).

    All tests run with several workers where the environment says so: ``MCP_EXTPROC_WORKERS=2``.
    """
    access_log = directory / "access.log"
    sections = {name: {"url": given} if isinstance(given, str) else given for name, given in servers.items()}
    document = {
        "listen": {"port": 0, **config.pop("listen", {})},
        "servers": sections,
        "log": {"access": str(access_log), "level": "debug"},
        **config,
    }
    file = directory / "gateway.yaml"
    file.write_text(json.dumps(document))
    source = FileSource(file, environment or {})
    async with _started(source, source.load(), directory, workers, leaving_seconds) as local:
        async with client_of(local, access_log) as client:
            yield client


@asynccontextmanager
async def gateway_of(file: Path, resolve: Mapping[str, str], port: int = 0) -> AsyncIterator[TestGateway]:
    """Start a gateway with a file of any format, which has a folder of its own.

    Args:
        file: its variables are those of this process.
        resolve: ``host:port`` of Services, by ``name.namespace``.
        port: where clients connect, by default any; a file that changes has to name the same, or they go where it says.
    """
    source = FileSource(file, os.environ, resolve=resolve)
    async with _started(source, source.load().with_port(port), file.parent) as local:
        async with client_of(local, file.parent / "access.log") as client:
            yield client


@asynccontextmanager
async def _started(
    source: FileSource,
    served: Loaded,
    directory: Path,
    workers: int | None = None,
    leaving_seconds: float = LEAVING_SECONDS,
) -> AsyncIterator[StandaloneGateway]:
    workers = workers or int(os.environ.get("MCP_EXTPROC_WORKERS", "1"))
    local = StandaloneGateway(
        source, served, find_envoy(), "s" * 32, directory / "envoy.log", workers, leaving_seconds=leaving_seconds
    )
    with warm.nursery(served) as nursery:
        local._starter.begin_with(nursery)
        async with local:
            yield local


@asynccontextmanager
async def client_of(local: StandaloneGateway, access_log: Path, since: float = 0.0) -> AsyncIterator[TestGateway]:
    """A client of a gateway that runs.

    Args:
        local: the gateway.
        access_log: Envoy's.
        since: when it began to serve this client, in seconds since 1970.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield TestGateway(local, http, access_log, since)
