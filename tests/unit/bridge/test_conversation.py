"""Which stream a message goes to. Everything here is a value."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest

from mcp_extproc.bridge import conversation as conversation_module
from mcp_extproc.bridge.conversation import MAX_CALLS, Stream
from mcp_extproc.bridge.messages import Incoming, read
from mcp_extproc.held import HeldBytes
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError
from tests.support.waiting import PATIENCE
from tests.unit.bridge.support import HELD, conversation


def message(**members: Any) -> Incoming:
    [found] = read(json.dumps({"jsonrpc": "2.0", **members}).encode()) or []
    return found


def request(id: Any, token: Any = None, method: str = "tools/call") -> Request:
    params = {} if token is None else {"_meta": {"progressToken": token}}
    found = envelope.parse(
        json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode(), 9, 1000
    )
    assert isinstance(found, Request)
    return found


def log(text: str) -> Incoming:
    return message(method="notifications/message", params={"data": text})


def progress(token: Any) -> Incoming:
    return message(method="notifications/progress", params={"progressToken": token, "progress": 1})


def taken(stream: Stream) -> list[bytes]:
    found = []
    while (text := stream.take()) is not None:
        found.append(text)
    return found


class Stage:
    def __init__(self, waiting_bytes: int = 10_000) -> None:
        self.held = HeldBytes(HELD)
        self.conversation = conversation(waiting_bytes, self.held)

    def call(self, id: Any, token: Any = None, method: str = "tools/call") -> Stream:
        stream = self.conversation.stream()
        self.conversation.call(request(id, token, method), stream)
        return stream

    def listen(self) -> Stream:
        stream = self.conversation.stream()
        self.conversation.listen(stream)
        return stream

    def say(self, *messages: Incoming) -> list[bytes]:
        return [answer for one in messages for answer in self.conversation.receive(one)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_answers_go_to_their_calls(stage: Stage) -> None:
    first, second = stage.call(1), stage.call("1")
    to_second, to_first = message(id="1", result={"b": 1}), message(id=1, result={"a": 1})
    stage.say(to_second, to_first)
    assert (taken(first), taken(second)) == ([to_first.text], [to_second.text])
    assert (first.ended, second.ended) == (True, True)
    assert not stage.conversation.is_used


def test_progress_goes_to_its_call_and_the_rest_to_the_common_stream(stage: Stage) -> None:
    common, first, second = stage.listen(), stage.call(1, 0), stage.call(2, "0")
    question = message(id=1, method="sampling/createMessage")
    changed = message(method="notifications/tools/list_changed")
    said = [progress(0), progress("0"), changed, question, progress("nobody's")]
    stage.say(*said)
    assert taken(first) == [said[0].text]
    assert taken(second) == [said[1].text]
    assert taken(common) == [said[2].text, question.text]


def test_log_messages_go_to_a_running_call_so_that_its_result_does_not_overtake_them(stage: Stage) -> None:
    common, listing, call = stage.listen(), stage.call(1, method="tools/list"), stage.call(2)
    before, result, after = log("before"), message(id=2, result={}), log("after")
    stage.say(before, result, after)
    assert taken(call) == [before.text, result.text]
    assert taken(common) == [after.text]
    assert taken(listing) == []


def test_without_a_common_stream_a_running_call_has_it(stage: Stage) -> None:
    call = stage.call(1)
    told = log("x")
    stage.say(told)
    assert taken(call) == [told.text]


def test_a_list_has_nothing_of_others_until_it_takes_long(stage: Stage) -> None:
    """It may be the gateway's own, where the client sees nothing of it."""
    listing = stage.conversation.stream()
    call = stage.conversation.call(request(1, method="tools/list"), listing)
    question, told = message(id="q", method="roots/list"), log("x")
    assert stage.say(question, told) == []
    assert taken(listing) == []
    common = stage.listen()
    assert taken(common) == [question.text, told.text]
    stage.conversation.leave(common)
    assert stage.say(question, told) == []
    stage.conversation.lend(call)
    assert taken(listing) == [question.text], "the server may be waiting for the answer"
    stage.say(told, question)
    assert taken(listing) == [question.text]
    assert taken(stage.listen()) == [told.text, told.text]


def test_a_list_that_takes_long_has_nothing_that_the_client_would_see_elsewhere(stage: Stage) -> None:
    listing, told, question = stage.conversation.stream(), log("x"), message(id="q", method="elicitation/create")
    stage.conversation.lend(stage.conversation.call(request(1, method="tools/list"), listing))
    own = stage.call(2)
    stage.say(told, question)
    assert (taken(own), taken(listing)) == ([told.text, question.text], [])
    common = stage.listen()
    stage.say(question)
    assert (taken(common), taken(listing)) == ([question.text], [])


def test_a_list_that_takes_long_has_nothing_of_before(stage: Stage) -> None:
    """It waits for the client's stream, as it did: what the list is about comes later."""
    before, after = message(id="q", method="roots/list"), message(id="r", method="roots/list")
    stage.say(before)
    listing = stage.conversation.stream()
    call = stage.conversation.call(request(1, method="tools/list"), listing)
    stage.say(after)
    stage.conversation.lend(call)
    assert taken(listing) == [after.text]
    assert taken(stage.listen()) == [before.text]


def test_the_newest_stream_has_it_and_the_one_before_follows(stage: Stage) -> None:
    older, newer = stage.listen(), stage.listen()
    stage.say(log("1"))
    assert len(taken(newer)) == 1
    stage.conversation.leave(newer)
    stage.say(log("2"))
    assert len(taken(older)) == 1


def test_what_comes_too_early_waits(stage: Stage) -> None:
    early = [log("1"), message(id=1, method="ping")]
    assert stage.say(*early) == []
    assert taken(stage.listen()) == [one.text for one in early]
    stage.conversation.stop_listening()
    stage.say(*early)
    assert taken(stage.call(1)) == [one.text for one in early]


def test_what_waits_is_bounded_and_questions_are_answered() -> None:
    stage = Stage(waiting_bytes=500)
    assert stage.say(message(id="q", method="roots/list")) == []
    [answer] = stage.say(*(log("x" * 100) for _ in range(10)))
    assert json.loads(answer)["id"] == "q"
    assert json.loads(answer)["error"]["code"] == -32601
    kept = taken(stage.listen())
    assert 0 < sum(map(len, kept)) <= 500
    assert stage.held.total == 0
    assert stage.conversation.dropped == 11 - len(kept)


def test_an_id_is_read_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it goes is asked before it is sent there, and its id may be long."""
    call = stage.call(1, token="t")
    told = [message(method="notifications/progress", params={"progressToken": "t"}), message(id=1, result={})]
    monkeypatch.delattr(conversation_module, "key_of")
    for one in told:
        assert stage.conversation.destination(one) is call
        assert stage.say(one) == []
    assert taken(call) == [one.text for one in told]


def test_how_many_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "_MAX_WAITING", 3)
    stage = Stage()
    said = [log(str(number)) for number in range(5)]
    stage.say(*said)
    assert taken(stage.listen()) == [one.text for one in said[2:]]


def test_what_waits_takes_no_more_than_is_counted() -> None:
    """However many members a message has."""
    stage = Stage(waiting_bytes=1 << 24)
    members = {f"m{number}": 0 for number in range(990)}
    tracemalloc.start()
    try:
        stage.say(*(message(method="notifications/x", **members) for _ in range(100)))
        taken_up, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stage.held.total > 500_000
    assert taken_up < 2 * stage.held.total


def test_a_client_that_left_does_not_cancel(stage: Stage) -> None:
    call = stage.call(1, "t")
    stage.conversation.leave(call)
    assert not stage.conversation.is_used
    with pytest.raises(McpError, match="not answered yet"):
        stage.call(1)
    stage.say(progress("t"), message(id=1, result={}))
    assert taken(call) == []
    again = stage.call(1)
    stage.say(message(id=1, result={}))
    assert len(taken(again)) == 1


def test_answers_to_nobody_are_dropped(stage: Stage) -> None:
    common = stage.listen()
    assert stage.say(message(id=9, result={}), message(id=9, error={"code": 1, "message": ""})) == []
    assert taken(common) == []


def test_calls_are_bounded(stage: Stage) -> None:
    for id in range(MAX_CALLS):
        stage.call(id)
    with pytest.raises(McpError, match=f"More than {MAX_CALLS}"):
        stage.call("one more")


def test_the_end(stage: Stage) -> None:
    common, call = stage.listen(), stage.call("x")
    stage.conversation.end("It is gone.")
    [text] = taken(call)
    assert json.loads(text) == {"jsonrpc": "2.0", "id": "x", "error": {"code": -32603, "message": "It is gone."}}
    assert call.has_failed
    assert (common.ended, call.ended, stage.conversation.is_used) == (True, True, False)


def test_a_token_given_twice_is_the_later_calls(stage: Stage) -> None:
    first, second = stage.call(1, "t"), stage.call(2, "t")
    stage.say(message(id=1, result={}), progress("t"))
    assert (len(taken(first)), len(taken(second))) == (1, 1)


@pytest.mark.parametrize("is_call", [True, False])
async def test_nobody_waits_for_room_in_a_stream_that_nobody_reads(stage: Stage, is_call: bool) -> None:
    stream = stage.call(1) if is_call else stage.listen()
    stage.say(log("x" * 100))
    waiting = asyncio.create_task(stream.room(10))
    await asyncio.sleep(0)
    stage.conversation.leave(stream)
    async with asyncio.timeout(PATIENCE):
        await waiting


async def test_taking_waits(stage: Stage) -> None:
    stream = stage.listen()
    stream.put(b"a")
    assert await stream.next() == b"a"
    stream.end()
    assert await stream.next() is None
    await stream.room(0)


def test_what_is_held_is_counted_until_it_is_written(stage: Stage) -> None:
    told, answer = log("x"), message(id=1, result={})
    assert stage.say(told) == []
    assert stage.held.total == len(told.text)
    call = stage.call(1)
    stage.say(answer)
    assert stage.held.total == call.size == len(told.text) + len(answer.text)
    assert call.take() == told.text
    assert stage.held.total == len(told.text) + len(answer.text)
    assert call.take() == answer.text
    assert stage.held.total == len(answer.text)
    stage.conversation.leave(call)
    assert stage.held.total == 0


def test_answers_that_nobody_reads_are_bounded() -> None:
    """Over the session's share of what may be held, a call fails; others have room."""
    held = HeldBytes(1 << 20)
    greedy, other = conversation(1 << 20, held, "greedy"), conversation(1 << 20, held, "other")
    large = message(id=1, result={"x": "x" * 100_000})
    answers = []
    for _ in range(5):
        answers.append(greedy.stream())
        greedy.call(request(1), answers[-1])
        greedy.receive(large)
    texts = [taken(one) for one in answers]
    assert texts[:2] == [[large.text], [large.text]]
    for [text] in texts[2:]:
        error = json.loads(text)["error"]["message"]
        assert error.startswith("The server's answer was not kept:")
        assert "limits.held_bytes" in error
    stream = other.stream()
    other.call(request(1), stream)
    other.receive(large)
    assert taken(stream) == [large.text]


def test_what_waits_gives_way_where_there_is_no_room() -> None:
    held = HeldBytes(1 << 20)
    session = conversation(1 << 20, held)
    large = [message(id=number, method="roots/list", params={"x": "x" * 100_000}) for number in range(4)]
    answered = [json.loads(text)["id"] for one in large for text in session.receive(one)]
    assert answered == [0, 1]
    assert held.total == sum(len(one.text) for one in large[2:])
    session.end("It is gone.")
    assert held.total == 0


def test_what_has_waited_is_not_lost_where_others_hold_all_there_is() -> None:
    """A question without an answer would keep the server waiting."""
    held = HeldBytes(1 << 20)
    session = conversation(1 << 20, held)
    question = message(id="q", method="elicitation/create", params={"message": "x" * 100_000})
    assert session.receive(question) == []
    number = 0
    while held.holding(f"little {number}").part().keep(1 << 12):
        number += 1
    stream = session.stream()
    session.listen(stream)
    assert held.of("") == stream.size == len(question.text)
    assert taken(stream) == [question.text]
    assert held.of("") == 0


def test_a_stream_that_is_cut_holds_nothing(stage: Stage) -> None:
    stream = stage.listen()
    cut = []
    stream.on_cut = lambda: cut.append(True)
    stage.say(message(method="notifications/tools/list_changed"))
    assert stream.take() is not None
    stream.cut()
    assert (stage.held.total, stream.take(), cut) == (0, None, [True])


def test_a_call_that_nobody_waits_for_ends_without_an_answer(stage: Stage) -> None:
    stream = stage.conversation.stream()
    call = stage.conversation.call(request(1), stream)
    stage.conversation.forget(call)
    assert (stream.ended, stream.take()) == (True, None)
    stage.say(message(id=1, result={}))
    assert stream.take() is None


def test_an_answer_has_the_room_of_what_nobody_listens_to() -> None:
    stage = Stage(waiting_bytes=1 << 20)
    stage.held = HeldBytes(400_000)
    stage.conversation = conversation(1 << 20, stage.held)
    listing = stage.call(1, method="tools/list")
    for _ in range(20):
        stage.say(log("x" * 10_000))
    large = message(id=1, result={"tools": "x" * 60_000})
    stage.say(large)
    assert taken(listing) == [large.text]
    assert stage.conversation.dropped > 0
