"""Streams that break and go on: ``Last-Event-ID``, and polling as of SEP-1699."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import tool
from tests.support.streaming import StreamingServer, calling, listen, reply, two
from tests.support.waiting import eventually

OK = {"content": [{"type": "text", "text": "done"}]}


async def test_a_calls_stream_goes_on_where_it_broke(start: StartGateway) -> None:
    """The rest of that stream only, response included; the server is not told to cancel, and keeps its own event ids."""
    async with two(start, keeps_events=True) as (alpha, beta, gateway):
        session = await gateway.initialize(capabilities={"roots": {}})
        async with calling(gateway, session, "alpha__stream", id=0, meta={"progressToken": 0}) as events:
            channel = await alpha.called()
            for number in range(2):
                await channel.tell("notifications/progress", {"progressToken": 0, "progress": number})
                event = await events.event()
                assert event is not None
                assert event.id is not None
                assert channel.name not in event.id
            last = events.last_id
        await channel.left()
        assert not alpha.calls("notifications/cancelled")
        await channel.tell("notifications/progress", {"progressToken": 0, "progress": 2})
        await channel.ask(1, "roots/list")
        async with listen(gateway, session, last) as rest:
            assert await alpha.opened() is channel
            assert alpha.gets[-1].headers["last-event-id"] == f"{channel.name}/1"
            assert (await rest.message())["params"]["progress"] == 2
            asked = await rest.message()
            await reply(gateway, session, asked["id"], result={"roots": []})
            [post] = await alpha.answered()
            assert post.message["id"] == 1
            await channel.answer(result=OK)
            assert await rest.rest() == [{"jsonrpc": "2.0", "id": 0, "result": OK}]
        assert not beta.gets


async def test_the_rest_of_a_stream_is_resumed_again(start: StartGateway) -> None:
    """Ids of a resumed stream resume it as well."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.log("0")
            await events.message()
        await channel.left()
        last = events.last_id
        for number in range(1, 3):
            async with listen(gateway, session, last) as rest:
                await alpha.opened()
                await channel.log(str(number))
                assert (await rest.message())["params"] == {"level": "error", "data": str(number), "logger": "alpha"}
                assert rest.last_id != last
                last = rest.last_id
            await channel.left()


async def test_a_new_stream_gets_nothing_of_a_calls(start: StartGateway) -> None:
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.log("0")
            await events.message()
        await channel.left()
        await channel.answer(result=OK)
        async with listen(gateway, session) as fresh:
            standing = await alpha.opened()
            assert standing is not channel
            await standing.log("end")
            assert (await fresh.message())["params"]["data"] == "end"


async def test_a_merged_stream_goes_on_at_every_server(start: StartGateway) -> None:
    """What servers sent meanwhile is told, once; each is asked for what followed on its own stream."""
    async with two(start, keeps_events=True) as (alpha, beta, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            first, second = await alpha.opened(), await beta.opened()
            for channel in (first, second, first):
                await channel.log("seen")
                await events.message()
        await first.left()
        await second.left()
        await first.log("alpha missed")
        await second.log("beta missed")
        async with listen(gateway, session, events.last_id) as again:
            assert await alpha.opened() is first
            assert await beta.opened() is second
            assert alpha.gets[-1].headers["last-event-id"] == f"{first.name}/1"
            assert beta.gets[-1].headers["last-event-id"] == f"{second.name}/0"
            told = {(await again.message())["params"]["data"] for _ in range(2)}
            assert told == {"alpha missed", "beta missed"}
            await first.log("live")
            assert (await again.message())["params"]["data"] == "live"


async def test_resuming_while_the_old_connection_seems_open(start: StartGateway) -> None:
    """A client whose network changed comes back before anybody noticed. A server that says 409 is asked again, not skipped."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as stale:
            channel = await alpha.opened()
            await channel.log("0")
            await stale.message()
            last = stale.last_id
            await channel.log("1")
            await stale.message()
            alpha.resume_statuses.append(409)
            async with listen(gateway, session, last) as events:
                assert (await events.message())["params"]["data"] == "1"


async def test_what_can_not_be_resumed(start: StartGateway) -> None:
    """405 with a reason for what is over, forgotten, made up, tampered with, or another session's. Never 404, nor a stream."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session, other = await gateway.initialize(), await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.log("0")
            await events.message()
            last = events.last_id
            assert last is not None
            await channel.answer(result=OK)
            await events.rest()
        flipped = last[:-1] + ("A" if last[-1] != "A" else "B")
        before = len(alpha.gets)
        for holder, id in (
            (session, "garbage"), (session, flipped), (session, last + "A"), (session, "1"), (session, f"{channel.name}/0"),
            (other, last), (session, "x" * 9000),
        ):  # fmt: skip
            await _refused(gateway, holder, id)
        assert len(alpha.gets) == before
        alpha.channels.remove(channel)  # forgotten
        await _refused(gateway, session, last)
        alpha.keeps_events = False  # 500, as from servers that keep none
        await _refused(gateway, session, last)
        await alpha.stop()
        await _refused(gateway, session, last)
        assert (await gateway.rpc("ping", mcp_session_id=session)).result == {}


async def _refused(gateway: TestGateway, session: str, last_event_id: str) -> None:
    async with listen(gateway, session, last_event_id) as refused:
        answer = await refused.read()
        assert (answer.status, answer.headers["allow"]) == (405, "POST, DELETE"), last_event_id
        assert "stream" in answer.error["message"]
        assert "id" not in answer.json


async def test_a_stream_that_the_server_restarted_since(start: StartGateway) -> None:
    """Another session of the server's knows nothing of it, and could hold an event of the same id."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.log("0")
            await events.message()
        await alpha.restart()
        assert (await gateway.call(session, "alpha__echo")).status == 200
        before = len(alpha.gets)
        await _refused(gateway, session, str(events.last_id))
        assert len(alpha.gets) == before


async def test_the_stream_of_an_old_get_is_live_again(start: StartGateway) -> None:
    """Also where the servers keep no events (500 from the Python SDK's), or have a new session."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            channel = await alpha.opened()
            await channel.log("0")
            await events.message()
        await channel.left()
        alpha.keeps_events = False
        async with listen(gateway, session, events.last_id) as again:
            assert again.status == 200
            live = await alpha.opened()
            await live.log("live")
            assert (await again.message())["params"]["data"] == "live"
        await live.left()
        alpha.keeps_events = True
        await alpha.restart()
        async with listen(gateway, session, events.last_id) as again:
            assert again.status == 200
            await (await alpha.opened()).log("live")
            while (message := await again.message())["method"] != "notifications/message":
                assert message["method"].endswith("list_changed")
            assert message["params"]["data"] == "live"


# -- Polling ----------------------------------------------------------------------------------------------------------------


async def test_polling(start: StartGateway) -> None:
    """A priming event, ``retry`` before the early end, then the rest by GET, as often as the server likes (SEP-1699)."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream", id="poll") as events:
            channel = await alpha.called()
            await channel.prime(retry=1)
            first = await events.event()
            assert first is not None
            assert (first.data, first.retry) == ("", 1)
            assert first.raw.split(b"\n")[-1] == b"data:"
            await channel.hang_up()
            assert await events.event() is None
        last = first.id
        for _ in range(2):
            async with listen(gateway, session, last) as rest:
                assert await alpha.opened() is channel
                await channel.prime(retry=2)
                event = await rest.event()
                assert event is not None
                assert (event.data, event.retry) == ("", 2)
                assert event.id not in (None, last)
                last = event.id
                await channel.hang_up()
                assert await rest.event() is None
        await channel.answer(result=OK)
        async with listen(gateway, session, last) as rest:
            assert await rest.rest() == [{"jsonrpc": "2.0", "id": "poll", "result": OK}]


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_older_clients_get_no_empty_events(start: StartGateway, version: str) -> None:
    """They fail on them; nor do they poll, so that a stream ended for polling has to end with an error."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize(version)
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.prime(retry=1)
            block = await events.block()
            assert block is not None
            assert (block.data, block.id, block.retry) == (None, None, None)
            await channel.answer(result=OK)
            assert [message["result"] for message in await events.rest()] == [OK]
        async with calling(gateway, session, "alpha__stream", id=5) as events:
            channel = await alpha.called()
            await channel.prime(retry=1)
            await channel.hang_up()
            [told] = await events.rest()
            assert (told["id"], told["error"]["code"]) == (5, -32603)


async def test_an_event_that_the_client_does_not_see_counts_all_the_same(start: StartGateway) -> None:
    """A ping is answered here, but its id is the newest: whoever resumes must not get it again, nor be left without one."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.ask("p", "ping")
            event = await events.event()
            assert event is not None
            assert event.data == ""
            assert event.id is not None
            await channel.hang_up()
            assert await events.event() is None
        await channel.answer(result=OK)
        async with listen(gateway, session, event.id) as rest:
            assert [message["result"] for message in await rest.rest()] == [OK]
        assert len(alpha.answers) == 1


@pytest.mark.parametrize("breaks", [False, True], ids=["ends", "breaks"])
async def test_the_gateways_own_requests_poll_too(start: StartGateway, breaks: bool) -> None:
    """A list whose stream ended, or was lost, after an event id is fetched with GET and ``Last-Event-ID``."""
    async with PollingServer("alpha", breaks=breaks) as alpha, start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        answer = await gateway.rpc("tools/list", mcp_session_id=session)
        result = json.loads(answer.body.removeprefix(b"data: "))["result"]  # in the form in which the server answered
        assert [found["name"] for found in result["tools"]] == ["alpha__late"]
        assert [get.headers["last-event-id"] for get in alpha.gets] == ["e1", "e2"]
        assert all(get.headers["mcp-session-id"] in alpha.sessions for get in alpha.gets)


async def test_a_list_without_answer_nor_id_fails(start: StartGateway) -> None:
    async with PollingServer("alpha", first=": nothing\n\n") as alpha, start({"alpha": alpha.url}) as gateway:
        answer = await gateway.rpc("tools/list", mcp_session_id=await gateway.initialize(), id="x")
        assert (answer.status, answer.json["id"], answer.error["code"]) == (200, "x", -32603)
        assert not alpha.gets


class PollingServer(StreamingServer):
    """Answers a list only at the second GET."""

    def __init__(self, name: str, first: str = "id: e1\nretry: 1\ndata:\n\n", *, breaks: bool = False) -> None:
        super().__init__(name)
        self._first = first
        self._breaks = breaks
        self.on["tools/list"] = self._begin

    async def _begin(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        self._id = message["id"]
        return await self._part(request, self._first)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        if len(self.gets) == 1:
            return await self._part(request, "id: e2\ndata:\n\n")
        result = {"jsonrpc": "2.0", "id": self._id, "result": {"tools": [tool("late")]}}
        return await self._part(request, f"id: e3\ndata: {json.dumps(result)}\n\n")

    async def _part(self, request: web.Request, text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(text.encode())
        if self._breaks:
            assert request.transport is not None
            request.transport.close()
        return response


async def test_another_worker_resumes_too(start_own: StartGateway) -> None:
    """Event ids say all that is needed: the worker that made them may be dead."""
    async with two(start_own, keeps_events=True) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events, calling(gateway, session, "alpha__stream") as call:
            standing, channel = await alpha.opened(), await alpha.called()
            await standing.log("0")
            await events.message()
            await channel.log("0")
            await call.message()
            gateway.signal_workers(signal.SIGKILL)
            await standing.left()
            await channel.left()
        await standing.log("standing")
        await channel.log("call")
        for last, text in ((events.last_id, "standing"), (call.last_id, "call")):
            assert await _resumed(gateway, session, str(last)) == text


async def _resumed(gateway: TestGateway, session: str, last_event_id: str) -> str:
    """The next log message of a stream, as soon as the gateway is there again."""

    async def resumed() -> str | None:
        async with listen(gateway, session, last_event_id) as events:
            return None if events.status == 503 else str((await events.message())["params"]["data"])

    return str(await eventually(resumed, "the stream goes on"))
