"""Clients that open streams and do not read them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

RECEIVE_BYTES = 4096
"""Of the kernel's receive buffer: what is not read stays at the gateway."""

_AT_ONCE = 50
"""Connections that are being opened at a time."""

_INITIALIZE = json.dumps({
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "unread", "version": "0"}},
}).encode()  # fmt: skip


@dataclass
class Flood:
    """What became of it.

    Attributes:
        statuses: how many streams got which HTTP status.
        ended: how many streams of an HTTP/2 connection the gateway has ended or reset.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    ended: int = 0


@asynccontextmanager
async def flood(host: str, port: int, streams: int, *, sessions: int | None = None) -> AsyncIterator[Flood]:
    """HTTP/1.1 connections with a GET stream each that nobody reads, for the time of the block.

    Args:
        host: where the gateway listens.
        port: its port.
        streams: how many.
        sessions: over how many sessions; by default each stream has its own.
    """
    result, gate = Flood(), asyncio.Semaphore(_AT_ONCE)
    async with AsyncExitStack() as stack:
        tokens = [await _session(host, port) for _ in range(sessions or 0)]

        async def one(number: int) -> socket.socket:
            async with gate:
                token = tokens[number % len(tokens)] if tokens else await _session(host, port)
                return await _unread(host, port, token, result)

        opened = await asyncio.gather(*(one(number) for number in range(streams)))
        for connection in opened:
            stack.callback(connection.close)
        yield result


async def _session(host: str, port: int) -> str:
    """Opens a session; returns its token."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_head("POST", port, f"content-length: {len(_INITIALIZE)}", "connection: close") + _INITIALIZE)
        answer = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
        [token] = [
            line.partition(": ")[2] for line in answer.split("\r\n") if line.lower().startswith("mcp-session-id:")
        ]
        return token
    finally:
        writer.close()


async def _unread(host: str, port: int, token: str, result: Flood) -> socket.socket:
    """A connection whose stream is open. Only the start of its head is read."""
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    connection.setblocking(False)
    await loop.sock_connect(connection, (host, port))
    await loop.sock_sendall(connection, _head("GET", port, f"mcp-session-id: {token}"))
    status = b""
    while len(status) < len(b"HTTP/1.1 200") and (got := await loop.sock_recv(connection, 12 - len(status))):
        status += got
    result.statuses[int(status[9:] or 0)] += 1
    return connection


def _head(method: str, port: int, *more: str) -> bytes:
    lines = [f"{method} /mcp HTTP/1.1", f"host: localhost:{port}", *more]
    lines += ["accept: application/json, text/event-stream", "content-type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def flood_http2(host: str, port: int, streams: int) -> AsyncIterator[Flood]:
    """One HTTP/2 connection (prior knowledge) that is read, with GET streams that get no flow control window, each in a
    session of its own. Arguments as of :func:`flood`."""
    result = Flood()
    tokens = [await _session(host, port) for _ in range(streams)]
    reader, writer = await asyncio.open_connection(host, port)
    connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    connection.initiate_connection()
    connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: RECEIVE_BYTES})
    for token in tokens:
        connection.send_headers(connection.get_next_available_stream_id(), [
            (":method", "GET"), (":scheme", "http"), (":authority", f"localhost:{port}"), (":path", "/mcp"),
            ("accept", "text/event-stream"), ("mcp-session-id", token),
        ], end_stream=True)  # fmt: skip
    writer.write(connection.data_to_send())
    reading = asyncio.create_task(_take(reader, writer, connection, result))
    try:
        yield result
    finally:
        reading.cancel()
        writer.close()


async def _take(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: H2Connection, result: Flood
) -> None:
    """Read the connection, and open the window of the connection alone."""
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            match event:
                case ResponseReceived():
                    result.statuses[int(dict(event.headers or ())[b":status"])] += 1
                case DataReceived():
                    connection.increment_flow_control_window(event.flow_controlled_length or 1)
                case StreamReset() | StreamEnded():
                    result.ended += 1
        writer.write(connection.data_to_send())
