"""Streams of GETs: every server's own merged into one for the client, or the rest of one that broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial

from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.relay.identifiers import session_checksum
from mcp_extproc.gateway.relay.responses import CallResponse, Expected, Reading
from mcp_extproc.gateway.relay.server_messages import ANY_TOKEN, Call
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT
from mcp_extproc.tasks import Tasks, in_slices
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.client import StreamBusy, UpstreamError
from mcp_extproc.upstreams.listener import Listener
from mcp_extproc.upstreams.merged_stream import HEARTBEAT_SECONDS, MergedStream
from mcp_extproc.upstreams.open_streams import TooManyStreams
from mcp_extproc.upstreams.pauses import Pause
from mcp_extproc.upstreams.private_listener import BROKEN
from mcp_extproc.upstreams.stream_services import StreamServices
from mcp_extproc.upstreams.unread import Given


class Streams:
    """All streams of a worker.

    Args:
        services: what they are made with.
    """

    def __init__(self, services: StreamServices) -> None:
        self._services = services
        self._tasks = Tasks(log.logger("streams"))
        self._merged: dict[str, MergedStream] = {}
        self._rests: set[_Rest] = set()
        self._is_closing = False

    @asynccontextmanager
    async def open(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        """The bytes of a stream, or the answer where there is none."""
        key, principal = stream.view.key, stream.context.principal
        opening = _Rest() if stream.method else Listener()
        with ExitStack() as stack:
            try:
                stack.enter_context(self._services.open.one_more(key, principal, partial(self._replace, key, opening)))
            except TooManyStreams:
                yield stream.crowded
                return
            given = stack.enter_context(self._services.unread.stream(key))
            if isinstance(opening, Listener):
                yield given.counted(stack.enter_context(self._listening(stream, opening, given)))
                return
            async with self._rest(stream, opening, given) as rest:
                yield rest if isinstance(rest, Reply) else given.counted(rest)

    @contextmanager
    def _listening(self, stream: Stream, listener: Listener, given: Given) -> Iterator[AsyncIterator[bytes]]:
        key = stream.view.key
        merged = self._merged.get(key)
        if merged is None:
            merged = self._merged[key] = MergedStream(
                self._services, self._tasks, stream, lambda: self._merged.pop(key, None)
            )
        with merged.chunks(stream, listener, given) as chunks:
            if self._is_closing:
                merged.end()
            yield chunks

    def _replace(self, key: str, stream: Listener | _Rest) -> None:
        """End a session's stream, as a newer one takes its place."""
        if isinstance(stream, _Rest):
            stream.end()
        elif (merged := self._merged.get(key)) is not None:
            merged.replace(stream)

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
        for rest in self._rests:
            rest.end()
        for merged in self._merged.values():
            merged.end()
        await self._tasks.close()

    # -- The rest of a call's stream --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _rest(self, stream: Stream, rest: _Rest, given: Given) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        [ref] = stream.sources
        cursor, session = stream.cursors[ref.server], self._services.memory.current(ref)
        if session is None or session_checksum(session) != cursor.session:
            yield stream.refused
            return
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(stream.deadline):
                    chunks = await stack.enter_async_context(self._going_on(stream, ref.server, session))
            except (UpstreamError, TimeoutError):
                chunks = None
            if chunks is None:
                yield stream.refused
            else:
                self._rests.add(rest)
                stack.callback(self._rests.discard, rest)
                if self._is_closing:
                    rest.end()
                yield self._relayed(stream, rest.chunks(chunks, given), self._reader(stream, ref.server, session))

    @asynccontextmanager
    async def _going_on(
        self, stream: Stream, server: str, session: UpstreamSession
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A server's stream, after the event that the client had last. Where the server still sees the connection that broke,
        it refuses another one for a while.

        Raises:
            UpstreamError: it refuses for good, or is unreachable.
        """
        services, pause = self._services, Pause()
        entry, after = services.entries[server], stream.cursors[server].event_id
        while True:
            async with AsyncExitStack() as stack:
                try:
                    listening = services.client.listen(entry, session, after, context=stream.context)
                    chunks = await stack.enter_async_context(listening)
                except StreamBusy:
                    await asyncio.sleep(pause.next())
                    continue
                yield chunks
                return

    def _reader(self, stream: Stream, server: str, session: UpstreamSession) -> CallResponse:
        expected = Expected(
            stream.relay,
            self._services.identifiers,
            server,
            session,
            Call(stream.method, ANY_TOKEN, stream.id),
            reads_json=False,
            response_bytes=0,
            event_bytes=self._services.client.limits.event_bytes,
            json_members=self._services.json_members,
        )
        return CallResponse(expected, Reading.EVENTS)

    async def _relayed(
        self, stream: Stream, chunks: AsyncIterator[bytes], response: CallResponse
    ) -> AsyncIterator[bytes]:
        with self._services.held.holding(stream.holder) as holding:
            held = holding.part()
            async for chunk in chunks:
                if chunk is COMMENT:
                    yield COMMENT
                    continue
                await self._services.turns.take(len(chunk))
                out = await in_slices(response.feeding(chunk, end=not chunk))
                for message in out.up:
                    await self._services.legs.answer(response.server, response.session, message, stream.context)
                if out.parts:
                    yield out.down
                if not held.keep(response.held):
                    return  # the client asks for the rest, after its last event


class _Rest:
    """Somebody who waits for the rest of a call's stream."""

    def __init__(self) -> None:
        self._is_ended = False
        self._waiting: asyncio.Timeout | None = None

    def end(self) -> None:
        """Let it be over, soon."""
        self._is_ended = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    async def chunks(self, chunks: AsyncIterator[bytes], given: Given) -> AsyncIterator[bytes]:
        """The chunks of a server's stream, :data:`COMMENT` where there is none for a while, and an empty one at its end.

        It breaks off where its client was given enough for now, and asks for the rest of the rest.
        """
        while not given.is_full:
            try:
                async with self._patience():
                    chunk = await (anext(chunks) if given.has_room else _nothing())
            except TimeoutError:
                chunk = b"" if self._is_ended else COMMENT
            except (StopAsyncIteration, *BROKEN):
                chunk = b""
            yield chunk
            if not chunk:
                return

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """Time for one read; there is none where it is to end."""
        async with asyncio.timeout(0 if self._is_ended else HEARTBEAT_SECONDS) as self._waiting:
            try:
                yield
            finally:
                self._waiting = None


async def _nothing() -> bytes:
    await asyncio.Event().wait()
    raise AssertionError
