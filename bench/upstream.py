"""The MCP server behind every system: a separate process that does as little as possible.

    python -m bench.upstream [TOOLS]

listens on four free loopback ports, prints them, and ends with its standard input. It implements Streamable HTTP of
2025-06-18: initialize, notifications, tools/list and tools/call. On the first two ports initialize returns a session id,
which every later request must have; on the third there are no sessions. On the first one requests are answered with JSON, on
the next two with event streams, as servers of the official SDKs do by default. The fourth is as the first one, but that
initialize says that there are resources, too.

It lists the given number of tools, at least its two (`bench.tools`). `count` returns an event stream on all ports, one write
for each event.

A GET gets a stream without events; `GET /streams` returns the number of open ones.
"""

from __future__ import annotations

import asyncio
import http.client
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, cast

import orjson
import uvloop

from bench.http1 import Message, Reader
from bench.tools import Tools, counted, counts, error

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
"""Head of the response to a GET, which has no content. That of `count` has the same start."""

_END = b"0\r\n\r\n"

_PATIENCE = 30.0


class Ports(NamedTuple):
    """The upstream's ports."""

    sessions: int
    """With sessions, as most servers have them."""
    events: int
    """The same, answering with event streams."""
    stateless: int
    """Without sessions, answering with event streams."""
    resources: int
    """As the first one, with resources."""

    @classmethod
    def parse(cls, line: bytes) -> Ports:
        """From the line printed by the process."""
        return cls(*map(int, line.split()))


class Events(NamedTuple):
    """A response in chunks."""

    pieces: list[bytes]


class Server:
    """Sessions and methods, without the network.

    Args:
        tools: number of tools.
        stateless: without sessions.
        in_events: answering all requests with event streams.
        resources: having some, it says.
        requests: counts them by method; with other servers, if they have the same.
    """

    def __init__(
        self,
        tools: int = 2,
        *,
        stateless: bool = False,
        in_events: bool = False,
        resources: bool = False,
        requests: Counter[str] | None = None,
    ) -> None:
        self._requests = Counter() if requests is None else requests
        self._stateless = stateless
        self._in_events = in_events
        self._sessions: set[bytes] = set()
        self._session_count = 0
        self.streams = 0
        """Number of open streams."""
        self._tools = Tools(tools, resources=resources)

    def answer(self, request: Message) -> bytes | Events:
        """The complete response to a request."""
        method, path, _ = request.head.split(b" ", 2)
        if method == b"GET" and path == b"/streams":
            return _response(b"200 OK", b"%d" % self.streams)
        if method == b"GET" and path == b"/requests":
            return _response(b"200 OK", orjson.dumps(self._requests))
        if method != b"POST":
            return self._without_message(method, request.header(b"mcp-session-id") or b"")
        message = orjson.loads(request.body)
        self._requests[message.get("method", "")] += 1
        if message.get("method") == "initialize":
            return self._initialize(self._tools.answer(message))
        if not self._stateless and request.header(b"mcp-session-id") not in self._sessions:
            return _response(b"404 Not Found", error(message.get("id"), -32001, "unknown session"))
        if "id" not in message:
            return _response(b"202 Accepted", b"")
        if counts(message):
            return Events([STREAM, *map(_chunk, counted(message)), _END])
        return self._response(self._tools.answer(message))

    def _without_message(self, method: bytes, session: bytes) -> bytes:
        if session not in self._sessions:
            return _response(b"404 Not Found", error(None, -32001, "unknown session"))
        if method == b"DELETE":
            self._sessions.discard(session)
            return _response(b"204 No Content", b"")
        if method == b"GET":
            return STREAM
        return _response(b"405 Method Not Allowed", b"", b"allow: GET, POST, DELETE\r\n")

    def _initialize(self, body: bytes) -> bytes | Events:
        if self._stateless:
            return self._response(body)
        session = b"bench-%d" % self._session_count
        self._session_count += 1
        self._sessions.add(session)
        return self._response(body, b"mcp-session-id: %s\r\n" % session)

    def _response(self, body: bytes, headers: bytes = b"") -> bytes | Events:
        if not self._in_events:
            return _response(b"200 OK", body, headers)
        return Events([STREAM.replace(b"\r\n\r\n", b"\r\n" + headers + b"\r\n"), _chunk(body), _END])


def _chunk(data: bytes) -> bytes:
    event = b"event: message\ndata: %s\n\n" % data
    return b"%x\r\n%s\r\n" % (len(event), event)


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
            if isinstance(answer, Events):
                self._write_next(iter(answer.pieces))
                continue
            if answer is STREAM:
                self._is_stream = True
                self._server.streams += 1
            self._transport.write(answer)

    def _write_next(self, pieces: Iterator[bytes]) -> None:
        """One chunk in each iteration of the loop, as from a server that sends events one by one."""
        piece = next(pieces, None)
        if piece is not None and not self._transport.is_closing():
            self._transport.write(piece)
            asyncio.get_running_loop().call_soon(self._write_next, pieces)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it
        if self._is_stream:
            self._server.streams -= 1


def requests_at(port: int) -> Counter[str]:
    """The number of requests so far at all servers of the process with this port, by method."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/requests")
        return Counter(orjson.loads(connection.getresponse().read()))
    finally:
        connection.close()


async def _serve(tools: int) -> None:
    loop = asyncio.get_running_loop()
    all_: Counter[str] = Counter()
    servers = (
        Server(tools, requests=all_),
        Server(tools, in_events=True, requests=all_),
        Server(tools, stateless=True, in_events=True, requests=all_),
        Server(tools, resources=True, requests=all_),
    )
    listeners = [await loop.create_server(partial(_Connection, server), "127.0.0.1", 0) for server in servers]
    print(*(listener.sockets[0].getsockname()[1] for listener in listeners), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for listener in listeners:
        listener.close()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 2))
