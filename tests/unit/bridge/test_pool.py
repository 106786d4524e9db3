"""Sessions and their processes, with a peer that the test plays. Real children: test_server.py."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mcp_extproc.bridge import pool
from mcp_extproc.bridge.conversation import Conversation, Stream
from mcp_extproc.bridge.messages import read
from mcp_extproc.bridge.peer import NotRead, Receive
from mcp_extproc.bridge.pool import Pool, Process, Session
from mcp_extproc.bridge.sharing import Private, Shared, Sharing
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.envelope import Request
from tests.support.waiting import PATIENCE, eventually
from tests.unit.bridge.support import spec


class Player:
    """A peer that hears what the test reads, and says what the test writes."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.reads = True
        self.ended = asyncio.Event()
        self.ending_text = ""
        self.was_asked = False
        self.receive: Receive

    def write(self, message: bytes) -> None:
        if not self.reads:
            raise NotRead("does not read its input")
        self.heard.append(json.loads(message))

    async def end(self) -> None:
        self.was_asked = True
        self.ended.set()


class Stage:
    """One session, and its peer."""

    def __init__(self, sharing: Sharing) -> None:
        self.process = Process(sharing)
        self.process.child = self.peer = Player()
        self.conversation = self.process.conversation(10_000)
        self.session = Session("id", self.process, self.conversation)

    def call(self, id: Any) -> Stream:
        """As server.py sends one."""
        request = envelope.parse(as_text(id=id, method="tools/call", params={}), 9, 1000)
        assert isinstance(request, Request)
        stream = Stream()
        call = self.conversation.call(request, stream)
        try:
            self.session.send(request)
        except NotRead as error:
            self.session.fail(call, str(error))
        return stream

    def cancel(self, id: Any) -> None:
        params = {"requestId": id}
        self.session.send(envelope.parse(as_text(method="notifications/cancelled", params=params), 9, 1000))

    async def say(self, **members: Any) -> None:
        for message in read(as_text(**members)) or []:
            await self.process.receive(message)


def as_text(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


async def answer_in(stream: Stream) -> Any:
    async with asyncio.timeout(PATIENCE):
        text = await stream.next()
    return None if text is None else json.loads(text)


def pool_of(player: Player, **options: Any) -> Pool:
    async def start(receive: Receive) -> Player:
        player.receive = receive
        return player

    return Pool("s", spec("good", **options), start)


async def test_nothing_is_left_of_a_pool_that_was_replaced() -> None:
    player = Player()
    replaced = pool_of(player, idle_timeout=0.01, max_processes=1)
    replaced.begin()
    await eventually(lambda: replaced._spare, "a spare child")
    replaced.retire()
    await eventually(lambda: not replaced._tasks._running, "its tasks are over")
    assert replaced.is_over


async def test_a_cancellation_is_of_one_call_and_not_of_the_next_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_CANCELLED_SECONDS", 0.01)
    stage = Stage(Private(Conversation(10_000)))
    first = stage.call(1)
    stage.cancel(1)
    await stage.say(id=1, result={"n": 1})
    assert (await answer_in(first))["result"] == {"n": 1}
    again, other = stage.call(1), stage.call(2)
    stage.cancel(2)
    # The time of the first cancellation was over before that of this one.
    assert (await answer_in(other))["error"]["message"] == "The call was cancelled."
    await stage.say(id=1, result={"n": 2})
    assert (await answer_in(again))["result"] == {"n": 2}


async def test_a_late_answer_is_not_that_of_the_next_call_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_CANCELLED_SECONDS", 0.01)
    stage = Stage(Shared())
    cancelled = stage.call(1)
    stage.cancel(1)
    assert "error" in await answer_in(cancelled)
    again = stage.call(1)
    first, _, second = (heard.get("id") for heard in stage.peer.heard)
    await stage.say(id=first, result={"n": 1})
    await stage.say(id=second, result={"n": 2})
    assert (await answer_in(again))["result"] == {"n": 2}


async def test_calls_that_a_shared_child_does_not_read_are_not_kept() -> None:
    shared = Shared()
    stage = Stage(shared)
    stage.peer.reads = False
    for _ in range(10):
        assert (await answer_in(stage.call(1)))["error"]["message"] == "does not read its input"
    assert not shared._asked
    assert not shared._ours
