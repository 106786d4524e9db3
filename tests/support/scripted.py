"""An MCP server that behaves, or misbehaves, as a test tells it to. It records what it was sent."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support import lasting_ports

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    """One request as it arrived."""

    http_method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed


@dataclass
class ScriptedServer:
    """A Streamable HTTP server with sessions.

    ``on[method]`` replaces what a JSON-RPC method does; ``pages`` are the tools of ``tools/list``, page by page.
    """

    name: str = "scripted"
    version: str | None = None
    """Protocol version to answer with; the client's own by default."""
    stateless: bool = False
    capabilities: dict[str, Any] = field(default_factory=lambda: {"tools": {}})
    instructions: str | None = None
    pages: list[list[dict[str, Any]]] = field(default_factory=lambda: [[tool("echo")]])
    lost_status: int = 404
    on: dict[str, Handler] = field(default_factory=dict)
    get: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    """What a GET gets."""
    moved_to: str | None = None
    """The path and query at which alone it answers; from others it redirects there."""
    received: list[Received] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    begins_in_events: bool = False
    """Answers ``initialize`` with an event stream: the gateway expects others to come so, too."""
    port: int = 0
    """Where it listens. By default at a port that servers of this name have, one after the other."""
    address: str = "127.0.0.1"
    """Of this machine."""
    _lasting: bool = False

    async def __aenter__(self) -> Self:
        if not self.port:
            self.port = lasting_ports.take(self.name)
            self._lasting = True
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        self._listening = socket.create_server((self.address, self.port))
        await web.SockSite(self._runner, self._listening).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._lasting:
            lasting_ports.give_back(self.name, self.port)

    async def also_with_tls(self, context: ssl.SSLContext) -> int:
        """Listen at one more port, with TLS; returns it."""
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return int(self._runner.addresses[-1][1])

    async def also_at(self, path: Path) -> None:
        """Listen at a Unix socket, too."""
        await web.UnixSite(self._runner, str(path)).start()

    async def stop(self) -> None:
        """Stop listening; ``async with`` again (or :meth:`restart`) listens on the same port."""
        if self._listening.fileno() >= 0:
            # Envoy's health checks connect at any moment, and asyncio (3.11) loses a connection that was accepted in the round
            # of the event loop in which the server is closed: nobody closes it.
            asyncio.get_running_loop().remove_reader(self._listening)
            for _ in range(5):
                await asyncio.sleep(0)
        await self._runner.cleanup()

    async def restart(self) -> None:
        """Come back on the same port, sessions forgotten."""
        await self.stop()
        self.sessions.clear()
        await self.__aenter__()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/mcp"

    def calls(self, method: str) -> list[Received]:
        """The requests and notifications of one JSON-RPC method, in order."""
        return [r for r in self.received if r.http_method == "POST" and r.message.get("method") == method]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.method, request.path_qs, headers, body))
        if self.moved_to not in (None, request.path_qs):
            return web.Response(status=307, headers={"location": self.moved_to or ""})
        session = headers.get("mcp-session-id")
        if request.method == "DELETE":
            known = session in self.sessions
            self.sessions.discard(session or "")
            return web.Response(status=204 if known else 404)
        if request.method == "GET" and self.get is not None:
            return await self.get(request)
        message = json.loads(body)
        method = message.get("method")
        if method in self.on:
            return await self.on[method](request, message)
        if method == "initialize":
            return self._initialize(message)
        if not self.stateless and session not in self.sessions:
            return web.json_response(
                {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Session not found"}}, status=self.lost_status
            )
        if "id" not in message:
            return web.Response(status=202)
        match method:
            case "tools/list":
                return self._tools(message)
            case "tools/call":
                return echo(message)
        return answer(message, error={"code": -32601, "message": f"no {method}"})

    def _initialize(self, message: dict[str, Any]) -> web.Response:
        result: dict[str, Any] = {
            "protocolVersion": self.version or message["params"]["protocolVersion"],
            "capabilities": self.capabilities,
            "serverInfo": {"name": self.name, "version": "1"},
        }
        if self.instructions is not None:
            result["instructions"] = self.instructions
        response = answer(message, result=result)
        if not self.stateless:
            session = f"{self.name}-{secrets.token_hex(8)}"
            self.sessions.add(session)
            response.headers["mcp-session-id"] = session
        return as_event(response) if self.begins_in_events else response

    def _tools(self, message: dict[str, Any]) -> web.Response:
        cursor = (message.get("params") or {}).get("cursor")
        index = int(cursor) if cursor else 0
        result: dict[str, Any] = {"tools": self.pages[index]}
        if index + 1 < len(self.pages):
            result["nextCursor"] = str(index + 1)
        return answer(message, result=result)


def tool(name: str, **extra: Any) -> dict[str, Any]:
    """A tool's definition."""
    return {"name": name, "description": f"The tool {name}", "inputSchema": {"type": "object"}, **extra}


def answer(message: dict[str, Any], **members: Any) -> web.Response:
    """A JSON-RPC response as JSON."""
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], **members})


def as_event(response: web.Response) -> web.Response:
    """The same answer as an event stream."""
    assert isinstance(response.body, bytes)
    kept = {name: value for name, value in response.headers.items() if name.lower().startswith("mcp-")}
    return web.Response(body=b"data: %s\n\n" % response.body, content_type="text/event-stream", headers=kept)


def echo(message: dict[str, Any]) -> web.Response:
    """A tool's result that repeats name and arguments."""
    text = json.dumps([message["params"].get("name"), message["params"].get("arguments")])
    return answer(message, result={"content": [{"type": "text", "text": text}]})


async def hang(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def redirect(status: int, location: str) -> Handler:
    """Answer with where to ask instead."""

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, headers={"location": location})

    return handler


def raw(status: int, content_type: str, body: str) -> Handler:
    """Answer with something that is no MCP message."""

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, headers={"content-type": content_type}, body=body.encode())

    return handler


def fixed(**members: Any) -> Handler:
    """Answer every request of a method with the same ``result`` or ``error``."""

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, **members)

    return handler
