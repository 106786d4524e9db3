"""Sessions and their processes, with a peer that the test plays. Real children: test_server.py."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from mcp_extproc.bridge import pool
from mcp_extproc.bridge.conversation import Conversation, Stream
from mcp_extproc.bridge.messages import Outgoing, read
from mcp_extproc.bridge.peer import HasEnded, Inbox, NotRead
from mcp_extproc.bridge.places import Places
from mcp_extproc.bridge.pool import Member, Pool, Session
from mcp_extproc.bridge.sharing import Private, Shared, Sharing
from mcp_extproc.contract import BRIDGE_HEADER
from mcp_extproc.gateway.request import Headers
from mcp_extproc.held import HeldBytes
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError
from tests.support.waiting import PATIENCE, eventually
from tests.unit.bridge.support import HELD, conversation, spec


class Player:
    """A peer that hears what the test reads, and says what the test writes."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.reads = True
        self.has_closed = False
        self.refused = 0
        """Messages that came after that."""
        self.is_ending = False
        self.ended = asyncio.Event()
        self.ending_text = ""
        self.was_asked = False
        self.inbox: Inbox

    def write(self, message: Outgoing, context: Headers = ()) -> None:
        if self.has_closed:
            self.refused += 1
            raise HasEnded
        if not self.reads:
            raise NotRead("does not read its input")
        self.heard.append(json.loads(message.text))

    async def end(self) -> None:
        self.was_asked = True
        self.exit()
        self.ended.set()

    def exit(self) -> None:
        """What it has started may still run."""
        self.is_ending = True

    async def answer(self, error: Any = None, why: str | None = None) -> None:
        """To ``initialize``, once it is there."""
        heard = await eventually(lambda: self.heard, "initialize")
        said = {"result": {}} if error is None else {"error": error}
        for message in read(as_text(id=heard[0]["id"], **said)) or []:
            await self.inbox.receive(replace(message, why=why))


class Stage:
    """One session, and its peer."""

    def __init__(self, sharing: Sharing) -> None:
        self.held = HeldBytes(HELD)
        self.peer = Player()
        self.member = Member(sharing, self.held.holding(""))
        self.member.peer = self.peer
        self.conversation = self.member.claim(self.another() if isinstance(sharing, Shared) else None)
        self.session = Session("id", self.member, self.conversation)

    def call(self, id: Any, progress: Any = None) -> Stream:
        """As server.py sends one."""
        params = {} if progress is None else {"_meta": {"progressToken": progress}}
        request = envelope.parse(as_text(id=id, method="tools/call", params=params), 9, 1000)
        assert isinstance(request, Request)
        stream = self.conversation.stream()
        call = self.conversation.call(request, stream)
        try:
            self.session.send(request)
        except NotRead as error:
            self.session.fail(call, str(error))
        return stream

    def another(self) -> Conversation:
        """That of a session of a shared child."""
        return conversation(held=self.held)

    def cancel(self, id: Any) -> None:
        params = {"requestId": id}
        self.session.send(envelope.parse(as_text(method="notifications/cancelled", params=params), 9, 1000))

    async def say(self, **members: Any) -> None:
        for message in read(as_text(**members)) or []:
            await self.member.receive(message)


def as_text(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


async def answer_in(stream: Stream) -> Any:
    async with asyncio.timeout(PATIENCE):
        text = await stream.next()
    return None if text is None else json.loads(text)


def pool_of(*players: Player, places: Places | None = None, **options: Any) -> Pool:
    """A pool that starts these, in their order."""
    following = iter(players)

    async def start(inbox: Inbox) -> Player:
        player = next(following)
        player.inbox = inbox
        return player

    return Pool("s", spec("good", **options), start, HeldBytes(HELD), places or Places(1000))


async def test_nothing_is_left_of_a_pool_that_was_replaced() -> None:
    player = Player()
    replaced = pool_of(player, idle_timeout=0.01, most=1)
    replaced.begin()
    await eventually(lambda: replaced._spare, "a spare child")
    replaced.retire()
    await eventually(lambda: not replaced._tasks._running, "its tasks are over")
    assert replaced.is_over


def initialize() -> Request:
    request = envelope.parse(as_text(id="i", method="initialize", params={}), 9, 1000)
    assert isinstance(request, Request)
    return request


async def opened(pool: Pool, player: Player) -> str:
    (id, _), _ = await asyncio.gather(pool.open(initialize()), player.answer())
    return id


@pytest.mark.parametrize("sharing", ["session", "shared"])
async def test_a_child_that_has_exited_is_no_use(sharing: str) -> None:
    first, second = Player(), Player()
    pool = pool_of(first, second, sharing=sharing, spares=0)
    id = await opened(pool, first)
    assert pool.session(id) is not None
    first.exit()
    assert pool.session(id) is None
    assert pool.session(await opened(pool, second)) is not None
    await pool.end()


@pytest.mark.parametrize("sharing", ["session", "shared"])
async def test_nobody_waits_for_the_answer_to_what_was_not_sent(sharing: str) -> None:
    """The child is ended, and the next one is asked."""
    first, second = Player(), Player()
    first.reads = False
    pool = pool_of(first, second, sharing=sharing, spares=0)
    with pytest.raises(McpError, match="does not read its input"):
        await pool.open(initialize())
    await eventually(first.ended.is_set, "the end of the first")
    assert pool.session(await opened(pool, second)) is not None
    await pool.end()


async def test_a_child_that_ends_before_it_is_asked_says_why() -> None:
    """It is not told to: that would be no failure of its own."""
    first, second = Player(), Player()
    first.ending_text = "ended with exit code 125: no daemon"
    pool = pool_of(first, second, spares=0)
    first.has_closed = True
    opening = asyncio.create_task(pool.open(initialize()))
    await eventually(lambda: first.refused, "it was to be asked")
    first.exit()
    first.ended.set()
    with pytest.raises(McpError, match="The server s ended with exit code 125: no daemon"):
        await opening
    assert not first.was_asked
    await pool.end()


async def test_a_child_that_closes_its_input_and_stays_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_extproc.bridge.pool._ENDING_SECONDS", 0.01)
    first = Player()
    first.has_closed = True
    pool = pool_of(first, spares=0)
    with pytest.raises(McpError, match="The server s has ended"):
        await pool.open(initialize())
    await eventually(first.ended.is_set, "its end")
    assert first.was_asked
    await pool.end()


async def test_a_spare_child_that_has_exited_is_not_handed_out() -> None:
    first, second = Player(), Player()
    pool = pool_of(first, second, spares=1, most=2)
    pool.begin()
    await eventually(lambda: pool._spare, "a spare child")
    first.exit()
    assert await opened(pool, second)
    await pool.end()


async def test_a_child_that_does_not_answer_fails_once() -> None:
    pool = pool_of(Player(), sharing="shared", spares=0, start_timeout=0.05, answer_within=20.0)
    answers = await asyncio.gather(*(pool.open(initialize()) for _ in range(5)), return_exceptions=True)
    assert all("has not answered within" in str(answer) for answer in answers)
    assert pool._backoff._failures == 1
    await pool.end()


async def test_who_waits_for_a_child_that_is_given_up_is_told_that() -> None:
    """And not how it was ended."""
    player = Player()
    player.ending_text = "ended with signal SIGTERM"
    pool = pool_of(player, sharing="shared", spares=0, start_timeout=60.0, answer_within=20.0)
    waiting = [asyncio.create_task(pool.open(initialize())) for _ in range(2)]
    await eventually(lambda: player.heard, "it is asked")
    [member] = pool._members
    await eventually(lambda: member.waiting == 2, "both wait")
    pool._give_up(member, "has not answered")
    for told in await asyncio.gather(*waiting, return_exceptions=True):
        assert "has not answered within 60 s" in str(told)
    await pool.end()


async def test_nobody_waits_for_a_server_that_failed_to_start_and_may_fail_again() -> None:
    """They are told why. It goes on starting, for whoever asks then."""
    dead, late = Player(), Player()
    dead.ending_text = "ended with exit code 1: no such package"
    dead.ended.set()
    pool = pool_of(dead, late, spares=0, longest_pause=0.0, doubted_within=0.0)
    with pytest.raises(McpError, match=r"ended with exit code 1: no such package$"):
        await pool.open(initialize())
    with pytest.raises(McpError, match=r"exit code 1: no such package; it is being started again$") as refused:
        await pool.open(initialize())
    assert BRIDGE_HEADER not in dict(refused.value.headers), "nobody waits for it to join"
    await late.answer()
    id, _ = await pool.open(initialize())
    assert pool.session(id) is not None
    await pool.end()


async def test_the_bridges_own_answer_to_initialize_is_an_error_of_its_own() -> None:
    """A server's own is the server's, and goes on as it is."""
    ours, theirs = Player(), Player()
    pool = pool_of(ours, theirs, spares=0)
    opening = asyncio.create_task(pool.open(initialize()))
    await ours.answer(error={"code": -32603, "message": "x"}, why="answered HTTP 500 to a message")
    with pytest.raises(McpError, match=r"^The server s answered HTTP 500 to a message$"):
        await opening
    opening = asyncio.create_task(pool.open(initialize()))
    await theirs.answer(error={"code": -32603, "message": "x"})
    assert json.loads((await opening)[1])["error"]["message"] == "x"
    await pool.end()


async def test_a_pause_is_said_in_whole_seconds() -> None:
    dead = Player()
    dead.ended.set()
    pool = pool_of(dead, spares=0)
    with pytest.raises(McpError):
        await pool.open(initialize())
    with pytest.raises(McpError, match=r"it is started again in 1 s$"):
        await pool.open(initialize())
    await pool.end()


async def test_a_child_that_worked_is_no_failure_in_a_row() -> None:
    failing, working = Player(), Player()
    pool = pool_of(failing, working, spares=0, longest_pause=0.0)
    failing.ended.set()
    with pytest.raises(McpError):
        await pool.open(initialize())
    await eventually(lambda: pool._backoff._failures, "a failure")
    session = pool.session(await opened(pool, working))
    assert session is not None
    pool.close(session)
    await eventually(lambda: not pool._backoff._failures, "failures that are over")
    await pool.end()


async def test_others_start_once_the_first_child_has_answered_though_nobody_waits_for_it() -> None:
    player = Player()
    pool = pool_of(player, spares=0, answer_within=0.01)
    with pytest.raises(McpError, match="still starting"):
        await pool.open(initialize())
    await player.answer()
    await eventually(pool._proven.is_set, "the server is known to answer")
    await pool.end()


async def test_a_cancellation_is_of_one_call_and_not_of_the_next_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_CANCELLED_SECONDS", 0.01)
    stage = Stage(Private(conversation()))
    first = stage.call(1)
    stage.cancel(1)
    await stage.say(id=1, result={"n": 1})
    assert (await answer_in(first))["result"] == {"n": 1}
    again, other = stage.call(1), stage.call(2)
    stage.cancel(2)
    # The time of the first cancellation was over before that of this one.
    assert await answer_in(other) is None
    await stage.say(id=1, result={"n": 2})
    assert (await answer_in(again))["result"] == {"n": 2}


async def test_a_late_answer_is_not_that_of_the_next_call_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_CANCELLED_SECONDS", 0.01)
    stage = Stage(Shared())
    cancelled = stage.call(1)
    stage.cancel(1)
    assert await answer_in(cancelled) is None
    again = stage.call(1)
    first, _, second = (heard.get("id") for heard in stage.peer.heard)
    await stage.say(id=first, result={"n": 1})
    await stage.say(id=second, result={"n": 2})
    assert (await answer_in(again))["result"] == {"n": 2}


async def test_a_client_that_does_not_read_holds_up_no_other_of_a_shared_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """It misses progress and changes, and has its answer all the same."""
    monkeypatch.setattr(pool, "_STREAM_BYTES", 1000)
    monkeypatch.setattr(pool, "_UNREAD_SECONDS", 3600.0)
    stage = Stage(Shared())
    other = stage.another()
    stage.member.claim(other)
    listening, reading = stage.conversation.stream(), other.stream()
    stage.conversation.listen(listening)
    other.listen(reading)
    call = stage.call(1, progress="t")
    async with asyncio.timeout(PATIENCE):
        for step in range(100):
            await stage.say(method="notifications/tools/list_changed", params={"_meta": "x" * 100})
            params = {"progressToken": 1, "progress": step, "message": "x" * 100}
            await stage.say(method="notifications/progress", params=params)
            assert (await answer_in(reading))["method"] == "notifications/tools/list_changed"
        await stage.say(id=1, result={"n": 1})
    assert 1000 < listening.size < 2000
    assert 1000 < call.size < 2000
    messages = [json.loads(text) for text in iter(call.take, None)]
    assert messages[-1]["result"] == {"n": 1}


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_STREAM_BYTES", 1000)
    monkeypatch.setattr(pool, "_UNREAD_SECONDS", 0.01)
    stage = Stage(Private(conversation()))
    listening, cut = stage.conversation.stream(), []
    listening.on_cut = lambda: cut.append(True)
    stage.conversation.listen(listening)
    await stage.say(method="notifications/tools/list_changed", params={"_meta": "x" * 2000})
    assert (cut, listening.ended, listening.size) == ([True], True, 0)


async def test_no_more_than_there_are_descriptors_for() -> None:
    places = Places(2 * spec("good").descriptors)
    first, second, third = Player(), Player(), Player()
    pool = pool_of(first, second, third, places=places, spares=0)
    session = pool.session(await opened(pool, first))
    assert session is not None
    await opened(pool, second)
    with pytest.raises(McpError, match="The server s can't be started: the bridge has as many files"):
        await pool.open(initialize())
    pool.close(session)
    await eventually(lambda: places._left, "a place")
    await opened(pool, third)
    await pool.end()


async def test_calls_that_a_shared_child_does_not_read_are_not_kept() -> None:
    shared = Shared()
    stage = Stage(shared)
    stage.peer.reads = False
    for _ in range(10):
        assert (await answer_in(stage.call(1)))["error"]["message"] == "does not read its input"
    assert not shared._asked
    assert not shared._ours
