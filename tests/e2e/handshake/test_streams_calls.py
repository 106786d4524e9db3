"""The stream of a call: progress, failures, what is read and what is not."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.streaming import StreamingServer, calling, listen, two
from tests.support.waiting import stays

OK = {"content": [{"type": "text", "text": "done"}]}


@pytest.mark.parametrize("token", [0, "1", "0"])
async def test_progress_comes_on_its_calls_stream(start: StartGateway, token: int | str) -> None:
    """The token keeps its type; progress that nobody asked for, or with another token, is dropped."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream", meta={"progressToken": token}) as events:
            channel = await alpha.called()
            assert channel.message["params"]["_meta"] == {"progressToken": token}
            other = str(token) if isinstance(token, int) else int(token)
            for given in (other, "unknown", None, token):
                await channel.tell("notifications/progress", {"progressToken": given, "progress": 1})
            told = (await events.message())["params"]
            assert (told["progressToken"], type(told["progressToken"])) == (token, type(token))
            await channel.answer(result=OK)
            assert [message["id"] for message in await events.rest()] == [1]
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.tell("notifications/progress", {"progressToken": 0, "progress": 1})
            await channel.answer(result=OK)
            assert len(await events.rest()) == 1


async def test_progress_on_the_stream_of_a_get(start: StartGateway) -> None:
    """Some servers send it there: it passes as long as the call runs."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            get = await alpha.opened()
            progress = {"progressToken": 5, "progress": 1}
            async with calling(gateway, session, "alpha__stream", meta={"progressToken": 5}) as call:
                channel = await alpha.called()
                await get.tell("notifications/progress", progress)
                assert (await events.message())["params"] == progress
                await get.tell("notifications/progress", {**progress, "progressToken": "5"})
                await channel.answer(result=OK)
                await call.rest()
            heard: dict[str, Any] = {}
            while heard.get("data") != "end":  # the worker may not have noticed yet that the call is over
                await get.tell("notifications/progress", progress)
                await get.log("end")
                heard = (await events.message())["params"]


async def test_messages_about_a_call_come_on_its_stream_and_no_other(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        async with (
            listen(gateway, session) as get,
            calling(gateway, session, "alpha__stream", id=1) as one,
            calling(gateway, session, "beta__stream", id="1") as other,
        ):
            first, second = await alpha.called(), await beta.called()
            standing = await alpha.opened()
            await first.log("first")
            await second.log("second")
            await standing.log("standing")
            for events, text, logger in (
                (one, "first", "alpha"),
                (other, "second", "beta"),
                (get, "standing", "alpha"),
            ):
                assert (await events.message())["params"] == {"level": "error", "data": text, "logger": logger}
            await second.answer(result=OK)
            await first.answer(result=OK)
            assert await one.rest() == [{"jsonrpc": "2.0", "id": 1, "result": OK}]
            assert await other.rest() == [{"jsonrpc": "2.0", "id": "1", "result": OK}]


@pytest.mark.parametrize("capabilities", [{}, {"roots": {}}], ids=["passes", "is read"])
async def test_the_first_byte_is_not_delayed(start: StartGateway, capabilities: dict[str, Any]) -> None:
    """Each event is there before the server writes the next; a server that waits for an answer gets it."""
    async with StreamingServer("alpha", stateless=not capabilities) as alpha, start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize(capabilities=capabilities)
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            for number in range(3):
                await channel.log(str(number))
                assert (await events.message())["params"]["data"] == str(number)
            await channel.answer(result=OK)
            assert len(await events.rest()) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_streams_of_every_spelling(start: StartGateway, end: str) -> None:
    """Cut at every byte, also inside of a character; and the last event without its blank line."""
    lines = (
        ": hello", "", "data:", "", "event: odd", "data: " + json.dumps({"jsonrpc": "2.0", "method": "x/y"}), "",
        'data: {"jsonrpc": "2.0", "id": 1,', 'data:"result": {"content": [{"type": "text",',
        'data: "text": "é€😀"}]}}', "x-unknown: 1",
    )  # fmt: skip
    text = "\ufeff" + "".join(line + end for line in lines)
    async with two(start) as (alpha, _, gateway):
        async with calling(gateway, await gateway.initialize(), "alpha__stream") as events:
            channel = await alpha.called()
            for byte in text.encode():
                await channel.write(bytes([byte]))
            await channel.finish()
            odd, last = await events.rest()
        assert odd["method"] == "x/y"
        assert last == {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "é€😀"}]}}


async def test_large_events_pass(start: StartGateway) -> None:
    """Larger than any buffer on the way."""
    text = "é" * 1_500_000
    async with two(start) as (alpha, _, gateway):
        async with calling(gateway, await gateway.initialize(), "alpha__stream") as events:
            channel = await alpha.called()
            await channel.log(text)
            assert (await events.message())["params"]["data"] == text
            await channel.answer(result=OK)
            assert (await events.message())["result"] == OK


async def test_an_event_over_the_limit_fails_the_call(start: StartGateway) -> None:
    async with two(start, limits={"event_bytes": 4096}) as (alpha, _, gateway):
        async with calling(gateway, await gateway.initialize(), "alpha__stream", id="a") as events:
            channel = await alpha.called()
            await channel.log("before")
            await channel.log("x" * 5000)
            first, second = await events.message(), await events.message()
            assert first["params"]["data"] == "before"
            assert (second["id"], second["error"]["code"]) == ("a", -32603)
            assert "limits.event_bytes" in second["error"]["message"]
            await channel.answer(result=OK)
            assert await events.rest() == []


@pytest.mark.parametrize("capabilities", [{}, {"roots": {}}])
async def test_a_stream_without_an_answer(start: StartGateway, capabilities: dict[str, Any]) -> None:
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize(capabilities=capabilities)
        for id in (7, "7", "seven"):
            async with calling(gateway, session, "alpha__stream", id=id) as events:
                channel = await alpha.called()
                await channel.log("no more")
                await channel.finish()
                log, last = await events.rest()
                assert log["params"]["data"] == "no more"
                assert (last["id"], type(last["id"]), last["error"]["code"]) == (id, type(id), -32603)


async def test_a_stream_that_breaks(start: StartGateway) -> None:
    """The client sees the end of its stream, or the error, and does not hang."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream", id=7) as events:
            channel = await alpha.called()
            await channel.log("soon gone")
            await events.message()
            channel.cut()
            try:
                told = await events.rest()
            except Exception:  # noqa: BLE001 - the connection broke, which every client notices
                told = []
            assert [message["error"]["code"] for message in told] in ([], [-32603])


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_request_that_is_answered_202(start: StartGateway, stateless: bool) -> None:
    async with StreamingServer("alpha", stateless=stateless) as alpha, start({"alpha": alpha.url}) as gateway:

        async def accept(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
            return web.Response(status=202)

        alpha.on["tools/call"] = accept
        answer = await gateway.call(await gateway.initialize(), "alpha__echo", id="a")
        assert (answer.status, answer.json["id"], answer.error["code"]) == (200, "a", -32603)


async def test_a_server_at_2025_03_26_answers_with_arrays(start: StartGateway) -> None:
    """As JSON, and as an event: replies and other messages in one."""
    async with two(start) as (alpha, _, gateway):
        alpha.version = "2025-03-26"
        session = await gateway.initialize(capabilities={"roots": {}})
        log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
        async with calling(gateway, session, "alpha__stream", id=1) as events:
            channel = await alpha.called()
            await channel.send([log, {"jsonrpc": "2.0", "id": 1, "result": OK}])
            await channel.finish()
            told = await events.rest()
        assert [message.get("method", "answer") for message in told] == ["notifications/message", "answer"]

        async def as_json(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
            return web.json_response([log, {"jsonrpc": "2.0", "id": message["id"], "result": OK}])

        alpha.on["tools/call"] = as_json
        assert (await gateway.call(session, "alpha__echo", id="0")).result == OK


# -- What Python reads ----------------------------------------------------------------------------------------------------


async def _messages_for(gateway: TestGateway, session: str, name: str) -> int:
    """How many messages Envoy's ext_proc filter sends to the worker for one call."""
    before = await _sent(gateway)
    assert (await gateway.call(session, name)).status == 200
    return await _sent(gateway) - before


async def _sent(gateway: TestGateway) -> int:
    stats = await gateway.local.admin("GET", "/stats?filter=^http.mcp.ext_proc.*stream_msgs_sent$")
    assert stats is not None
    return sum(int(line.split()[-1]) for line in stats.splitlines())


async def test_streams_of_our_own_are_not_read(start_own: StartGateway) -> None:
    """They pass the filter that reads servers' event streams."""
    async with StreamingServer("alpha") as alpha, start_own({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = await _sent(gateway)
        async with listen(gateway, session) as events:
            await (await alpha.opened()).log("x")
            assert (await events.message())["params"]["data"] == "x"
            assert await _sent(gateway) - before == 1


async def test_answers_that_need_no_reading_pass_python_by(
    start_own: StartGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the filter's own counters, and by the worker's: JSON answers."""
    async with (
        StreamingServer("alpha", capabilities={"tools": {}}) as alpha,
        StreamingServer("beta", stateless=True, capabilities={"tools": {}}) as beta,
        StreamingServer(
            "gamma", capabilities={"tools": {}, "resources": {}}, on={"tools/call": _echo_in_json}
        ) as gamma,
    ):
        async with start_own({"alpha": alpha.url, "beta": beta.url}) as gateway:
            session = await gateway.initialize()
            for server in (alpha, beta):
                server.on["tools/call"] = _echo_in_json
                assert await _messages_for(gateway, session, f"{server.name}__echo") == 2
                server.on["tools/call"] = _echo_in_events
                # Its events have ids, and could answer another call.
                assert await _messages_for(gateway, session, f"{server.name}__echo") > 3
        assert _readings(capfd.readouterr().err) == {"events": "2"}
        async with start_own({"beta": beta.url, "gamma": gamma.url}) as gateway:
            session = await gateway.initialize()
            assert await _messages_for(gateway, session, "gamma__echo") > 3  # it holds URIs
            assert await _messages_for(gateway, session, "beta__echo") > 3  # what it writes may read like gamma's
        assert _readings(capfd.readouterr().err) == {"whole": "1", "events": "1"}


async def test_answers_come_along_where_event_streams_are_expected(
    start_own: StartGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    """On the request's stream, which ends where nothing is to be read. Of JSON the worker looks at the head alone."""
    async with (
        StreamingServer("alpha", capabilities={"tools": {}}, begins_in_events=True) as alpha,
        StreamingServer("beta", stateless=True, capabilities={"tools": {}}) as beta,
        start_own({"alpha": alpha.url, "beta": beta.url}) as gateway,
    ):
        session = await gateway.initialize()
        alpha.on["tools/call"] = beta.on["tools/call"] = _echo_in_json
        for server in (alpha, beta):
            # Envoy waits for no answer to the head.
            assert 3 <= await _messages_for(gateway, session, f"{server.name}__echo") <= 5
        alpha.on["tools/call"] = beta.on["tools/call"] = _echo_in_events
        assert await _messages_for(gateway, session, "beta__echo") > 3
        assert await _messages_for(gateway, session, "alpha__echo") > 3
    assert _readings(capfd.readouterr().err) == {"pass": "2", "events": "2"}


@pytest.mark.parametrize("size", [0, 100_000, 2_000_000])
async def test_json_where_event_streams_are_expected(start: StartGateway, size: int) -> None:
    """Envoy has sent pieces of it by the time that the worker ends the exchange."""
    text = "x" * size

    async def answers(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        result = {"content": [{"type": "text", "text": text}]}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async with StreamingServer("alpha", begins_in_events=True) as alpha, start({"alpha": alpha.url}) as gateway:
        alpha.on["tools/call"] = answers
        session = await gateway.initialize()
        calls = (gateway.rpc("tools/call", {"name": "alpha__echo"}, id=id, mcp_session_id=session) for id in range(20))
        for id, found in enumerate(await asyncio.gather(*calls)):
            assert found.json["id"] == id
            assert found.json["result"]["content"][0]["text"] == text


def _readings(log: str) -> dict[str, str]:
    """The worker's counts of what it did with responses, of its last line."""
    return dict(re.findall(r'"mcp\.response\{reading=(\w+)\}":(\d+)', log))


async def _echo_in_json(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": OK})


async def _echo_in_events(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    body = f"id: 1\ndata: {json.dumps({'jsonrpc': '2.0', 'id': message['id'], 'result': OK})}\n\n"
    return web.Response(body=body.encode(), content_type="text/event-stream")


async def test_a_client_that_leaves_a_call(start: StartGateway) -> None:
    """Leaving is no cancelling, so the server gets no ``cancelled``; its connection ends."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize(capabilities={"roots": {}})
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.log("x")
            await events.message()
        await channel.left()
        assert (await gateway.rpc("ping", mcp_session_id=session)).result == {}
        assert not alpha.calls("notifications/cancelled")


async def test_many_calls_at_once_keep_to_their_streams(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize(capabilities={"roots": {}})

        async def one(number: int) -> None:
            async with calling(gateway, session, "alpha__stream", id=number) as events:
                assert [message.get("id", message.get("params", {}).get("data")) for message in await events.rest()] == [
                    str(number), number,
                ]  # fmt: skip

        async def serve() -> None:
            for _ in range(20):
                channel = await alpha.called()
                await channel.log(str(channel.message["id"]))
                await channel.answer(result=OK)

        await asyncio.gather(serve(), *(one(number) for number in range(20)))


async def test_a_client_that_reads_slowly_slows_its_server(start: StartGateway) -> None:
    """Nothing piles up in between, and nothing is lost."""
    events_sent, size, sent = 1200, 64 * 1024, 0
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize(capabilities={"roots": {}})
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            before = _resident(gateway)

            async def flood() -> None:
                nonlocal sent
                for number in range(events_sent):
                    await channel.log(f"{number} " + "x" * size)
                    sent = number + 1
                await channel.answer(result=OK)

            flooding = asyncio.create_task(flood())
            await stays(lambda: sent)  # until the server has to wait
            assert sent < events_sent
            assert _resident(gateway) - before < events_sent * size / 2
            for number in range(events_sent):
                assert (await events.message())["params"]["data"].partition(" ")[0] == str(number)
            assert (await events.message())["result"] == OK
            await flooding


def _resident(gateway: TestGateway) -> int:
    """Bytes of memory of the worker and Envoy."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in gateway.local.pids.values()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
