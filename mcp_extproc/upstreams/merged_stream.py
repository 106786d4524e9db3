"""All servers' streams of one client session, merged for as long as the client listens at this worker.

Each message goes to one listener, the newest (2025-11-25 basic/transports, Multiple Connections).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial

import orjson

from mcp_extproc.gateway.decision import Stream
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.relay.identifiers import Cursor, Position, session_checksum
from mcp_extproc.mcp.envelope import messages_in
from mcp_extproc.mcp.jsontext import has_more_members
from mcp_extproc.mcp.methods import LIST_CHANGED
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT, EventTooLarge, SseEvent, is_resumable, portions, render
from mcp_extproc.tasks import Tasks, in_slices
from mcp_extproc.upstreams.client import NoStream, UpstreamError
from mcp_extproc.upstreams.listener import Listener
from mcp_extproc.upstreams.pauses import Pause
from mcp_extproc.upstreams.private_listener import BROKEN
from mcp_extproc.upstreams.stream_services import StreamServices
from mcp_extproc.upstreams.unread import Given

HEARTBEAT_SECONDS = 5.0
"""Longest silence towards a client: some end streams that are idle for ten seconds."""

BURST_SECONDS = 0.1
"""List changes within this time are sent as one."""


class MergedStream:
    """One client session's servers, and its listeners.

    Args:
        services: what it is made with.
        tasks: its own run among them.
        stream: what the client asked for.
        on_empty: called when the last listener has left.
    """

    def __init__(self, services: StreamServices, tasks: Tasks, stream: Stream, on_empty: Callable[[], object]) -> None:
        self._services = services
        self._tasks = tasks
        self._stream = stream
        self._on_empty = on_empty
        self._cursors: dict[str, Cursor] = {}
        self._given_up: dict[str, UpstreamSession] = {}
        """By server: what the session replaced in which its stream is opened next."""
        self._pumps: list[asyncio.Task[None]] = []
        self._changed: set[str] = set()
        self._telling: asyncio.Task[None] | None = None
        self._has_listener = asyncio.Event()
        self.listeners: list[Listener] = []
        self._apart: set[Listener] = set()
        """Connections that are about to end: what was read for them is for them alone."""
        if stream.changed:
            self._tell_change(set(stream.changed))

    @contextmanager
    def chunks(self, stream: Stream, listener: Listener, given: Given) -> Iterator[AsyncIterator[bytes]]:
        """The merged stream, for a client that listens."""
        self._attach(listener, stream)
        try:
            yield self._chunks(listener, stream.expires, given)
        finally:
            self._detach(listener)

    async def _chunks(self, listener: Listener, expires: float, given: Given) -> AsyncIterator[bytes]:
        while (left := expires - self._services.clock()) > 0:
            if given.is_full:
                return  # a client that reads comes back
            try:
                async with asyncio.timeout(min(HEARTBEAT_SECONDS, left)):
                    chunk = await (listener.get() if given.has_room else listener.over())
            except TimeoutError:
                chunk = COMMENT
            if chunk is None:
                return
            yield chunk

    def _attach(self, listener: Listener, stream: Stream) -> None:
        is_other = _worth(stream) != _worth(self._stream)
        if is_other:
            self._go_on_for(stream)
        elif self.listeners:
            self.listeners[-1].wake()
        self.listeners.append(listener)
        self._has_listener.set()
        if self._pumps and not stream.cursors and not is_other:
            return
        # A client that resumes may have missed what was sent to the connection it lost: the servers have to send it again.
        for pump in self._pumps:
            pump.cancel()
        if stream.cursors:
            self._cursors = dict(stream.cursors)
        self._pumps = [
            self._tasks.keep("pump", partial(self._pump, ref), server=ref.server) for ref in self._stream.sources
        ]

    def _go_on_for(self, stream: Stream) -> None:
        """The same session's client has a token that is worth another thing: other things are hidden from it, and servers get
        other credentials. Nothing that was read for the one before is for it."""
        for listener in self.listeners:
            listener.end()
        self._apart.update(self.listeners)
        self.listeners.clear()
        self._stream = stream

    def _detach(self, listener: Listener) -> None:
        if listener in self._apart:
            self._apart.remove(listener)
            return
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

    def replace(self, listener: Listener) -> None:
        """End a listener's stream, as a newer one takes its place. The newest gets what it has not sent."""
        if listener not in self._apart and self.listeners[-1] is not listener:
            self.listeners[-1].put(*listener.rest())
        listener.end()

    def end(self) -> None:
        """End the stream of every listener."""
        for listener in self.listeners:
            listener.end()

    # -- Servers --------------------------------------------------------------------------------------------------------

    async def _pump(self, ref: SessionRef) -> None:
        """Keep one server's stream open, through its restarts."""
        known = ref.known
        pause = Pause()
        while not self._services.memory.has_ended(self._stream.view.key):
            try:
                session = await self._session(ref)
                if known is None or session.id != known.id:
                    self._announce(session)
                known = session
                if not await self._follow(ref, session, pause):
                    return
            except UpstreamError as error:
                if error.reason == "status":
                    self._cursors.pop(ref.server, None)
            # A call that finds the server again is followed at once: what the call is about may need the stream.
            await self._services.legs.wait_for_another(ref, known, pause.next())

    async def _session(self, ref: SessionRef) -> UpstreamSession:
        return self._services.memory.current(ref) or await self._services.legs.reopen(ref, None, self._stream.context)

    async def _follow(self, ref: SessionRef, session: UpstreamSession, pause: Pause) -> bool:
        """Read a server's stream until it ends. Returns whether to open it again."""
        try:
            await self._read(ref, session, pause)
        except NoStream as refusal:
            # It may mean the event id, and not the stream or the session, so the id goes first.
            if self._cursors.pop(ref.server, None) is not None:
                return True
            return refusal.may_mean_session and await self._renewed(ref, session)
        self._given_up.pop(ref.server, None)
        return True

    async def _renewed(self, ref: SessionRef, session: UpstreamSession) -> bool:
        """Whether the server lost the session in which it refuses a stream, and has another one now.

        A session is not given up for less: servers without a stream say the same, and a session may hold a client's work.
        """
        legs = self._services.legs
        if not await legs.has_lost(ref, session, self._stream.context):
            return False
        given_up = self._given_up.pop(ref.server, None)
        if given_up is not None:
            legs.take_back(ref, given_up, session, self._stream.context)
            return False
        await legs.reopen(ref, session.id, self._stream.context)
        self._given_up[ref.server] = session
        return True

    async def _read(self, ref: SessionRef, session: UpstreamSession, pause: Pause) -> None:
        client, entry, loop = self._services.client, self._services.entries[ref.server], asyncio.get_running_loop()
        cursor = self._cursors.get(ref.server)
        if cursor is not None and cursor.session != session_checksum(session):
            cursor = None
        last = None if cursor is None else cursor.event_id
        holding = self._services.held.holding(self._stream.holder)
        async with client.listen(entry, session, last, context=self._stream.context) as chunks:
            parser, held = client.parser(), holding.part()
            opened = loop.time()
            try:
                async for chunk in chunks:
                    for piece, turn in portions(chunk):
                        await self._services.turns.take(turn)
                        for event in parser.feed(piece):
                            await self._event(ref.server, session, event, pause)
                    if not held.keep(parser.held):
                        return  # it is opened again, after the event before
            except EventTooLarge:
                # A client that resumes after the event before would get it again.
                self._cursors.pop(ref.server, None)
            except BROKEN:
                pass  # the usual end of a stream
            finally:
                holding.release()
                pause.was_open(loop.time() - opened)

    async def _event(self, server: str, session: UpstreamSession, event: SseEvent, pause: Pause) -> None:
        await self._services.turns.take(len(event.data or b""))
        if event.retry is not None:
            pause.ask_for(event.retry)
        if event.data:
            pause.reset()
        id = None
        if event.id is not None and is_resumable(event.id):
            self._cursors.pop(server, None)  # the one that has moved last stands last
            self._cursors[server] = Cursor(server, session_checksum(session), event.id)
            position = Position("", tuple(self._cursors.values()))
            id = self._services.identifiers.event_id(self._stream.view, position)
        down = await self._messages(server, session, event.data) if event.data else []
        for message in down[:-1]:
            await self._deliver(render(SseEvent(message, event.event)))
        # A client that resumes after the id must have received all of the event.
        if down:
            await self._deliver(render(SseEvent(down[-1], event.event, id)))

    async def _messages(self, server: str, session: UpstreamSession, data: bytes) -> list[bytes]:
        """What the client gets of an event's data. Nothing of one with too many members to be read."""
        if await in_slices(has_more_members(data, self._services.json_members)):
            return []
        down = []
        for message in messages_in(data):
            relayed = self._stream.relay.message(server, session, message, None)
            if relayed.up is not None:
                await self._services.legs.answer(server, session, relayed.up, self._stream.context)
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
        kinds = LIST_CHANGED.keys() & session.capabilities
        if kinds:
            self._services.memory.forget_owners(self._stream.view.key)
            self._tell_change(kinds)

    def _tell_change(self, kinds: set[str]) -> None:
        self._changed |= kinds
        if self._telling is None or self._telling.done():
            self._telling = self._tasks.keep("tell_changes", self._tell_changes)

    async def _tell_changes(self) -> None:
        await asyncio.sleep(BURST_SECONDS)
        while self._changed:
            kind = min(self._changed)
            message = {"jsonrpc": "2.0", "method": LIST_CHANGED[kind]}
            await self._deliver(render(SseEvent(orjson.dumps(message))))
            self._changed.discard(kind)


def _worth(stream: Stream) -> tuple[Hashable, str]:
    """By what two streams of a session differ in what their clients may be sent."""
    sight, subject = stream.relay.sight, stream.context.subject
    return None if sight is None else sight.worth, "" if subject is None else subject.key
