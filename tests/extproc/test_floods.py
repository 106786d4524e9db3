"""What one client or server can make a worker do or hold, while others are served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.exchange import Exchange
from mcp_extproc.gateway.legs import Listed
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.upstreams.fan_out import LegRunner
from tests.extproc import rig as rigs
from tests.extproc.rig import WEATHER, Rig, Transport, call, real_legs
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    RawExchange,
    ReadPieces,
    body_message,
    common,
    error_of,
    facts,
    header_map,
    headers_message,
    kind,
    rpc,
)
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import eventually

LIST = rpc("tools/list")

# Code as a text: 4 MiB with far more commas and brackets in strings than may be in a message outside of them.
LARGE = call(text="f(a, [b, {c}])," * 250_000)


def answers_to(exchange: Exchange, body: bytes) -> Any:
    return exchange.receive(body_message(body).SerializeToString())


def asked(rig: Rig[Any]) -> Exchange:
    """An exchange, without a transport, whose body was ordered."""
    exchange = rig.processor.exchange()
    exchange.receive(headers_message(rig.fields()).SerializeToString())
    return exchange


@pytest.fixture
async def large(transport: Transport) -> AsyncIterator[Rig[FakeUpstreams]]:
    """A rig that takes bodies of 4 MiB."""
    async with rigs.rig(transport, rigs.fakes, rigs.configuration(limits={"request_bytes": 4 << 20})) as running:
        yield running


# -- Bodies ---------------------------------------------------------------------------------------------------------------


async def test_others_are_answered_while_a_large_body_is_checked(large: Rig[FakeUpstreams]) -> None:
    slow, quick = asked(large), asked(large)
    answers = answers_to(slow, LARGE)
    assert isinstance(answers, AsyncGenerator)
    first = asyncio.ensure_future(anext(answers))
    await asyncio.sleep(0)  # one slice
    assert isinstance(answers_to(quick, call()), list)
    assert quick.decided
    assert not first.done()
    body = common(pb.ProcessingResponse.FromString(await first)).body_mutation.body
    assert body == LARGE.replace(b"gh__", b"")
    with pytest.raises(StopAsyncIteration):
        await anext(answers)


async def test_a_large_body_is_forwarded_like_a_small_one(large: Rig[FakeUpstreams]) -> None:
    exchange = await large.posted(LARGE)
    assert common(await exchange.receive()).body_mutation.body == LARGE.replace(b"gh__", b"")
    assert (await exchange.end()).name == "OK"


async def test_a_large_body_may_end_in_a_fan_out(large: Rig[FakeUpstreams]) -> None:
    exchange = await large.waiting(rpc("tools/list", {"_meta": {"text": "[,{" * 200_000}}))
    (await large.upstreams.next_run()).outcome.set_result([Listed("github", ()), Listed("weather", ())])
    assert json.loads((await exchange.receive()).immediate_response.body)["result"] == {"tools": []}
    assert (await exchange.end()).name == "OK"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (call(a=[1] * 200_000), "it has more than 100000 members (limits.json_members)"),
        (b"[%b]" % b",".join([call(a=[1] * 60_000)] * 2), "it has more than 100000 members (limits.json_members)"),
        (rpc("tools/call", {f"k{n}": 1 for n in range(1001)}), '"params" is an object with more than 1000 members'),
        (rpc("tools/call", {"name": "gh__x", "_meta": {f"k{n}": 1 for n in range(1001)}}), '"_meta" is an object'),
        (json.dumps({f"k{n}": 1 for n in range(1001)}).encode(), "it is an object with more than 1000 members"),
    ],
    ids=["arguments", "batch", "params", "meta", "message"],
)
async def test_too_many_members_are_refused(large: Rig[FakeUpstreams], body: bytes, message: str) -> None:
    exchange = await large.posted(body)
    answer = await exchange.receive()
    assert message in error_of(answer)["error"]["message"]
    assert (error_of(answer)["error"]["code"], answer.immediate_response.status.code) == (-32600, 400)
    assert facts(answer)["error_reason"] == "too_many_members"
    await large.serves()


async def test_others_are_answered_while_lists_are_merged(rig: Rig[FakeUpstreams]) -> None:
    slow, quick = asked(rig), asked(rig)
    answers = answers_to(slow, LIST)
    await anext(answers)
    answer = asyncio.ensure_future(anext(answers))
    work = await rig.upstreams.next_run()
    entries = [msgspec.Raw(b'{"name":"t%d","d":"%s"}' % (n, b"x" * 500)) for n in range(2000)]
    work.outcome.set_result([Listed("github", entries), Listed("weather", entries)])
    await work.ended.wait()
    await asyncio.sleep(0)  # one slice
    assert isinstance(answers_to(quick, call()), list)
    assert not answer.done()
    body = json.loads(pb.ProcessingResponse.FromString(await answer).immediate_response.body)
    assert len(body["result"]["tools"]) == 4000
    await answers.aclose()


# -- What is held -----------------------------------------------------------------------------------------------------------


class Slow:
    """A list of a megabyte that is sent in two halves: the second one when the test says so."""

    def __init__(self) -> None:
        entries = [tool(f"t{number}", filler="x" * 1000) for number in range(1000)]
        self._text = json.dumps(entries)
        self.gate = asyncio.Event()
        self.half_sent = 0

    async def __call__(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        text = f'{{"jsonrpc":"2.0","id":{json.dumps(message["id"])},"result":{{"tools":{self._text}}}}}'.encode()
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        await response.write(text[: len(text) // 2])
        self.half_sent += 1
        await self.gate.wait()
        await response.write(text[len(text) // 2 :])
        return response


MIB = 1 << 20
ONE = {"servers": {"github": {"url": "http://github.test/mcp", "prefix": "gh", "discovery_timeout": "30s"}}}


def budget(most: int) -> Any:
    return rigs.configuration(**ONE, limits={"held_bytes": most})


def fields(rig: Rig[Any], session: str) -> Any:
    """Of a client with a session of its own."""
    return rig.fields(mcp_session_id=rig.token(github=UpstreamSession("2025-11-25", session, frozenset({"tools"}))))


async def listing(rig: Rig[LegRunner], head: Any) -> Any:
    """A list's answer."""
    exchange = await rig.asked(head)
    await exchange.send_body(LIST)
    await exchange.receive()
    answer = json.loads((await exchange.receive()).immediate_response.body)
    await exchange.end()
    return answer


async def test_a_flood_of_lists_is_bounded_and_others_are_served(transport: Transport) -> None:
    """One session asks for twenty lists of a megabyte at once, where all may hold eight."""
    slow = Slow()
    server = ScriptedServer(stateless=True)
    async with server, real_legs(transport, server, budget(8 * MIB)) as rig:
        server.on["tools/list"] = slow
        held, flood_head, other = rig.upstreams.held, fields(rig, "flood"), fields(rig, "other")
        flood = [asyncio.ensure_future(listing(rig, flood_head)) for _ in range(20)]
        # All of the quarter is taken: more was refused, or waits.
        await eventually(lambda: held.total, "the share is used up", until=lambda total: total > 2 * MIB - 600_000)
        assert held.total <= 2 * MIB

        exchange = await rig.posted(call(), other)
        assert kind(await exchange.receive()) == "request_headers", "another client's call"
        del server.on["tools/list"]
        assert [one["name"] for one in (await listing(rig, other))["result"]["tools"]] == ["gh__echo"]

        slow.gate.set()
        answers = await asyncio.gather(*flood)
        refused = [answer["error"] for answer in answers if "error" in answer]
        assert 0 < len(refused) < len(answers), "what is given up leaves room for the rest"
        assert {error["code"] for error in refused} == {-32603}
        assert all("busy" in error["message"] and "limits.held_bytes" in error["message"] for error in refused)
        await eventually(lambda: held.total, "all is given back", until=lambda total: total == 0)


async def test_lists_wait_for_room_that_are_known_to_be_large(transport: Transport) -> None:
    """The second time it is known how much has to be held, so nobody is refused."""
    slow = Slow()
    slow.gate.set()
    server = ScriptedServer(stateless=True)
    async with server, real_legs(transport, server, budget(8 * MIB)) as rig:
        server.on["tools/list"] = slow
        head = fields(rig, "flood")
        assert len((await listing(rig, head))["result"]["tools"]) == 1000
        answers = await asyncio.gather(*(listing(rig, head) for _ in range(6)))
        assert [len(answer["result"]["tools"]) for answer in answers] == [1000] * 6
        await eventually(lambda: rig.upstreams.held.total, "all is given back", until=lambda total: total == 0)


async def test_what_a_client_that_leaves_made_us_hold_is_given_back(transport: Transport) -> None:
    slow = Slow()
    server = ScriptedServer(stateless=True)
    async with server, real_legs(transport, server, budget(64 * MIB)) as rig:
        server.on["tools/list"] = slow
        exchange = await rig.asked(fields(rig, "leaver"))
        await exchange.send_body(LIST)
        await exchange.receive()
        held = rig.upstreams.held
        await eventually(lambda: held.total, "half a list is held", until=lambda total: total > 400_000)
        exchange.cancel()
        await eventually(lambda: held.total, "it is given back", until=lambda total: total == 0)


async def test_a_response_that_is_read_counts_while_it_is_held(rig: Rig[FakeUpstreams]) -> None:
    held = rig.upstreams.held
    github = UpstreamSession("2025-11-25", "gh-1", frozenset({"tools", "resources"}))
    exchange = await rig.posted(call(), rig.fields(mcp_session_id=rig.token(github=github, weather=WEATHER)))
    exchange = await _responding(rig, exchange, "application/json")
    pieces = ReadPieces(exchange)
    await pieces.send(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"' + b"x" * 1000)
    assert held.total > 1000
    assert b'"xxx' in await pieces.send(b'"}]}}', end=True)
    assert held.total == 0
    assert (await exchange.end()).name == "OK"


@pytest.mark.parametrize(("content_type", "start"), [("application/json", b"{"), ("text/event-stream", b"data: {")])
async def test_a_response_for_which_there_is_no_room(rig: Rig[FakeUpstreams], content_type: str, start: bytes) -> None:
    """The client is told so, and what comes after it is not held."""
    held = rig.upstreams.held
    github = UpstreamSession("2025-11-25", "gh-1", frozenset({"tools", "resources"}))
    token = rig.token(github=github, weather=WEATHER)
    exchange = await rig.posted(call(), rig.fields(mcp_session_id=token))
    exchange = await _responding(rig, exchange, content_type)
    hog = held.holding(rig.gateway._services.sealer.open(token, audience="/mcp", principal="", now=rigs.NOW).id)
    assert hog.part().keep(held.share)
    pieces = ReadPieces(exchange)
    down = await pieces.send(start)
    assert held.total == held.share
    down += await pieces.send(b" ", end=True)
    error = json.loads(down.removeprefix(b"data: "))
    assert (error["id"], error["error"]["code"]) == (1, -32603)
    assert "busy" in error["error"]["message"]
    assert (await exchange.end()).name == "OK"
    hog.release()
    assert held.total == 0


async def _responding(rig: Rig[FakeUpstreams], forwarded: RawExchange, content_type: str) -> RawExchange:
    fields = [(":status", "200"), ("content-type", content_type)]
    head = pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=header_map(fields)))
    exchange = await rig.response_to(await forwarded.receive(), head)
    await exchange.receive()
    return exchange
