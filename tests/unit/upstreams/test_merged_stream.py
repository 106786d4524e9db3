"""Listeners of a merged stream: one gets each message, none is lost between two, and none makes the worker hold much."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from mcp_extproc.config.model import Limits
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.facts import NOTHING
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.relay.identifiers import ClientView, Cursor, session_checksum
from mcp_extproc.gateway.request import NO_CONTEXT, RequestContext, Subject
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT, SseEvent, SseParser, render
from mcp_extproc.upstreams import pauses
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import NoStream, StreamBusy, UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.get_streams import Streams
from mcp_extproc.upstreams.unread import LEAST_BYTES
from tests.support.rounds import FLOODS, LEAST, MOST, lines_parsed
from tests.support.waiting import PATIENCE, eventually
from tests.unit.gateway.relay.support import Rig as RelayRig
from tests.unit.gateway.support import LATEST, upstream
from tests.unit.upstreams.fake_client import DEADLINE, LOST, FakeClient, Rig, Step, stream_services

SIZE = 16 * 1024


class Flood:
    """Servers without end: ``taken`` counts how many chunks were read of them."""

    def __init__(self) -> None:
        self.taken = 0
        self.open = 0
        self.opened = 0
        self.contexts: list[RequestContext] = []
        self.id: str | None = None

    @asynccontextmanager
    async def listen(
        self, entry: CatalogEntry, session: UpstreamSession, last_event_id: str | None, *, context: RequestContext
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if entry.name == "a":
            raise NoStream(405, session)
        self.open += 1
        self.opened += 1
        self.contexts.append(context)
        try:
            yield self._chunks()
        finally:
            self.open -= 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            text = b'{"method":"x","params":{"n":%d,"x":"%b"}}' % (self.taken, b"x" * SIZE)
            self.taken += 1
            yield render(SseEvent(text, id=self.id))
            await asyncio.sleep(0)

    def parser(self) -> SseParser:
        return SseParser(1 << 20)


class Bench:
    """Streams over one flood."""

    def __init__(self, **limits: Any) -> None:
        self.rig = RelayRig()
        self.flood = Flood()
        client: Any = self.flood
        legs: Any = None
        services = stream_services(
            client, legs, self.rig.memory, self.rig, Limits(**{"stream_bytes": 64 << 20} | limits)
        )
        self.streams = Streams(services)

    def stream(self) -> Stream:
        refs = tuple(SessionRef(name, name, upstream(name), LATEST, frozenset()) for name in ("a", "b"))
        return Stream(
            self.rig.view, self.rig.relay, refs, {}, "", 1e9, Reply(405, b""), Reply(429, b""), NOTHING, 1.0, NO_CONTEXT
        )


async def _numbers(chunks: AsyncIterator[bytes], count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        chunk = await anext(chunks)
        if chunk != COMMENT:
            found.append(int(chunk.partition(b'"n":')[2].partition(b",")[0]))
    return found


async def _settle(bench: Bench) -> None:
    """Until the flood has to wait."""
    taken = -1
    while bench.flood.taken != taken:
        taken = bench.flood.taken
        for _ in range(100):
            await asyncio.sleep(0)


async def test_little_is_held_for_a_client_that_does_not_read() -> None:
    bench = Bench()
    async with bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        await _settle(bench)
        held = bench.flood.taken
        assert 1 < held * SIZE < 1 << 20
        assert await _numbers(chunks, held + 5) == list(range(held + 5))
    await asyncio.sleep(0)
    assert bench.streams.listeners == 0


async def test_events_that_are_not_complete_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream for which there is no room ends, and is opened again."""
    bench = Bench()

    async def halves() -> AsyncIterator[bytes]:
        yield b"data: " + b"x" * SIZE
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.flood, "_chunks", halves)
    held, holder = bench.streams._services.held, bench.stream().holder
    async with bench.streams.open(bench.stream()):
        await eventually(lambda: held.of(holder), "half an event is held", until=lambda size: size > SIZE)
    await eventually(lambda: held.total, "it is given back", until=lambda size: size == 0)
    with held.holding(holder) as hog:
        assert hog.part().keep(held.share)
        async with bench.streams.open(bench.stream()):
            await eventually(lambda: bench.flood.open == 0 and bench.flood.opened > 1, "the stream ended")
            assert held.total == held.share


@pytest.mark.parametrize(("id", "passed"), [("7", True), ("a\x01b", False), ("a\x7f", False), ("x" * 5000, False)])
async def test_an_event_id_that_no_header_can_carry_is_none(id: str, passed: bool) -> None:
    """The event passes; nothing could ask the server to go on after it."""
    bench = Bench()
    bench.flood.id = id
    async with bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        event = await anext(chunk async for chunk in chunks if chunk != COMMENT)
    assert b'"n":0' in event
    assert (b"id:" in event) is passed


async def test_a_newer_listener_goes_on_where_one_is_stuck() -> None:
    """What waits for the stuck one stays its own until it leaves; then the newer one gets that too."""
    bench = Bench()
    async with AsyncExitStack() as stuck:
        await stuck.enter_async_context(bench.streams.open(bench.stream()))
        await _settle(bench)
        held = bench.flood.taken - 1  # one more is in hand
        async with bench.streams.open(bench.stream()) as newer:
            assert not isinstance(newer, Reply)
            assert await _numbers(newer, 3) == [held, held + 1, held + 2]
            await _settle(bench)
            waiting = bench.flood.taken
            await stuck.aclose()
            rest = await _numbers(newer, waiting - 3)
            assert sorted(rest) == [*range(held), *range(held + 3, waiting)]


async def test_a_token_of_another_worth_is_shown_nothing_that_was_read_for_the_one_before() -> None:
    """With the same session: servers are asked with its own credentials, and the other's stream is over."""
    bench = Bench()
    strong, weak = (
        replace(bench.stream(), context=RequestContext(subject=Subject(worth, worth))) for worth in ("strong", "weak")
    )
    async with bench.streams.open(strong) as before:
        assert not isinstance(before, Reply)
        await _settle(bench)
        waiting = bench.flood.taken
        async with bench.streams.open(weak) as now:
            assert not isinstance(now, Reply)
            await eventually(
                lambda: bench.flood.contexts[-1].subject, "its own token", until=lambda one: one == weak.context.subject
            )
            first, *_ = await _numbers(now, 3)
            assert first >= waiting
            assert bench.streams.listeners == 1
            left = [chunk async for chunk in before if chunk != COMMENT]
            assert len(left) < waiting
        # Whoever comes back has nothing of the other one, either.
        taken = bench.flood.taken
        async with bench.streams.open(strong) as again:
            assert not isinstance(again, Reply)
            assert (await _numbers(again, 1))[0] >= taken
    await eventually(lambda: bench.flood.open, "all servers' streams end", until=lambda count: count == 0)


async def test_a_token_of_the_same_worth_goes_on_with_the_stream() -> None:
    bench = Bench()
    fresh = [replace(bench.stream(), context=RequestContext(subject=Subject("same", token))) for token in ("a", "b")]
    async with bench.streams.open(fresh[0]):
        await _settle(bench)
        async with bench.streams.open(fresh[1]):
            await _settle(bench)
            assert bench.flood.opened == 1
            assert bench.streams.listeners == 2


async def test_the_older_listener_gets_what_a_newer_one_leaves() -> None:
    bench = Bench()
    async with bench.streams.open(bench.stream()) as older:
        assert not isinstance(older, Reply)
        async with bench.streams.open(bench.stream()) as newer:
            assert not isinstance(newer, Reply)
            await _settle(bench)
            first = await _numbers(newer, 2)
        assert first == [0, 1]
        count = bench.flood.taken - 2
        assert await _numbers(older, count) == list(range(2, count + 2))


async def test_the_end_of_a_session_ends_listeners_that_do_not_read() -> None:
    bench = Bench()
    async with bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        await _settle(bench)
        bench.streams.end("s1")
        assert [chunk async for chunk in chunks] == []


async def test_closing_ends_everything() -> None:
    bench = Bench()
    async with bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        await _numbers(chunks, 1)
        await bench.streams.close()
        assert bench.flood.open == 0


async def test_a_stream_that_is_opened_while_all_are_closed_ends_too() -> None:
    """Its request was on its way when the worker was told to stop."""
    bench = Bench()
    await bench.streams.close()
    async with asyncio.timeout(PATIENCE), bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        assert [chunk async for chunk in chunks] == []


async def test_a_stream_ends_after_so_many_bytes() -> None:
    """Envoy takes all we give, also for a client that does not read: a client that does comes back for more."""
    bench = Bench(stream_bytes=5 * SIZE)
    async with bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        assert len([chunk async for chunk in chunks]) == 5
    async with bench.streams.open(bench.stream()) as chunks:
        assert not isinstance(chunks, Reply)
        assert len(await _numbers(chunks, 2)) == 2


async def test_servers_wait_for_a_client_that_leaves_all_unread() -> None:
    """Its streams end, one after the other, and the next ones are given nothing more for now."""
    bench = Bench(stream_bytes=4 * SIZE, unread_bytes=4 * LEAST_BYTES)
    given = 0
    for _ in range(20):
        async with bench.streams.open(bench.stream()) as chunks:
            assert not isinstance(chunks, Reply)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    async for chunk in chunks:
                        given += len(chunk)
                        assert given <= LEAST_BYTES + 2 * SIZE
        await _settle(bench)
    assert given >= LEAST_BYTES


async def test_one_stream_too_many_ends_the_oldest() -> None:
    """A client that comes back before it is known to be gone gets a new one, and what the old one had not sent."""
    bench = Bench(session_streams=2)
    async with bench.streams.open(bench.stream()) as oldest, AsyncExitStack() as newer:
        assert not isinstance(oldest, Reply)
        await _settle(bench)
        for _ in range(2):
            newest = await newer.enter_async_context(bench.streams.open(bench.stream()))
            assert not isinstance(newest, Reply)
        await _settle(bench)
        assert [chunk async for chunk in oldest] == []
        await newer.aclose()
    assert bench.streams.listeners == 0


async def test_one_stream_too_many_of_all_is_refused() -> None:
    bench = Bench(streams=1)
    async with bench.streams.open(bench.stream()):
        other = replace(bench.stream(), view=ClientView("other", LATEST, frozenset()))
        async with bench.streams.open(other) as refused:
            assert refused is other.crowded
    async with bench.streams.open(other) as chunks:
        assert not isinstance(chunks, Reply)


# -- Servers that refuse, or close what they opened -------------------------------------------------------------------------


OLD = upstream("b", id="old")
NEW = upstream("b", id="new")
MESSAGE = render(SseEvent(b'{"jsonrpc":"2.0","method":"x"}'))


class Opening(FakeClient):
    """Server ``b`` answers each GET with the next of ``gets``: a status, or what it sends before it closes. After the last one
    its stream stays open. At 409 it still sees another connection."""

    def __init__(self, gets: Sequence[int | bytes], steps: Sequence[Step] = ()) -> None:
        super().__init__(b=steps)
        self.limits = Limits()
        self._gets = list(gets)
        self.sessions: list[str | None] = []
        """Of each GET."""
        self.after: list[str | None] = []
        """The event id in each."""

    @asynccontextmanager
    async def listen(
        self, entry: CatalogEntry, session: UpstreamSession, last_event_id: str | None, **_: object
    ) -> AsyncIterator[Any]:
        self.sessions.append(session.id)
        self.after.append(last_event_id)
        step = self._gets.pop(0) if self._gets else None
        if step == 409:
            raise StreamBusy(409)
        if isinstance(step, int):
            raise NoStream(step, session)
        yield self._chunks(step)

    async def _chunks(self, text: bytes | None) -> AsyncIterator[bytes]:
        if text is None:
            await asyncio.Event().wait()
        else:
            yield text

    def parser(self) -> SseParser:
        return SseParser(1 << 20)


class Legs(LegRunner):
    """They do not wait, and record for how long they would have."""

    waited: list[float]

    async def wait_for_another(self, ref: SessionRef, session: UpstreamSession | None, seconds: float) -> None:
        self.waited.append(seconds)
        await asyncio.sleep(0)


class Following:
    """A client's stream over one server."""

    def __init__(self, client: Opening) -> None:
        self.client, self.relays = client, RelayRig()
        rig = Rig(client)
        self.memory, entries, limits = rig.memory, rig.legs._entries, rig.config.limits
        sender = cast("UpstreamClient", client)
        self.legs = Legs(sender, BatchClient(None, limits), entries, self.memory, limits)
        self.waited = self.legs.waited = []
        self.streams = Streams(stream_services(sender, self.legs, self.memory, self.relays))
        self.ref = SessionRef("b", "old", OLD, LATEST, frozenset())

    def asked(self, method: str = "", after: str | None = None) -> Stream:
        """What the client asks for: all messages, or the rest of what a request's response was."""
        return Stream(
            self.relays.view,
            self.relays.relay,
            (self.ref,),
            {} if after is None else {"b": Cursor("b", session_checksum(OLD), after)},
            method,
            1e9,
            Reply(405, b""),
            Reply(429, b""),
            NOTHING,
            DEADLINE,
            NO_CONTEXT,
        )

    async def until(self, condition: Callable[[], object], after: str | None = None) -> None:
        """Listen until this holds."""
        asked = self.asked(after=after)
        async with self.streams.open(asked):
            await eventually(condition, "the server was dealt with")
        await self.streams.close()
        await self.legs.close()


@pytest.mark.parametrize("status", [404, 400])
async def test_a_server_without_streams_keeps_its_session(status: int) -> None:
    """Whatever it says to a GET, it still knows the session: a client's work may be in it."""
    following = Following(Opening([status], [{}]))
    await following.until(lambda: following.client.left("b") == 0)
    assert following.client.asked == [("b", "ping", ("old", "{}"))]
    assert following.client.sessions == ["old"]
    assert following.memory.current(following.ref) == OLD


@pytest.mark.parametrize("status", [404, 400])
async def test_a_lost_session_is_replaced_and_listened_to(status: int) -> None:
    following = Following(Opening([status], [LOST, NEW]))
    await following.until(lambda: following.client.sessions == ["old", "new"])
    assert following.memory.current(following.ref) == NEW


async def test_a_session_is_kept_where_a_new_one_fares_no_better() -> None:
    """The server says to a ping what it says to a GET. What the client set in the session is the session's again."""
    following = Following(Opening([400, 400], [LOST, NEW, LOST, {}]))
    following.memory.set_level(following.ref, "info")
    await following.until(lambda: following.client.left("b") == 0)
    assert following.client.asked[-1] == ("b", "end", "new")
    assert following.memory.current(following.ref) == OLD
    settings = following.memory.settings("b", "old")
    assert settings is not None
    assert settings.level == "info"
    assert following.client.sessions == ["old", "new"]


@pytest.mark.parametrize("kind", ["comments", "blank lines", "junk", "events"])
async def test_others_have_their_turn_while_a_server_floods(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what no client gets, so that none has to read it."""
    following = Following(Opening([FLOODS[kind]]))
    with lines_parsed(monkeypatch) as parsed:
        await following.until(lambda: len(following.client.sessions) == 2)
    assert parsed.total() >= LEAST
    assert max(parsed.values()) <= MOST


async def test_a_stream_that_another_connection_holds_is_asked_for_again_later() -> None:
    """As servers on the TypeScript SDK say while they have not noticed the end of a connection (409). The position is kept."""
    following = Following(Opening([409] * 6))
    await following.until(lambda: len(following.client.sessions) == 7, after="17")
    assert following.client.after == ["17"] * 7
    assert following.waited == sorted(following.waited)
    assert sum(following.waited) > 1 + 2 + 4 + 8 + 16


async def test_an_event_id_holds_the_positions_that_moved_last_and_fit() -> None:
    """Ninety servers with long ids. A client that comes back resumes at those that fit, and with the others it begins anew."""
    names = [f"s{number}" for number in range(90)]
    rig = RelayRig(servers={name: {} for name in names})
    events = {name: render(SseEvent(b'{"method":"%b"}' % name.encode(), id=f"{name}-{'x' * 500}")) for name in names}
    after: dict[str, str | None] = {}

    class Client:
        parser = Flood.parser

        @asynccontextmanager
        async def listen(
            self, entry: CatalogEntry, session: UpstreamSession, last_event_id: str | None, **_: object
        ) -> AsyncIterator[AsyncIterator[bytes]]:
            after[entry.name] = last_event_id
            yield self._chunks(events.pop(entry.name, b""))

        async def _chunks(self, text: bytes) -> AsyncIterator[bytes]:
            yield text
            await asyncio.Event().wait()

    client, legs = cast("Any", Client()), cast("Any", None)
    streams = Streams(stream_services(client, legs, rig.memory, rig))
    refs = tuple(SessionRef(name, name, upstream(name), LATEST, frozenset()) for name in names)
    asked = Stream(rig.view, rig.relay, refs, {}, "", 1e9, Reply(405, b""), Reply(429, b""), NOTHING, 1.0, NO_CONTEXT)
    kept: dict[str, Cursor] = {}
    async with streams.open(asked) as chunks:
        assert not isinstance(chunks, Reply)
        for _ in names:
            [event] = SseParser(1 << 20).feed(await anext(chunk async for chunk in chunks if chunk != COMMENT))
            position = rig.identifiers.position(rig.view.key, event.id or "")
            assert position is not None
            kept = {cursor.server: cursor for cursor in position.cursors}
            assert json.loads(event.data or b"")["method"] == [*kept][-1]
    assert 5 < len(kept) < 90
    after.clear()
    async with streams.open(replace(asked, cursors=kept)):
        await eventually(lambda: len(after), "all are opened again", until=lambda count: count == 90)
    assert {name for name, id in after.items() if id is not None} == kept.keys()
    await streams.close()


async def test_the_rest_of_a_call_that_another_connection_holds_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client is back before the server has noticed that its connection broke."""
    monkeypatch.setattr(pauses, "DEFAULT_RETRY", 0.01)
    following = Following(Opening([409, 409, MESSAGE]))
    async with following.streams.open(following.asked("tools/call", after="17")) as chunks:
        assert not isinstance(chunks, Reply)
        assert [chunk async for chunk in chunks if chunk != COMMENT] == [MESSAGE]
    assert following.client.after == ["17"] * 3


async def test_the_rest_of_a_call_is_refused_where_another_connection_holds_it_for_long() -> None:
    following = Following(Opening([409] * 9))
    asked = replace(following.asked("tools/call", after="17"), deadline=0.01)
    async with following.streams.open(asked) as refused:
        assert refused is asked.refused


async def test_a_server_that_closes_each_stream_is_asked_less_and_less() -> None:
    """Whatever it names: that it opens them proves nothing."""
    following = Following(Opening([b"retry: 0\n\n"] * 6))
    await following.until(lambda: len(following.client.sessions) == 7)
    assert following.waited == sorted(following.waited)
    assert sum(following.waited) > 0.5 + 1 + 2 + 4 + 8 + 16


async def test_a_server_that_sends_something_each_time_is_asked_at_its_pace() -> None:
    following = Following(Opening([b"retry: 0\n\n" + MESSAGE] * 6))
    await following.until(lambda: len(following.client.sessions) == 7)
    assert min(following.waited) >= 0.5
    assert max(following.waited) < 1
