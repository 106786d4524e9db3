"""Endpoints of exporters that answer whatever they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from mcp_extproc.telemetry.collector import otlp
from mcp_extproc.telemetry.collector.otlp_http import MAX_ANSWER_BYTES
from mcp_extproc.telemetry.collector.spec import Export
from mcp_extproc.telemetry.spans import Tracing, spans_of
from tests.unit.telemetry.support import CALL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class Endpoint:
    """What it sends, and goes on with until it is left."""

    def __init__(self, head: bytes, more: bytes, seconds: float) -> None:
        self._head = head
        self._more = more
        self._seconds = seconds
        self.sent = 0
        self.url = ""
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head)
        try:
            async for _ in self._pauses(reader):
                writer.write(self._more)
                await writer.drain()
                self.sent += len(self._more)
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()

    async def _pauses(self, reader: asyncio.StreamReader) -> AsyncIterator[None]:
        for _ in range(100_000 if self._more else 0):
            if reader.at_eof():
                return
            yield
            await asyncio.sleep(self._seconds)


@asynccontextmanager
async def endpoint(head: bytes, more: bytes = b"", seconds: float = 0.0) -> AsyncIterator[Endpoint]:
    found = Endpoint(head, more, seconds)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
    async with server:
        yield found


def spans() -> list[ReadableSpan]:
    found = spans_of(CALL, Tracing(1.0, parent_based=True), lambda size: "1" * 2 * size)
    return [otlp.span(span, otlp.resource_of({})) for span in found]


async def sent_to(found: Endpoint) -> bool:
    return await asyncio.to_thread(otlp.spans_to(Export(found.url, is_grpc=False, headers={})), spans())


async def test_an_answer_without_end_is_left() -> None:
    async with endpoint(HEAD % (1 << 40), b"x" * (1 << 20)) as found:
        assert await sent_to(found)
        await found.left.wait()
    assert found.sent < 1000 * MAX_ANSWER_BYTES, "what fits into the system's buffers"


async def test_an_answer_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "TIMEOUT", 1.0)
    async with endpoint(HEAD % (1 << 20), b"x", 0.05) as found:
        assert await sent_to(found)
        await found.left.wait()
    assert found.sent < MAX_ANSWER_BYTES


async def test_an_endpoint_that_leads_elsewhere_has_got_nothing() -> None:
    async with endpoint(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n") as found:
        assert not await sent_to(found)


async def test_an_answer_that_is_one() -> None:
    async with endpoint(HEAD % 2 + b"{}") as found:
        assert await sent_to(found)
