"""The children of one stdio server, or the connections to one HTTP+SSE server, and the sessions that they serve."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import math
import secrets
import time
from contextlib import suppress
from typing import Any

from mcp_extproc.bridge.backoff import Backoff
from mcp_extproc.bridge.conversation import Call, Conversation, Stream
from mcp_extproc.bridge.lines import Skipped
from mcp_extproc.bridge.messages import Incoming, Key, Kind, Outgoing, cancelled_id, key_of
from mcp_extproc.bridge.peer import NO_ROOM, ROOM_SECONDS, HasEnded, NotRead, NotStarted, Peer, Start
from mcp_extproc.bridge.places import NO_PLACE, Places
from mcp_extproc.bridge.sharing import Private, Shared, Sharing, without_capabilities
from mcp_extproc.bridge.spec import Bridged
from mcp_extproc.contract import BRIDGE_HEADER, IS_STARTING, STARTED_AGAIN
from mcp_extproc.gateway.request import Headers
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp.envelope import Message, Request
from mcp_extproc.mcp.errors import INTERNAL_ERROR, McpError
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

_STREAM_BYTES = 1 << 20
"""Bytes that may wait for a client that does not read, before its server has to."""

_UNREAD_SECONDS = ROOM_SECONDS
"""Time for a client to read on. Then its stream is given up, as others of its session wait for it."""

_CANCELLED_SECONDS = 1.0
"""Time for the answer to a cancelled call. Some servers send one; most don't, as the specification has it
(2025-11-25 basic/utilities/cancellation, Behavior Requirements): then the call ends without an answer."""

_ENDING_SECONDS = 3.0
"""Time for a peer that takes nothing more to end. What it wrote last is read meanwhile."""

_SWEEP_SECONDS = 5.0

STEADY_SECONDS = 10.0
"""A child that ended by itself sooner after its start counts as a failure, whatever it did before."""

_TOO_LARGE = "is larger than limits.event_bytes allows: raise it, or have the server answer in parts"
_FORGOTTEN = Incoming(Kind.RESPONSE, b"", {})
_NUMBERS = itertools.count(1)
_LOG = log.logger("bridge")


class Unavailable(McpError):
    """A server can't be used now."""

    def __init__(self, server: str, why: str, id: bytes | None, *headers: tuple[str, str]) -> None:
        message = f"The server {server} {why}"
        super().__init__(INTERNAL_ERROR, message, reason="server_unavailable", id=id, headers=headers)


class Member:
    """One of a pool, a child or a connection, from its start on: before its answer to ``initialize``, and after.

    Args:
        sharing: who uses it.
        holding: has what is held for its sake.
    """

    def __init__(self, sharing: Sharing, holding: Holding) -> None:
        self.sharing = sharing
        self.reading, self.unsent = holding.part(), holding.part()
        self.peer: Peer | None = None
        self.handshake: bytes | None = None
        """Hash of ``params`` of the ``initialize`` that it was sent."""
        self.handshake_key: Key | None = None
        """The id of that as the peer knows it, until it is answered."""
        self.answer: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self.started = self.asked = time.monotonic()
        self.waiting = 0
        """Requests that wait for its answer to ``initialize``."""
        self.is_claimed = False
        """Whether it belongs to a session alone."""
        self.is_given_up = False
        """Whether it took too long to answer."""
        self.has_worked = False
        """Whether it has answered ``initialize``, and not with an error."""

    def is_for(self, params: bytes) -> bool:
        """Whether it is starting, or has started, for whoever asks with these ``params`` of ``initialize``."""
        if self.is_ending:
            return False
        if isinstance(self.sharing, Shared):
            return self.handshake is not None
        # It was asked already, and whoever asked has left before it had answered.
        return self.handshake == params and not self.is_claimed and not self.waiting

    @property
    def is_ending(self) -> bool:
        """Whether its peer is no use for anything new."""
        return self.peer is not None and self.peer.is_ending

    def claim(self, conversation: Conversation | None) -> Conversation:
        """That of a new session.

        Args:
            conversation: its own, where all sessions share the peer.
        """
        self.is_claimed = True
        if conversation is not None:
            self.sharing.conversations.append(conversation)
        else:
            # Nobody else will ask for it.
            self.answer = asyncio.get_running_loop().create_future()
            self.answer.set_result(_FORGOTTEN)
        return self.sharing.conversations[-1]

    async def receive(self, message: Incoming | Skipped) -> None:
        """Take what the peer writes to whom it is for."""
        if isinstance(message, Skipped):
            self._skipped(message)
        elif self._is_handshake(message):
            self.handshake_key = None
            self.has_worked = "result" in message.members
            if not self.answer.done():
                self.answer.set_result(message)
        else:
            await self._deliver(message)

    def _is_handshake(self, message: Incoming) -> bool:
        is_answer = message.kind is Kind.RESPONSE and message.key is not None
        return is_answer and message.key == self.handshake_key

    async def _deliver(self, message: Incoming) -> None:
        for delivery in self.sharing.incoming(message):
            if isinstance(delivery, bytes):
                self._answer(delivery)
                continue
            conversation, theirs = delivery
            stream = conversation.destination(theirs)
            if isinstance(self.sharing, Shared):
                if stream is None or theirs.kind is Kind.RESPONSE or stream.size <= _STREAM_BYTES:
                    conversation.receive(theirs, self.reading)
                # Otherwise it is not told of further progress and changes: nobody waits for another session's client.
                continue
            for answer in conversation.receive(theirs, self.reading):
                self._answer(answer)
            if stream is not None and stream.size > _STREAM_BYTES:
                await _give_up_unread(conversation, stream)

    def _answer(self, text: bytes) -> None:
        if self.peer is not None:
            with suppress(NotRead):
                self.peer.write(Outgoing(text))

    def _skipped(self, line: Skipped) -> None:
        owner = None if line.id is None else self.sharing.owner(line.id)
        if owner is not None:
            conversation, id = owner
            if (call := conversation.running(id)) is not None:
                why = f"was not read: {NO_ROOM}" if line.found_no_room else _TOO_LARGE
                conversation.fail(call, f"The server's answer {why}.")


async def _give_up_unread(conversation: Conversation, stream: Stream) -> None:
    try:
        async with asyncio.timeout(_UNREAD_SECONDS):
            await stream.room(_STREAM_BYTES)
    except TimeoutError:
        stream.cut()
        conversation.leave(stream)


class Session:
    """One session of a client with the server."""

    def __init__(self, id: str, member: Member, conversation: Conversation) -> None:
        self.id = id
        self.member = member
        self.conversation = conversation
        self.used = time.monotonic()

    def send(self, message: Message, context: Headers = ()) -> None:
        """Send the client's message to the peer.

        Args:
            message: of the client.
            context: headers of its request that go along.

        Raises:
            NotRead: it does not read, or has ended.
        """
        self.used = time.monotonic()
        outgoing = self.member.sharing.outgoing(self.conversation, message)
        if outgoing is not None:
            assert self.member.peer is not None
            self.member.peer.write(outgoing, context)
        cancelled = cancelled_id(message)
        call = None if cancelled is None else self.conversation.running(cancelled)
        if call is not None:
            asyncio.get_running_loop().call_later(_CANCELLED_SECONDS, self.forget, call)

    def fail(self, call: Call, why: str) -> None:
        """Answer a call with an error, unless it has an answer. One that comes later is nobody's."""
        if self.conversation.running(call.id) is call:
            self.member.sharing.forget(self.conversation, call.id)
            self.conversation.fail(call, why)

    def forget(self, call: Call) -> None:
        """End a call without an answer, unless it has one. One that comes later is nobody's."""
        if self.conversation.running(call.id) is call:
            self.member.sharing.forget(self.conversation, call.id)
            self.conversation.forget(call)

    def leave(self, stream: Stream) -> None:
        """Nobody reads a stream any more."""
        self.used = time.monotonic()
        self.conversation.leave(stream)


class Pool:
    """All of one server.

    Args:
        name: of the server.
        spec: what holds for them.
        start: starts one.
        held: what the bridge holds.
        places: for children and connections of all servers.
    """

    def __init__(self, name: str, spec: Bridged, start: Start, held: HeldBytes, places: Places) -> None:
        self.name = name
        self.spec = spec
        self._held = held
        self._places = places
        self._start_peer = start
        self._backoff = Backoff(spec.longest_pause)
        self._sessions: dict[str, Session] = {}
        self._members: list[Member] = []
        self._spare: Member | None = None
        """Started before anybody asked."""
        self._tasks = Tasks(_LOG)
        self._starting = asyncio.Lock()
        self._proven = asyncio.Event()
        """Set once a peer has answered, or has failed to."""
        self._failed_last = False
        """Whether the last peer that could have answered ``initialize`` did not."""
        self._is_leaving = False

    def begin(self) -> None:
        """Have a first peer started."""
        self._tasks.keep("sweep_sessions", self._sweep, server=self.name)
        self._warm_soon()

    @property
    def is_over(self) -> bool:
        """Whether there is no peer, and none to come."""
        return self._is_leaving and not self._members

    def session(self, id: str) -> Session | None:
        """The session with an id, unless it is over."""
        session = self._sessions.get(id)
        if session is None or session.member.is_ending:
            return None
        return None if self._is_leaving and not session.conversation.has_calls else session

    async def open(self, initialize: Request, context: Headers = ()) -> tuple[str, bytes]:
        """Begin a session.

        Args:
            initialize: the client's.
            context: headers of its request that go along.

        Returns:
            Its id, and the text of the server's answer. The session is over at once where that is an error.

        Raises:
            McpError: no peer could be started, or it did not answer.
        """
        await self._first_one(initialize)
        member = await self._member_for(initialize, context)
        member.waiting += 1
        try:
            answer = await self._answered(member, initialize)
        finally:
            member.waiting -= 1
        if answer.why is not None:
            self._end_soon(member)
            raise Unavailable(self.name, answer.why, initialize.id)
        text = answer.with_id(initialize.id).text
        if "result" not in answer.members:
            self._end_soon(member)
            return "", text
        conversation = self._conversation(self._holding()) if isinstance(member.sharing, Shared) else None
        session = Session(secrets.token_urlsafe(24), member, member.claim(conversation))
        self._sessions[session.id] = session
        self._warm_soon()
        return session.id, text

    def close(self, session: Session) -> None:
        """End a session, and its peer where nobody else uses it."""
        if self._sessions.pop(session.id, None) is None:
            return
        member = session.member
        self._end_conversation(session.conversation, f"The session with the server {self.name} has ended.")
        member.sharing.leave(session.conversation)
        if isinstance(member.sharing, Private):
            self._end_soon(member)

    def _end_conversation(self, conversation: Conversation, why: str) -> None:
        conversation.end(why)
        if dropped := conversation.taken_dropped():
            log.event(_LOG, logging.INFO, "messages_dropped", {"server": self.name, "messages": dropped})

    def retire(self) -> None:
        """Begin no more sessions, and end each once no call of it runs."""
        self._is_leaving = True
        for session in self._sessions.values():
            session.conversation.stop_listening()
        self._close_unused()

    async def end(self) -> None:
        """End all peers, and what runs in them."""
        self._is_leaving = True
        for session in list(self._sessions.values()):
            self._end_conversation(session.conversation, f"The server {self.name} is not served any more.")
        self._sessions.clear()
        async with self._starting:
            peers = [member.peer for member in self._members if member.peer is not None]
        await asyncio.gather(*(peer.end() for peer in peers))
        await self._tasks.close()

    # -- Peers ----------------------------------------------------------------------------------------------------------

    async def _member_for(self, initialize: Request, context: Headers) -> Member:
        """The one whose peer gets, or has got, such an ``initialize``."""
        params = _params(initialize)
        async with self._starting:
            for member in self._members:
                if member.is_for(params):
                    return member
            member = self._take_spare() or await self._start(initialize.id)
        is_shared = isinstance(member.sharing, Shared)
        id = b"0" if is_shared else initialize.id
        assert member.peer is not None
        try:
            text = without_capabilities(initialize) if is_shared else initialize.body
            member.peer.write(Outgoing(text, id), context)
        except NotRead as error:
            # It was not asked, and nobody else will get it.
            why = await _how_it_ended(member.peer) if isinstance(error, HasEnded) else None
            if why is None:
                self._end_soon(member)
            raise Unavailable(self.name, why or str(error), initialize.id) from None
        member.handshake, member.handshake_key = params, key_of(id)
        member.asked = time.monotonic()
        return member

    async def _first_one(self, initialize: Request) -> None:
        """Wait until a first peer has answered, if one is starting: several at once would download the same."""
        params = _params(initialize)
        asked = [member for member in self._members if member.handshake is not None and not member.answer.done()]
        if self._proven.is_set() or not asked or any(member.is_for(params) for member in asked):
            return
        try:
            async with asyncio.timeout(self.spec.answer_within):
                await self._proven.wait()
        except TimeoutError:
            raise self._still_starting(asked[0], initialize.id) from None

    def _still_starting(self, member: Member, id: bytes | None) -> Unavailable:
        why = f"is still starting, since {time.monotonic() - member.asked:.0f} s"
        return Unavailable(self.name, why, id, (BRIDGE_HEADER, IS_STARTING))

    async def _start(self, id: bytes | None) -> Member:
        if self._is_leaving:
            raise Unavailable(self.name, "is not served any more", id)
        if (seconds := self._backoff.wait(time.monotonic())) > 0:
            why = f"{self._backoff.why}{STARTED_AGAIN}{math.ceil(seconds)} s"
            raise Unavailable(self.name, why, id)
        if len(self._members) >= self.spec.most:
            raise Unavailable(self.name, f"has all of its {self.spec.most} {self.spec.most_of}", id)
        if not self._places.take(self.spec.descriptors):
            raise Unavailable(self.name, f"can't be started: {NO_PLACE}", id)
        holding = self._holding()
        sharing: Sharing = Shared() if self.spec.sharing == "shared" else Private(self._conversation(holding))
        member = Member(sharing, holding)
        member.answer.add_done_callback(lambda _: self._has_answered(member))
        self._members.append(member)
        try:
            member.peer = await self._start_peer(member)
        except NotStarted as error:
            self._remove(member)
            why = f"can't be started: {error}"
            self._failed(why)
            raise Unavailable(self.name, why, id) from None
        except BaseException:
            self._remove(member)
            raise
        self._tasks.start("see_off_peer", self._see_off(member, member.peer), server=self.name)
        return member

    def _has_answered(self, member: Member) -> None:
        self._proven.set()
        self._failed_last = not member.has_worked

    def _failed(self, why: str) -> None:
        """A start failed."""
        self._backoff.failed(time.monotonic(), why)
        self._failed_last = True

    def _holding(self) -> Holding:
        return self._held.holding(f"{self.name} {next(_NUMBERS)}")

    def _conversation(self, holding: Holding) -> Conversation:
        return Conversation(holding, self.spec.event_bytes)

    def _remove(self, member: Member) -> None:
        self._members.remove(member)
        self._places.give_back(self.spec.descriptors)

    def _take_spare(self) -> Member | None:
        spare, self._spare = self._spare, None
        return None if spare is None or spare.is_ending else spare

    async def _answered(self, member: Member, initialize: Request) -> Incoming:
        """A peer's answer to ``initialize``. One that is late goes on starting, for whoever asks the same again."""
        assert member.peer is not None
        left = member.asked + self.spec.start_timeout - time.monotonic()
        doubted = self.spec.doubted_within if self._failed_last else None
        patience = self.spec.answer_within
        if doubted is not None:
            # One waits for it, and nobody who comes later.
            patience = min(patience, max(member.asked + doubted - time.monotonic(), 0))
        gone = asyncio.ensure_future(member.peer.ended.wait())
        either: set[asyncio.Future[Any]] = {member.answer, gone}
        try:
            await asyncio.wait(either, timeout=min(patience, max(left, 0)), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if member.answer.done():
            return member.answer.result()
        if member.peer.ended.is_set() and not member.is_given_up:
            raise Unavailable(self.name, member.peer.ending_text, initialize.id)
        seconds = time.monotonic() - member.asked
        if member.is_given_up or seconds >= self.spec.start_timeout:
            why = f"has not answered within {self.spec.start_timeout:g} s ({self.spec.timeout_key})"
            self._give_up(member, why)
            raise Unavailable(self.name, why, initialize.id)
        if doubted is not None:
            raise Unavailable(self.name, f"{self._backoff.why}; it is being started again", initialize.id)
        raise self._still_starting(member, initialize.id)

    async def _see_off(self, member: Member, peer: Peer) -> None:
        await peer.ended.wait()
        self._remove(member)
        if self._spare is member:
            self._spare = None
        why = f"The server {self.name} {peer.ending_text}."
        for conversation in member.sharing.conversations:
            self._end_conversation(conversation, why)
        for id in [id for id, session in self._sessions.items() if session.member is member]:
            del self._sessions[id]
        self._proven.set()
        self._learn(member, peer)
        self._warm_soon()

    def _learn(self, member: Member, peer: Peer) -> None:
        now = time.monotonic()
        if member.has_worked and (peer.was_asked or now - member.started > STEADY_SECONDS):
            self._backoff.worked()
        elif member.has_worked and not peer.was_asked:
            self._backoff.failed(now, peer.ending_text)
        elif not peer.was_asked:
            self._failed(peer.ending_text)

    def _give_up(self, member: Member, why: str) -> None:
        """One failure, however many wait for it."""
        if not member.is_given_up:
            member.is_given_up = True
            self._end_soon(member)
            self._failed(why)

    def _end_soon(self, member: Member) -> None:
        if member.peer is not None:
            self._tasks.start("end_peer", member.peer.end(), server=self.name)

    # -- The spare one --------------------------------------------------------------------------------------------------

    def _warm_soon(self) -> None:
        if not self._is_leaving and self.spec.spares:
            self._tasks.start("warm_spare", self._warm(), server=self.name)

    async def _warm(self) -> None:
        """Have one peer that waits for a session, if there is room for it."""
        await asyncio.sleep(self._backoff.wait(time.monotonic()))
        async with self._starting:
            is_needed = self._spare is None and (self.spec.sharing == "session" or not self._members)
            if is_needed and not self._is_leaving and len(self._members) < self.spec.most:
                with suppress(McpError):
                    self._spare = await self._start(None)

    # -- Sessions that nobody uses --------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while not self.is_over:
            await asyncio.sleep(min(self.spec.idle_timeout / 4, _SWEEP_SECONDS))
            self._close_unused()

    def _close_unused(self) -> None:
        before = time.monotonic() - self.spec.idle_timeout
        for session in list(self._sessions.values()):
            is_idle = not session.conversation.is_used and session.used < before
            if is_idle or (self._is_leaving and not session.conversation.has_calls):
                self.close(session)
        for member in self._members:
            if self._is_forgotten(member):
                self._end_soon(member)

    def _is_forgotten(self, member: Member) -> bool:
        """Whether a peer has nobody, and will have nobody."""
        if member.waiting or (member.sharing.conversations and member.is_claimed):
            return False
        late = member.handshake is not None and time.monotonic() - member.asked > self.spec.start_timeout
        return self._is_leaving or (late and not isinstance(member.sharing, Shared))


async def _how_it_ended(peer: Peer) -> str | None:
    """As a clause, if it says so in time: it may have closed its end, and run on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_ENDING_SECONDS):
            await peer.ended.wait()
            return peer.ending_text
    return None


def _params(initialize: Request) -> bytes:
    """Hash of them. They may be as large as any request, and are kept as long as the child."""
    return hashlib.sha256(initialize.members.get("params", b"{}")).digest()
