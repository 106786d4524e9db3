"""Clients that hold connections: idle ones, and such that send their requests slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_AT_ONCE = 100
"""Connections that are being opened at a time."""

_PAUSE = 0.1
"""Seconds between two pieces of a request that is sent slowly."""

_PIECE = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """How clients send.

    Attributes:
        start: sent at once.
        slowly: sent after it, a few bytes at a time, again and again.
    """

    start: bytes
    slowly: bytes


_POST = (
    b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"accept: application/json, text/event-stream\r\n"
)
IDLE = Kind(b"", b"")
"""Nothing."""
HEADERS = Kind(_POST, b"x-more: and more\r\n")
"""Headers without end."""
BODY = Kind(_POST + b"content-length: 4000000\r\n\r\n" + b" " * 1_000_000, b" " * _PIECE)
"""A quarter of the largest body that is allowed, and then a trickle."""


@dataclass
class Flood:
    """What became of it.

    Attributes:
        answers: what the gateway said before it closed a connection.
    """

    answers: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def flood(host: str, port: int, count: int, kind: Kind) -> AsyncIterator[Flood]:
    """Connections that are there for the time of the block, or until the gateway closes them.

    Args:
        host: where the gateway listens.
        port: its port.
        count: how many connections.
        kind: what they do.
    """
    result, gate = Flood(), asyncio.Semaphore(_AT_ONCE)

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(kind.start)
            return reader, writer

    connections = await asyncio.gather(*(opened() for _ in range(count)))
    tasks = [asyncio.create_task(_answer(reader, result)) for reader, _ in connections]
    if kind.slowly:
        tasks += [asyncio.create_task(_trickle(writer, kind.slowly)) for _, writer in connections]
    try:
        yield result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in connections:
            writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, result: Flood) -> None:
    got = b""
    try:
        while more := await reader.read(65536):
            got += more
    except ConnectionResetError:
        pass  # it was still sending
    result.answers.append(got)


async def _trickle(writer: asyncio.StreamWriter, piece: bytes) -> None:
    while not writer.is_closing():
        writer.write(piece)
        await asyncio.sleep(_PAUSE)
