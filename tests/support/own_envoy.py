"""An Envoy of the user's own with the gateway's worker beside it, started from configuration files as they are shipped."""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from click.testing import CliRunner
from yarl import URL

from mcp_extproc.cli import cli
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support import warm
from tests.support.gateway import ACCEPT, Answer
from tests.support.processes import free_port, http_server, logs
from tests.support.tls import Authority
from tests.support.warm import Program

VOLATILE = ("date", "x-envoy-upstream-service-time", "x-request-id")
"""Headers of answers that differ each time."""


@dataclass
class Place:
    """Free ports and files for a configuration that names well-known ones."""

    folder: Path
    sockets: Path
    """The directory that stands for ``/run/mcp-extproc``."""
    ports: dict[int, int] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """That leads the program's default addresses to :attr:`sockets`."""
        return {"XDG_RUNTIME_DIR": str(self.sockets.parent)}

    def port(self, known: int) -> int:
        """The free port that stands for a known one."""
        return self.ports.setdefault(known, free_port())

    def moved(self, text: str) -> str:
        """A configuration with this place's ports and files."""
        for known, free in self.ports.items():
            for spelling in ("port_value: {}", '"port_value": {}', "port_redirect: {}", "127.0.0.1:{}", "localhost:{}"):
                text = text.replace(spelling.format(known), spelling.format(free))
        return text.replace("/run/mcp-extproc", str(self.sockets)).replace("/etc/envoy/", f"{self.folder}/")


@asynccontextmanager
async def place(folder: Path, *known_ports: int) -> AsyncIterator[Place]:
    """A place with certificates (``server.pem``, ``server.key``, ``ca.pem``) and short paths for sockets."""
    Authority(folder)
    with tempfile.TemporaryDirectory(prefix="mcp-") as sockets:
        found = Place(folder, Path(sockets) / "mcp-extproc")
        for known in known_ports:
            found.port(known)
        yield found


async def printed(where: Place, *arguments: str, stdin: str = "") -> tuple[str, str]:
    """What a command of ``mcp-extproc`` prints to both channels; it has to succeed.

    It runs in this process, which has imported Envoy's types already. That takes a process longer than what the command does.
    """
    done = CliRunner().invoke(cli, arguments, input=stdin, env=where.environment)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


@asynccontextmanager
async def worker(where: Place, config: str, name: str = "worker", *options: str) -> AsyncIterator[Program]:
    """A serving worker with this configuration, at the default addresses unless options say otherwise."""
    file = where.folder / f"{name}.yaml"
    file.write_text(config)
    log = where.folder / f"{name}.log"
    environment = {**where.environment, "MCP_SESSION_SECRET": "s" * 32}
    async with warm.program("serve", str(file), *options, log=log, environment=environment) as process:
        await logs(process, log, "serving")
        yield process


@asynccontextmanager
async def envoy(where: Place, text: str, port: int, name: str = "envoy") -> AsyncIterator[asyncio.subprocess.Process]:
    """A running Envoy that listens on a port."""
    file = where.folder / f"{name}.{'json' if text.startswith('{') else 'yaml'}"
    file.write_text(text)
    command = [find_envoy(), "-c", str(file), "--disable-hot-restart", "--log-level", "warning", "--concurrency", "1",
               "--file-flush-interval-msec", "50"]  # fmt: skip
    async with http_server(command, port, log=where.folder / f"{name}.log") as process:
        yield process


@dataclass
class Website:
    """A service behind Envoy that has nothing to do with MCP: it tells what it was sent, and echoes on WebSockets."""

    port: int
    paths: list[str] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._echo(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        told = {"method": request.method, "path": request.raw_path, "headers": {
            name: value for name, value in headers.items() if name not in ("x-request-id", "user-agent")
        }, "body": (await request.read()).decode()}  # fmt: skip
        page = request.path.endswith(".html")
        body = f"<p>{'word ' * 100}</p>" if page else json.dumps(told, sort_keys=True)
        return web.Response(text=body, content_type="text/html" if page else "application/json", headers={"x-web": "1"})

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        return socket


@asynccontextmanager
async def website(port: int) -> AsyncIterator[Website]:
    """A running website."""
    site = Website(port)
    application = web.Application(client_max_size=64 << 20)
    application.router.add_route("*", r"/{path:[\s\S]*}", site.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield site
    finally:
        await runner.cleanup()


class Browser:
    """Sends requests as they are given, to one listener."""

    def __init__(self, http: aiohttp.ClientSession, port: int, tls: ssl.SSLContext | None, host: str) -> None:
        self._http = http
        self._port = port
        self._tls = tls
        self._host = host
        self.session: str | None = None

    async def send(
        self,
        path: str,
        *,
        method: str = "GET",
        host: str | None = None,
        body: bytes | AsyncIterator[bytes] = b"",
        **headers: str,
    ) -> Answer:
        """One request; the path goes out as it is. Header names are given with underscores."""
        scheme = "http" if self._tls is None else "https"
        url = URL(f"{scheme}://127.0.0.1:{self._port}{path}", encoded=True)
        fields = {"host": host or self._host} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.request(
            method, url, data=body or None, headers=fields, ssl=self._tls or True, allow_redirects=False,
            skip_auto_headers={"content-type", "accept-encoding"},
        ) as got:  # fmt: skip
            return Answer(got.status, {name.lower(): value for name, value in got.headers.items()}, await got.read())

    async def post(self, message: Any, path: str = "/mcp", **headers: str) -> Answer:
        """A JSON-RPC message, in this client's session if it has one."""
        fields = {"content_type": "application/json", "accept": ACCEPT}
        if self.session is not None:
            fields["mcp_session_id"] = self.session
        return await self.send(path, method="POST", body=json.dumps(message).encode(), **{**fields, **headers})

    async def rpc(
        self, rpc_method: str, params: Any = None, *, id: Any = 1, path: str = "/mcp", **headers: str
    ) -> Answer:
        """A JSON-RPC request."""
        message = {"jsonrpc": "2.0", "id": id, "method": rpc_method, "params": params or {}}
        return await self.post(message, path, **headers)

    async def initialize(self, version: str = "2025-11-25", **headers: str) -> None:
        """Open a session for what follows."""
        client = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
        answer = await self.rpc("initialize", client, **headers)
        assert "result" in answer.json, answer.body
        self.session = answer.headers["mcp-session-id"]

    async def call(self, name: str, arguments: Any = None, **headers: str) -> Answer:
        """Call a tool."""
        return await self.rpc("tools/call", {"name": name, "arguments": arguments or {}}, **headers)

    @asynccontextmanager
    async def stream(self, path: str = "/mcp") -> AsyncIterator[AsyncIterator[str]]:
        """The lines of the event stream that a GET answers with."""
        scheme = "http" if self._tls is None else "https"
        fields = {"host": self._host, "accept": "text/event-stream", "mcp-session-id": self.session or ""}
        url = f"{scheme}://127.0.0.1:{self._port}{path}"
        async with self._http.get(url, headers=fields, ssl=self._tls or True) as got:
            assert got.status == 200, await got.text()
            yield (line.decode() async for line in got.content)


@asynccontextmanager
async def browser(port: int, *, tls: ssl.SSLContext | None = None, host: str = "localhost") -> AsyncIterator[Browser]:
    """A client of one listener."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield Browser(http, port, tls, host)


@asynccontextmanager
async def websocket(where: Place, port: int, path: str, host: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to a listener with TLS."""
    url = f"https://127.0.0.1:{where.port(port)}{path}"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, headers={"host": host}, ssl=trusting(where)) as socket,
    ):
        yield socket


def trusting(where: Place) -> ssl.SSLContext:
    """TLS for clients of a listener with the place's certificate."""
    context = ssl.create_default_context(cafile=where.folder / "ca.pem")
    context.check_hostname = False
    return context


def certified(where: Place) -> ssl.SSLContext:
    """TLS for servers with the place's certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(where.folder / "server.pem", where.folder / "server.key")
    return context


async def stats(port: int, pattern: str) -> dict[str, int]:
    """Counters and gauges of an Envoy's admin interface."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/stats", params={"filter": pattern}) as got,
    ):
        lines = (await got.text()).splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines) if value.isdecimal()}
