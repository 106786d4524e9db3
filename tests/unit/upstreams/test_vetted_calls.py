"""Calls that wait: what is given to the client, who may end the wait, and what is held meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.gateway.effects import AnswerQuestion, WithdrawCall
from mcp_extproc.gateway.relay.identifiers import Asked
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests.vetted import VettedCall, read
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.gateway.vetting.told import Told
from mcp_extproc.held import HeldBytes
from mcp_extproc.upstreams import vetted_calls as module
from mcp_extproc.upstreams.handover import Handover
from mcp_extproc.upstreams.vetted_calls import MAX_WAITING, VettedCalls, VettedStream
from tests.support.front_door import RESULT, FrontDoor, front_door
from tests.support.vetted import vetted_calls
from tests.support.waiting import eventually
from tests.unit.gateway.support import HEADERS, Rig, config, message

RIG = Rig(config(vetting=[{}], limits={"response_bytes": 4000, "event_bytes": 4000}))
IDENTIFIERS = RIG.gateway.identifiers


def call(id: Any = 1, *, caller: str = "s", seconds: float = 60.0, size: int = 0, **told: Any) -> VettedCall:
    about = Told(caller, "a", "delete", b'"a__delete"', seconds, **told)
    body = message("tools/call", {"name": "delete", "arguments": {"filler": "x" * size}}, id)
    return read(RequestHead("POST", "/mcp", HEADERS), about, body, IDENTIFIERS)


@asynccontextmanager
async def worker(door: FrontDoor | None = None, held: int = 1 << 20) -> AsyncIterator[tuple[VettedCalls, HeldBytes]]:
    room = HeldBytes(held)
    async with front_door(door or FrontDoor(), RIG.config.limits) as batches:
        yield vetted_calls(RIG.gateway, batches, held=room), room


async def following(stream: VettedStream) -> dict[str, Any]:
    """The next message."""
    async with asyncio.timeout(20):
        chunk = await anext(aiter(stream.chunks))
    parsed: dict[str, Any] = json.loads(chunk.removeprefix(b"data: "))
    return parsed


async def asked(stream: VettedStream, caller: str = "s") -> Asked:
    question = await following(stream)
    found = IDENTIFIERS.asked(caller, json.dumps(question["id"]).encode())
    assert found is not None
    return found


async def rest(stream: VettedStream) -> bytes:
    async with asyncio.timeout(20):
        return b"".join([chunk async for chunk in stream.chunks])


@contextmanager
def no_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(module, "HEARTBEAT_SECONDS", 0.001)
        yield


async def test_consent_runs_the_call_once() -> None:
    door = FrontDoor()
    async with worker(door) as (calls, held):
        async with calls.open(call()) as stream:
            question = await asked(stream)
            assert not door.bodies
            assert held.of("s") > 0
            for _ in range(2):
                calls.apply(AnswerQuestion(question, Verdict.GIVEN))
            assert await rest(stream) == b"data: %b\n\n" % RESULT
            assert stream.facts == {"consent": "given"}
        calls.apply(AnswerQuestion(question, Verdict.GIVEN))
        assert held.total == 0
    [headers] = door.headers
    consent = IDENTIFIERS.consented("s", headers["x-mcp-consent"])
    assert consent is not None
    assert (consent.server, consent.tool, consent.question) == ("a", "delete", question.question)


@pytest.mark.parametrize("verdict", [Verdict.DECLINED, Verdict.CANCELLED, Verdict.FAILED, Verdict.INVALID])
async def test_everything_else_is_an_error(verdict: Verdict) -> None:
    door = FrontDoor()
    async with worker(door) as (calls, _):
        async with calls.open(call()) as stream:
            calls.apply(AnswerQuestion(await asked(stream), verdict))
            error = await following(stream)
            assert error["error"]["data"] == {"reason": f"consent_{verdict.value}"}
            assert await rest(stream) == b""
            assert stream.facts["consent"] == verdict.value
            assert stream.facts["error_reason"] == f"consent_{verdict.value}"
    assert not door.bodies


async def test_the_wait_ends_by_itself() -> None:
    async with worker() as (calls, _):
        async with calls.open(call(seconds=0.001)) as stream:
            question = await following(stream)
            assert (await following(stream))["params"]["requestId"] == question["id"]
            assert (await following(stream))["error"]["data"] == {"reason": "consent_timeout"}


async def test_a_client_ends_its_own_waits_only() -> None:
    async with worker() as (calls, _):
        async with calls.open(call("1")) as one, calls.open(call(1)) as two, calls.open(call("1", caller="t")) as three:
            for stream, caller in ((one, "s"), (two, "s"), (three, "t")):
                await asked(stream, caller)
            calls.apply(WithdrawCall("s", b'"1"'))
            assert (await following(one))["method"] == "notifications/cancelled"
            assert (await following(one))["error"]["data"] == {"reason": "consent_withdrawn"}
            calls.end("s")
            await following(two)
            assert (await following(two))["error"]["data"] == {"reason": "consent_withdrawn"}
            calls.close()
            await following(three)
            assert (await following(three))["error"]["data"] == {"reason": "consent_closed"}
        async with calls.open(call()) as stream:
            assert (await following(stream))["error"]["data"] == {"reason": "consent_closed"}


async def test_a_client_that_leaves_runs_nothing() -> None:
    door = FrontDoor()
    async with worker(door) as (calls, held):
        async with calls.open(call()) as stream:
            question = await asked(stream)
        assert (held.total, calls._waiting) == (0, {})
        calls.apply(AnswerQuestion(question, Verdict.GIVEN))
        # What is asked next is the first to run.
        async with calls.open(call("next")) as stream:
            calls.apply(AnswerQuestion(await asked(stream), Verdict.GIVEN))
            await rest(stream)
    assert [json.loads(body)["id"] for body in door.bodies] == ["next"]


async def test_a_client_that_leaves_ends_its_call() -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    door = FrontDoor(hang)
    async with worker(door) as (calls, held):
        async with calls.open(call()) as stream:
            calls.apply(AnswerQuestion(await asked(stream), Verdict.GIVEN))
            waiting = asyncio.create_task(following(stream))
            await eventually(lambda: door.bodies, "the call runs")
            waiting.cancel()
            await asyncio.wait({waiting})
        await asyncio.wait_for(door.left.wait(), 20)
        assert held.total == 0


async def test_waiting_calls_are_bounded_in_number() -> None:
    async with worker(held=64 << 20) as (calls, _), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(calls.open(call(number))) for number in range(MAX_WAITING)]
        for stream in streams:
            await asked(stream)
        async with calls.open(call("more")) as stream:
            assert (await following(stream))["error"]["data"] == {"reason": "consent_busy"}
        async with calls.open(call("other", caller="t")) as stream:
            await asked(stream, "t")
        calls.apply(WithdrawCall("s", b"0"))
        await following(streams[0])
        async with calls.open(call("then")) as stream:
            await asked(stream)


async def test_waiting_calls_are_bounded_in_bytes() -> None:
    """By what one who calls may hold: others have room."""
    async with worker(held=800_000) as (calls, held):
        async with calls.open(call(size=50_000)) as one, calls.open(call(2, size=50_000)) as two:
            await asked(one)
            assert (await following(two))["error"]["data"] == {"reason": "consent_busy"}
            assert two.facts["consent"] == "busy"
            async with calls.open(call(3, caller="t", size=50_000)) as three:
                await asked(three, "t")
        assert held.total == 0


async def test_remembered_consent() -> None:
    async with worker() as (calls, _):
        for remembers in (False, True):
            async with calls.open(call(caller="r", remembers=remembers)) as stream:
                calls.apply(AnswerQuestion(await asked(stream, "r"), Verdict.GIVEN))
                await rest(stream)
            assert RIG.memory.has_consent("r", "a", "delete") is remembers
        async with calls.open(call(caller="d", remembers=True)) as stream:
            calls.apply(AnswerQuestion(await asked(stream, "d"), Verdict.DECLINED))
            await rest(stream)
        assert not RIG.memory.has_consent("d", "a", "delete")


async def test_who_passes_once_more_is_not_asked_twice() -> None:
    door = FrontDoor()
    async with worker(door) as (calls, _):
        async with calls.open(call(asks=False, mark=("x-mcp-owner", "sealed"))) as stream:
            assert await following(stream) == json.loads(RESULT)
            assert stream.facts == {}
    assert door.headers[0]["x-mcp-owner"] == "sealed"
    assert "x-mcp-consent" not in door.headers[0]


async def streaming(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: 1\n\ndata: ")
    await response.write(b"2\n\n")
    return response


async def test_an_event_stream_passes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker(FrontDoor(streaming)) as (calls, _):
        with no_wait(monkeypatch):
            async with calls.open(call(asks=False)) as stream:
                text = await rest(stream)
    assert [block for block in text.split(b"\n\n") if block not in (b"", b":")] == [b"data: 1", b"data: 2"]


async def test_no_comment_parts_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for piece in (b"data: 1\n\ndata: ", b"2\n\n", b""):
            yield piece
            for _ in range(50):  # whoever waits for no time at all has done so many times by then
                await asyncio.sleep(0)

    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0)
    text = b"".join([piece async for piece in module._kept_alive(pieces())])
    assert text.startswith(b"data: 1\n\ndata: 2\n\n:\n\n")


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker() as (calls, _):
        with no_wait(monkeypatch):
            async with calls.open(call()) as stream:
                question = await asked(stream)
                for _ in range(3):
                    assert await anext(aiter(stream.chunks)) == b":\n\n"
                calls.apply(AnswerQuestion(question, Verdict.DECLINED))
                assert b"consent_declined" in await rest(stream)


async def test_a_stream_ends_where_it_is_too_long() -> None:
    async def long(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"data: %b\n\n" % (b"x" * 100))
        return response

    async with worker(FrontDoor(long)) as (calls, _):
        async with calls.open(call(asks=False)) as stream:
            text = await rest(stream)
    last = json.loads(text.removesuffix(b"\n\n").rpartition(b"data: ")[2])
    assert "limits.response_bytes" in last["error"]["message"]
    assert len(text) < 5000


async def test_a_front_door_that_fails_is_an_error() -> None:
    calls = vetted_calls(RIG.gateway)
    async with calls.open(call(asks=False)) as stream:
        assert "No answer" in (await following(stream))["error"]["message"]


async def test_an_answer_that_reached_another_worker_is_handed_over() -> None:
    door = FrontDoor()
    with TemporaryDirectory(prefix="mcp") as folder:
        mine, other = (Handover(Path(folder), IDENTIFIERS) for _ in range(2))
        async with front_door(door, RIG.config.limits) as batches:
            calls = vetted_calls(RIG.gateway, batches, mine)
            others = vetted_calls(RIG.gateway, batches, other)
            mine.start()
            other.start()
            async with calls.open(call()) as stream:
                others.apply(AnswerQuestion(await asked(stream), Verdict.GIVEN))
                assert await following(stream) == json.loads(RESULT)
            async with calls.open(call()) as stream:
                others.apply(AnswerQuestion(await asked(stream), Verdict.DECLINED))
                assert (await following(stream))["error"]["data"] == {"reason": "consent_declined"}
        mine.close()
        other.close()
    assert len(door.bodies) == 1
