"""Many clients: a separate process with many sessions, which make a call, or have a GET stream each.

    python -m bench.listeners

reads orders from standard input, responds to each with a line, and ends at the end of its input. A stream that breaks or
ends by itself makes the next response an error.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

import msgspec
import orjson
import uvloop

from bench.errors import BenchError
from bench.http1 import Message, Reader
from bench.requests import header_lines
from bench.tools import answer_text

_VERSION = "2025-11-25"

_TEXT = "hello"

_PATIENCE = 120.0
"""Deadline of an order, in seconds."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order."""

    action: Literal["begin", "call", "listen", "count", "hang_up", "end"]
    """Begin sessions, call a tool in each, open a stream in each, count the data on them since the last order, break them, or
    end all sessions."""
    port: int
    """The endpoint is http://127.0.0.1:port/mcp."""
    sessions: int = 0
    """Number of sessions to begin."""
    at_once: int = 20
    """Sessions that do something at the same time."""
    tool: str = ""
    """An `echo` to call."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Result of an order."""

    error: str | None = None
    heartbeats: int = 0
    """Chunks received on all streams together since the last response."""
    sessions: tuple[dict[str, str], ...] = ()
    """Headers of all requests of each session."""


class Listener:
    """One session and its stream."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.headers: dict[str, str] = {}
        """Of all requests."""
        self._listening: asyncio.Task[None] | None = None
        self.heartbeats = 0

    async def begin(self, _: Order) -> None:
        """Opens the session. Raises BenchError if the responses are not as expected."""
        await self._connect()
        params = {
            "protocolVersion": _VERSION,
            "capabilities": {},
            "clientInfo": {"name": "mcp-extproc bench", "version": "1"},
        }
        answer = await self._post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        session = answer.header(b"mcp-session-id")
        if answer.status != 200 or session is None:
            raise BenchError(f"initialize got status {answer.status}, session {session!r}: {answer.body[:500]!r}")
        self.headers = {"mcp-session-id": session.decode(), "mcp-protocol-version": _VERSION}
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._disconnect()

    async def call(self, order: Order) -> None:
        """Calls a tool. Raises BenchError if the response is not as expected."""
        await self._connect()
        params = {"name": order.tool, "arguments": {"text": _TEXT}}
        answer = await self._post({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})
        self._disconnect()
        if answer.status != 200 or answer_text(_TEXT, "").encode() not in answer.body:
            raise BenchError(f"tools/call got status {answer.status}: {answer.body[:500]!r}")

    async def listen(self, _: Order) -> None:
        """Opens the stream. Raises BenchError if there is none."""
        await self._connect()
        self._send("GET", "accept: text/event-stream\r\n")
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or b"text/event-stream" not in head:
            raise BenchError(f"the GET got no stream: {head[:500]!r}")
        self._listening = asyncio.create_task(self._listen())

    async def hang_up(self, _: Order) -> None:
        """Breaks the stream's connection. Raises BenchError if it had already ended."""
        self.check()
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        self._disconnect()

    async def end(self, _: Order) -> None:
        """Ends the session. Raises BenchError if the response is not as expected."""
        await self._connect()
        self._send("DELETE", "")
        answer = await self._answer()
        self._disconnect()
        if answer.status != 204:
            raise BenchError(f"DELETE got status {answer.status}: {answer.body[:500]!r}")

    def check(self) -> None:
        """Raises BenchError if the stream has ended."""
        if self._listening is not None and self._listening.done():
            raise BenchError(f"a stream ended by itself: {self._listening.exception() or 'end of stream'}")

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    def _disconnect(self) -> None:
        self._writer.transport.abort()

    async def _listen(self) -> None:
        while await self._reader.read(4096):
            self.heartbeats += 1

    async def _post(self, message: object) -> Message:
        body = orjson.dumps(message)
        self._send(
            "POST",
            "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
            f"content-length: {len(body)}\r\n",
            body,
        )
        return await self._answer()

    def _send(self, method: str, headers: str, body: bytes = b"") -> None:
        head = f"{method} /mcp HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n{headers}"
        self._writer.write(head.encode() + header_lines(self.headers) + b"\r\n" + body)

    async def _answer(self) -> Message:
        parser = Reader()
        while data := await self._reader.read(65536):
            for message in parser.feed(data):
                return message
        raise BenchError("the connection was closed before the answer")


class Crowd:
    """All clients."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    async def carry_out(self, order: Order) -> Answer:
        """Executes an order."""
        try:
            async with asyncio.timeout(_PATIENCE):
                if order.action == "begin":
                    self._listeners = [Listener(order.port) for _ in range(order.sessions)]
                if order.action != "count":
                    steps = [partial(getattr(listener, order.action), order) for listener in self._listeners]
                    await _each(steps, order.at_once)
                sessions = tuple(listener.headers for listener in self._listeners)
                if order.action == "end":
                    self._listeners = []
            for listener in self._listeners:
                listener.check()
        except BenchError as error:
            return Answer(error=str(error))
        except TimeoutError:
            return Answer(error=f"{order.action} took more than {_PATIENCE:.0f} s")
        except (OSError, EOFError) as error:
            return Answer(error=f"a connection failed: {error}")
        heard = sum(listener.heartbeats for listener in self._listeners)
        for listener in self._listeners:
            listener.heartbeats = 0
        return Answer(heartbeats=heard, sessions=sessions)


async def _each(steps: Sequence[Callable[[], Awaitable[None]]], at_once: int) -> None:
    turns = asyncio.Semaphore(at_once)

    async def one(step: Callable[[], Awaitable[None]]) -> None:
        async with turns:
            await step()

    await asyncio.gather(*map(one, steps))


async def _serve() -> None:
    crowd = Crowd()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        answer = await crowd.carry_out(msgspec.json.decode(line, type=Order))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
