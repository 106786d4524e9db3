"""Streams of GETs: every server's own merged into one for the client, or the rest of one that broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.relay.identifiers import session_checksum
from mcp_extproc.gateway.relay.responses import CallResponse, Expected, Reading
from mcp_extproc.gateway.relay.server_messages import ANY_TOKEN, Call
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.client import BROKEN, UpstreamError
from mcp_extproc.upstreams.merged_stream import HEARTBEAT_SECONDS, MergedStream
from mcp_extproc.upstreams.stream_services import StreamServices


class Streams:
    """All streams of a worker.

    Args:
        services: what they are made with.
    """

    def __init__(self, services: StreamServices) -> None:
        self._services = services
        self._tasks = Tasks(log.logger("streams"))
        self._merged: dict[str, MergedStream] = {}
        self._waiting: set[asyncio.Timeout] = set()
        self._is_closing = False

    @asynccontextmanager
    async def open(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        """The bytes of a stream, or the answer where there is none."""
        if stream.method:
            async with self._rest(stream) as rest:
                yield rest
            return
        key = stream.view.key
        merged = self._merged.get(key)
        if merged is None:
            merged = self._merged[key] = MergedStream(
                self._services, self._tasks, stream, lambda: self._merged.pop(key, None)
            )
        with merged.listener(stream) as chunks:
            if self._is_closing:
                merged.end()
            yield chunks

    def end(self, caller: str) -> None:
        """The client ended its session: so do its streams."""
        merged = self._merged.get(caller)
        if merged is not None:
            merged.end()

    @property
    def listeners(self) -> int:
        """Open streams of clients."""
        return sum(len(merged.listeners) for merged in self._merged.values())

    async def close(self) -> None:
        """End all streams, and from now on each that is opened; clients open them again elsewhere."""
        self._is_closing = True
        for waiting in self._waiting:
            if not waiting.expired():
                waiting.reschedule(0)
        for merged in self._merged.values():
            merged.end()
        await self._tasks.close()

    # -- The rest of a call's stream --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _rest(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        [ref] = stream.sources
        cursor, session = stream.cursors[ref.server], self._services.memory.current(ref)
        if session is None or session_checksum(session) != cursor.session:
            yield stream.refused
            return
        entry = self._services.entries[ref.server]
        listening = self._services.client.listen(entry, session, cursor.event_id, context=stream.context)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(stream.deadline):
                    chunks = await stack.enter_async_context(listening)
            except (UpstreamError, TimeoutError):
                chunks = None
            if chunks is None:
                yield stream.refused
            else:
                yield self._relayed(stream, chunks, self._reader(stream, ref.server, session))

    def _reader(self, stream: Stream, server: str, session: UpstreamSession) -> CallResponse:
        expected = Expected(
            stream.relay,
            self._services.identifiers,
            server,
            session,
            Call(stream.method, ANY_TOKEN),
            None,
            reads_json=False,
            response_bytes=0,
            event_bytes=self._services.client.limits.event_bytes,
        )
        return CallResponse(expected, Reading.EVENTS)

    async def _relayed(
        self, stream: Stream, chunks: AsyncIterator[bytes], response: CallResponse
    ) -> AsyncIterator[bytes]:
        reading = True
        while reading:
            try:
                async with self._patience():
                    chunk = await anext(chunks)
            except TimeoutError:
                if not self._is_closing:
                    yield COMMENT
                    continue
                chunk, reading = b"", False
            except (StopAsyncIteration, *BROKEN):
                chunk, reading = b"", False
            out = response.feed(chunk, end=not reading)
            for message in out.up:
                await self._services.legs.answer(response.server, response.session, message, stream.context)
            if out.down:
                yield out.down

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """Time for one read; at the end of the worker there is none."""
        async with asyncio.timeout(0 if self._is_closing else HEARTBEAT_SECONDS) as waiting:
            self._waiting.add(waiting)
            try:
                yield
            finally:
                self._waiting.discard(waiting)
