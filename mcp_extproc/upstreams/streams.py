"""Streams of GETs: every server's own merged into one for the client, or the rest of one that broke.

A hub holds the streams of one client session, for as long as somebody listens at this worker. Each message goes to one
listener, the newest (2025-11-25 basic/transports, Multiple Connections).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import orjson

from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import Reply, SessionRef, Stream
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay import ANY_TOKEN, Call
from mcp_extproc.gateway.responses import CallResponse
from mcp_extproc.gateway.view import MAX_UPSTREAM_ID_BYTES, Cursor, Identifiers, Position, session_checksum
from mcp_extproc.mcp.envelope import messages_in
from mcp_extproc.mcp.methods import LIST_CHANGED
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT, EventTooLarge, SseEvent, render
from mcp_extproc.mcp.transport import SSE
from mcp_extproc.upstreams.client import BROKEN, DEFAULT_RETRY, NoStream, SessionLost, UpstreamClient, UpstreamError
from mcp_extproc.upstreams.legs import Legs

HEARTBEAT_SECONDS = 5.0
"""Longest silence towards a client: some end streams that are idle for ten seconds."""

BURST_SECONDS = 0.1
"""List changes within this time are told as one."""

_LONGEST_PAUSE = 30.0
_HELD_BYTES = 256 * 1024
"""Most held for a client that reads slowly, but for one event of any size; then servers have to wait."""


class Streams:
    """All streams of a worker.

    Args:
        client: opens servers' streams.
        legs: opens sessions, and answers servers.
        entries: the servers.
        memory: of sessions.
        identifiers: seals event ids.
        clock: Unix time in seconds.
        stream_bytes: after which the stream of a GET ends.
    """

    def __init__(
        self,
        client: UpstreamClient,
        legs: Legs,
        entries: Mapping[str, CatalogEntry],
        memory: SessionMemory,
        identifiers: Identifiers,
        clock: Callable[[], float],
        stream_bytes: int,
    ) -> None:
        self.client = client
        self.legs = legs
        self.entries = entries
        self.memory = memory
        self.identifiers = identifiers
        self.clock = clock
        self.stream_bytes = stream_bytes
        self._hubs: dict[str, _Hub] = {}

    @asynccontextmanager
    async def open(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        """The bytes of a stream, or the answer where there is none."""
        if stream.method:
            async with self._rest(stream) as rest:
                yield rest
            return
        session_id = stream.view.session_id
        hub = self._hubs.get(session_id)
        if hub is None:
            hub = self._hubs[session_id] = _Hub(self, stream, lambda: self._hubs.pop(session_id, None))
        with hub.listener(stream) as chunks:
            yield chunks

    def end(self, session_id: str) -> None:
        """The client ended its session: so do its streams."""
        hub = self._hubs.get(session_id)
        if hub is not None:
            hub.end()

    @property
    def listeners(self) -> int:
        """Open streams of clients."""
        return sum(len(hub.listeners) for hub in self._hubs.values())

    async def close(self) -> None:
        """End all streams; clients open them again elsewhere."""
        hubs = list(self._hubs.values())
        for hub in hubs:
            hub.end()
        await asyncio.gather(*(hub.closed() for hub in hubs))

    # -- The rest of a call's stream --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _rest(self, stream: Stream) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        [ref] = stream.sources
        cursor, session = stream.cursors[ref.server], self.memory.current(ref)
        if session is None or session_checksum(session) != cursor.session:
            yield stream.refused
            return
        entry = self.entries[ref.server]
        async with AsyncExitStack() as stack:
            listening = self.client.listen(entry, session, cursor.event_id)
            try:
                async with asyncio.timeout(entry.discovery_timeout):
                    chunks = await stack.enter_async_context(listening)
            except (UpstreamError, TimeoutError):
                chunks = None
            if chunks is None:
                yield stream.refused
            else:
                yield self._relayed(chunks, self._reader(stream, ref.server, session))

    def _reader(self, stream: Stream, server: str, session: UpstreamSession) -> CallResponse:
        response = CallResponse(
            stream.relay,
            self.identifiers,
            server,
            session,
            Call(stream.method, ANY_TOKEN),
            None,
            reads_json=False,
            response_bytes=0,
            event_bytes=self.client.limits.event_bytes,
        )
        response.head("200", SSE)
        return response

    async def _relayed(self, chunks: AsyncIterator[bytes], response: CallResponse) -> AsyncIterator[bytes]:
        reading = True
        while reading:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    chunk = await anext(chunks)
            except TimeoutError:
                yield COMMENT
                continue
            except (StopAsyncIteration, *BROKEN):
                chunk, reading = b"", False
            out = response.feed(chunk, end=not reading)
            for message in out.up:
                self.legs.post(response.server, response.session, message)
            if out.down:
                yield out.down


class _Hub:
    """One client session's servers, and its listeners."""

    def __init__(self, streams: Streams, stream: Stream, on_empty: Callable[[], object]) -> None:
        self._streams = streams
        self._stream = stream
        self._on_empty = on_empty
        self._cursors: dict[str, Cursor] = {}
        self._pumps: list[asyncio.Task[None]] = []
        self._changed: set[str] = set()
        self._telling: asyncio.Task[None] | None = None
        self._has_listener = asyncio.Event()
        self.listeners: list[_Listener] = []

    @contextmanager
    def listener(self, stream: Stream) -> Iterator[AsyncIterator[bytes]]:
        """Listen: the merged stream."""
        listener = _Listener()
        self._attach(listener, stream.cursors)
        try:
            yield self._chunks(listener, stream.expires)
        finally:
            self._detach(listener)

    async def _chunks(self, listener: _Listener, expires: float) -> AsyncIterator[bytes]:
        sent = 0
        while (left := expires - self._streams.clock()) > 0:
            if sent > self._streams.stream_bytes:
                return  # Envoy may hold all of it for a client that does not read; one that does comes back
            try:
                async with asyncio.timeout(min(HEARTBEAT_SECONDS, left)):
                    chunk = await listener.get()
            except TimeoutError:
                chunk = COMMENT
            if chunk is None:
                return
            sent += len(chunk)
            yield chunk

    def _attach(self, listener: _Listener, cursors: Mapping[str, Cursor]) -> None:
        if self.listeners:
            self.listeners[-1].wake()
        self.listeners.append(listener)
        self._has_listener.set()
        if self._pumps and not cursors:
            return
        # A client that resumes may have missed what was sent to the connection it lost: the servers have to tell it again.
        for pump in self._pumps:
            pump.cancel()
        self._cursors = dict(cursors)
        self._pumps = [asyncio.create_task(self._pump(ref)) for ref in self._stream.sources]

    def _detach(self, listener: _Listener) -> None:
        self.listeners.remove(listener)
        unsent = listener.rest()
        if self.listeners:
            self.listeners[-1].put(*unsent)
            return
        self._has_listener.clear()
        self._on_empty()
        for task in (*self._pumps, self._telling):
            if task is not None:
                task.cancel()

    def end(self) -> None:
        """End the stream of every listener."""
        for listener in self.listeners:
            listener.end()

    async def closed(self) -> None:
        """Stop listening to the servers."""
        tasks = [task for task in (*self._pumps, self._telling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- Servers --------------------------------------------------------------------------------------------------------

    async def _pump(self, ref: SessionRef) -> None:
        """Keep one server's stream open, through its restarts."""
        known = ref.known
        pause = _Pause()
        useless = 0
        while not self._streams.memory.has_ended(self._stream.view.session_id):
            session = None
            try:
                session = await self._session(ref)
                if known is None or session.id != known.id:
                    self._announce(session)
                known = session
                await self._read(ref, session, pause)
                useless = 0
            except NoStream:
                if not self._cursors.pop(ref.server, None):
                    return
            except SessionLost:
                # It may mean the event id and not the session, so the id goes first.
                if self._cursors.pop(ref.server, None) is None:
                    useless += 1
                    if useless > 1:
                        return  # a new session, and still no stream for it
                    await self._replace(ref, session)
                continue
            except UpstreamError as error:
                if error.reason == "status":
                    self._cursors.pop(ref.server, None)
            # A call that finds the server again is followed at once: what the call is about may need the stream.
            await self._streams.legs.wait_for_another(ref, known, pause.next())

    async def _session(self, ref: SessionRef) -> UpstreamSession:
        return self._streams.memory.current(ref) or await self._streams.legs.reopen(ref, None)

    async def _replace(self, ref: SessionRef, lost: UpstreamSession | None) -> None:
        with contextlib.suppress(UpstreamError):
            await self._streams.legs.reopen(ref, lost.id if lost is not None else None)

    async def _read(self, ref: SessionRef, session: UpstreamSession, pause: _Pause) -> None:
        client, entry = self._streams.client, self._streams.entries[ref.server]
        cursor = self._cursors.get(ref.server)
        if cursor is not None and cursor.session != session_checksum(session):
            cursor = None
        async with client.listen(entry, session, None if cursor is None else cursor.event_id) as chunks:
            pause.reset()
            parser = client.parser()
            try:
                async for chunk in chunks:
                    for event in parser.feed(chunk):
                        await self._event(ref.server, session, event, pause)
            except EventTooLarge:
                # Whoever went on after the event before would get it again.
                self._cursors.pop(ref.server, None)
            except BROKEN:
                pass  # the usual end of a stream

    async def _event(self, server: str, session: UpstreamSession, event: SseEvent, pause: _Pause) -> None:
        if event.retry is not None:
            pause.shortest = min(event.retry / 1000, _LONGEST_PAUSE)
        id = None
        if event.id and len(event.id) <= MAX_UPSTREAM_ID_BYTES:
            self._cursors[server] = Cursor(server, session_checksum(session), event.id)
            position = Position("", tuple(self._cursors.values()))
            id = self._streams.identifiers.event_id(self._stream.view, position)
        down = self._messages(server, session, event.data) if event.data else []
        for message in down[:-1]:
            await self._deliver(render(SseEvent(message, event.event)))
        # Whoever resumes after the id must have seen all of the event.
        if down:
            await self._deliver(render(SseEvent(down[-1], event.event, id)))

    def _messages(self, server: str, session: UpstreamSession, data: bytes) -> list[bytes]:
        """What the client gets of an event's data."""
        down = []
        for message in messages_in(data):
            relayed = self._stream.relay.message(server, session, message, None)
            if relayed.up is not None:
                self._streams.legs.post(server, session, relayed.up)
            if relayed.changed is not None:
                self._tell_change({relayed.changed})
            if relayed.down is not None:
                down.append(relayed.down)
        return down

    # -- Listeners ------------------------------------------------------------------------------------------------------

    async def _deliver(self, chunk: bytes) -> None:
        while True:
            await self._has_listener.wait()
            newest = self.listeners[-1]
            if newest.has_room:
                newest.put(chunk)
                return
            await newest.moved()

    def _announce(self, session: UpstreamSession) -> None:
        """A server came, or came back: what it has may be new."""
        kinds = set(LIST_CHANGED.values()) & session.capabilities
        if kinds:
            self._streams.memory.forget_owners(self._stream.view.session_id)
            self._tell_change(kinds)

    def _tell_change(self, kinds: set[str]) -> None:
        self._changed |= kinds
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_changes())

    async def _tell_changes(self) -> None:
        await asyncio.sleep(BURST_SECONDS)
        while self._changed:
            kind = min(self._changed)
            self._changed.discard(kind)
            message = {"jsonrpc": "2.0", "method": f"notifications/{kind}/list_changed"}
            await self._deliver(render(SseEvent(orjson.dumps(message))))


class _Listener:
    """One connection of a client, and what it has not taken yet."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._moved = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether more may be put in."""
        return self._size < _HELD_BYTES

    def put(self, *chunks: bytes) -> None:
        """Send these, after what is there already."""
        self._chunks.extend(chunks)
        self._size += sum(map(len, chunks))
        self.wake()

    async def get(self) -> bytes | None:
        """The next to send; ``None`` where nothing more comes."""
        while not self._chunks:
            if self._ended:
                return None
            await self.moved()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        self.wake()
        return chunk

    def rest(self) -> list[bytes]:
        """Take out all that was not sent."""
        left = list(self._chunks)
        self._chunks.clear()
        self._size = 0
        self.wake()
        return left

    def end(self) -> None:
        """Nothing more is sent, and not even the rest to a client that does not take it."""
        if not self.has_room:
            self.rest()
        self._ended = True
        self.wake()

    async def moved(self) -> None:
        """Until something was put in or taken out, or another connection came or went."""
        await self._moved.wait()

    def wake(self) -> None:
        """Let everyone look again who waits for :meth:`moved`."""
        self._moved.set()
        self._moved.clear()


class _Pause:
    """Time between two attempts: it grows while they fail, with some chance in it so that not all come at once."""

    def __init__(self) -> None:
        self.shortest = DEFAULT_RETRY
        self._next = 0.0

    def reset(self) -> None:
        self._next = 0.0

    def next(self) -> float:
        """Seconds to wait now."""
        seconds = max(self._next, self.shortest)
        self._next = min(seconds * 2, _LONGEST_PAUSE)
        return seconds * random.uniform(0.8, 1.0)  # noqa: S311 - no secret
