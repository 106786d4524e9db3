"""The MCP server behind every system: a process of its own that does as little as a server can, and no less.

    python -m bench.upstream

listens on a free loopback port, prints the port, and ends when its standard input does. It speaks Streamable HTTP of
2025-06-18 with JSON answers: initialize with a session id, which every later request must carry, notifications,
tools/list and tools/call of one tool. `echo` answers with its argument `text` and with the length of its argument
`content`, so that a client sees whether all of a large request arrived, while answers stay small.

A GET gets a stream on which nothing ever comes; `GET /streams` says how many are open.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

import orjson
import uvloop

from bench.http1 import Message, Reader

TOOL = "echo"

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
"""The start of the response to a GET, and all there is of it."""

_TOOLS = [
    {
        "name": TOOL,
        "description": "Says what it was given.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "content": {"type": "string"}},
            "required": ["text"],
        },
    }
]

_Json = dict[str, Any]


def answer_text(text: str, content: str) -> str:
    """What `echo` says."""
    return f"{text}:{len(content)}"


class Server:
    """Sessions and methods, without the network."""

    def __init__(self) -> None:
        self._sessions: set[bytes] = set()
        self._session_count = 0
        self.streams = 0
        """Open at the moment."""
        self._methods: dict[str, Callable[[_Json], _Json]] = {
            "ping": lambda _: {},
            "tools/list": lambda _: {"tools": _TOOLS},
            "tools/call": _call,
        }

    def answer(self, request: Message) -> bytes:
        """The whole response to a request."""
        method, path, _ = request.head.split(b" ", 2)
        if method == b"GET" and path == b"/streams":
            return _response(b"200 OK", b"%d" % self.streams)
        if method != b"POST":
            return self._without_message(method, request.header(b"mcp-session-id") or b"")
        message = orjson.loads(request.body)
        if message.get("method") == "initialize":
            return self._initialize(message)
        if request.header(b"mcp-session-id") not in self._sessions:
            return _response(b"404 Not Found", _error(message.get("id"), -32001, "unknown session"))
        if "id" not in message:
            return _response(b"202 Accepted", b"")
        return _response(b"200 OK", self._result(message))

    def _without_message(self, method: bytes, session: bytes) -> bytes:
        if session not in self._sessions:
            return _response(b"404 Not Found", _error(None, -32001, "unknown session"))
        if method == b"DELETE":
            self._sessions.discard(session)
            return _response(b"204 No Content", b"")
        if method == b"GET":
            return STREAM
        return _response(b"405 Method Not Allowed", b"", b"allow: GET, POST, DELETE\r\n")

    def _initialize(self, message: _Json) -> bytes:
        session = b"bench-%d" % self._session_count
        self._session_count += 1
        self._sessions.add(session)
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "bench-upstream", "version": "1"},
        }
        body = orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return _response(b"200 OK", body, b"mcp-session-id: %s\r\n" % session)

    def _result(self, message: _Json) -> bytes:
        method = self._methods.get(message["method"])
        if method is None:
            return _error(message["id"], -32601, f"unknown method {message['method']}")
        try:
            result = method(message.get("params", {}))
        except KeyError as error:
            return _error(message["id"], -32602, f"unknown tool or missing argument {error}")
        return orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})


def _call(params: _Json) -> _Json:
    if params["name"] != TOOL:
        raise KeyError(params["name"])
    arguments = params["arguments"]
    text = answer_text(arguments["text"], arguments.get("content", ""))
    return {"content": [{"type": "text", "text": text}], "isError": False}


def _error(id: object, code: int, message: str) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})


def _response(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    media_type = b"content-type: application/json\r\n" if body else b""
    return b"HTTP/1.1 %s\r\n%s%scontent-length: %d\r\n\r\n%s" % (status, media_type, headers, len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = Reader()
        self._transport: asyncio.Transport
        self._is_stream = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for request in self._reader.feed(data):
            answer = self._server.answer(request)
            if answer is STREAM:
                self._is_stream = True
                self._server.streams += 1
            self._transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it
        if self._is_stream:
            self._server.streams -= 1


async def _serve() -> None:
    server = Server()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    listener.close()


if __name__ == "__main__":
    uvloop.run(_serve())
