"""The client goes away, and Envoy resets the stream: whatever ran for it ends, and nobody else notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.legs import Listed
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.upstreams.fan_out import LegRunner
from tests.extproc import rig as rigs
from tests.extproc.rig import GITHUB, REPAIR_FIELDS, REPAIR_ROUTE, WEATHER, LiveTasks, Rig, Transport, call, initialize
from tests.support.fake_upstreams import FakeUpstreams, Held
from tests.support.rawclient import DEADLINE, RawExchange, headers_message, kind, request_fields, rpc
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
async def nothing_else_is_disturbed(rig: Rig[FakeUpstreams], caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """One exchange was waiting for its body and one for its servers; both go on. No task stays, and nothing is logged."""
    await rig.serves()
    asked, waiting = await rig.asked(), await rig.waiting(rpc("tools/list"))
    work = await rig.upstreams.next_run()
    live = LiveTasks()
    with caplog.at_level(logging.WARNING):
        yield
        await rig.serves()
        await live.ended()
    assert not work.ended.is_set()
    assert caplog.messages == []

    work.outcome.set_result([Listed("github", ()), Listed("weather", ())])
    assert kind(await waiting.receive()) == "immediate_response"
    await asked.send_body(call())
    assert kind(await asked.receive()) == "request_headers"
    for exchange in (asked, waiting):
        assert (await exchange.end()).name == "OK"


class TestBeforeTheDecision:
    async def test_before_the_head(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.opened()
        exchange.cancel()

    async def test_after_the_head_with_its_answer_unread(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields())
        exchange.cancel()

    async def test_while_the_body_is_awaited(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.asked()
        exchange.cancel()
        assert (await exchange.code()).name == "CANCELLED"

    async def test_half_closed_while_the_body_is_awaited(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.asked()
        await exchange.half_close()
        exchange.cancel()


class TestWhileServersAreAsked:
    @pytest.mark.parametrize(
        "body", [initialize(), rpc("tools/list"), rpc("notifications/cancelled", {"requestId": 1}, id=None)]
    )
    @pytest.mark.parametrize("half_closed", [False, True])
    async def test_a_fan_out_is_given_up(self, rig: Rig[FakeUpstreams], body: bytes, half_closed: bool) -> None:
        exchange = await rig.waiting(body)
        work = await rig.upstreams.next_run()
        if half_closed:
            await exchange.half_close()
        exchange.cancel()
        await work.given_up()

    async def test_the_end_of_a_session_is_given_up(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(request_fields("DELETE", mcp_session_id=rig.token()), end_of_stream=True)
        work = await rig.upstreams.next_run()
        exchange.cancel()
        await work.given_up()

    async def test_a_call_that_waits_for_a_session_is_given_up(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(call(), rig.fields(mcp_session_id=rig.token(weather=WEATHER)), rigs.FOR_A_SESSION)
        work = await rig.upstreams.next_session()
        exchange.cancel()
        await work.given_up()

    async def test_a_repair_is_given_up(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        work = await rig.upstreams.next_session()
        exchange.cancel()
        await work.given_up()

    async def test_with_further_messages_unread(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        await exchange.send_body(b"")
        await exchange.send_trailers()
        exchange.cancel()
        await work.given_up()

    async def test_at_the_very_moment_the_answer_is_ready(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        work.outcome.set_result([Listed("github", ()), Listed("weather", ())])
        exchange.cancel()
        async with asyncio.timeout(DEADLINE):
            await work.ended.wait()


class TestAfterTheDecision:
    @pytest.mark.parametrize("read", [True, False])
    @pytest.mark.parametrize("body", [call(), call("nobody__knows"), rpc("ping")])
    async def test_an_answered_exchange_just_ends(self, rig: Rig[FakeUpstreams], body: bytes, read: bool) -> None:
        exchange = await rig.posted(body)
        if read:
            await exchange.receive()
        exchange.cancel()


@dataclass
class Subrequests:
    """A processor whose fan-outs are real requests, which reach servers that keep them waiting."""

    rig: Rig[LegRunner]
    held: Held
    server: ScriptedServer


@pytest.fixture
async def subrequests(transport: Transport) -> AsyncIterator[Subrequests]:
    held = Held()
    async with ScriptedServer() as server, rigs.real_legs(transport, server) as rig:
        yield Subrequests(rig, held, server)


class TestSubrequests:
    """The same with real requests to servers, which see their connections close."""

    async def test_of_initialize_are_closed(self, subrequests: Subrequests) -> None:
        await self._are_closed(
            subrequests, "initialize", lambda: subrequests.rig.waiting(initialize(), request_fields())
        )

    async def test_of_a_list_are_closed(self, subrequests: Subrequests) -> None:
        await self._are_closed(subrequests, "tools/list", lambda: self._list(subrequests.rig))

    @staticmethod
    async def _list(rig: Rig[LegRunner]) -> RawExchange:
        github = UpstreamSession(GITHUB.version, "one", GITHUB.capabilities)
        weather = UpstreamSession(WEATHER.version, "two", WEATHER.capabilities)
        fields = rig.fields(mcp_session_id=rig.token(github=github, weather=weather))
        return await rig.waiting(rpc("tools/list"), fields)

    @staticmethod
    async def _are_closed(subrequests: Subrequests, method: str, start: Callable[[], Awaitable[RawExchange]]) -> None:
        subrequests.server.on[method] = subrequests.held
        leaver, other = await start(), await start()
        assert await subrequests.held.reached(4) == {"github", "weather"}
        leaver.cancel()
        assert await subrequests.held.closed(2) == {"github", "weather"}
        assert subrequests.held.open == 2, "the other's sub-requests are closed too"
        other.cancel()
        await subrequests.held.closed(2)


class TestEffects:
    """What a client asked for is done though the client does not wait: before anything is sent or awaited."""

    def test_the_end_of_a_session(self, rig: Rig[FakeUpstreams]) -> None:
        token = rig.token()
        exchange = rig.processor.exchange()
        fields = request_fields("DELETE", mcp_session_id=token)
        answers = exchange.receive(headers_message(fields, end_of_stream=True).SerializeToString())
        assert not isinstance(answers, list)
        gone = rig.processor.exchange()
        refused = gone.receive(headers_message(fields, end_of_stream=True).SerializeToString())
        assert isinstance(refused, list)
        assert pb.ProcessingResponse.FromString(refused[0]).immediate_response.status.code == 404

    async def test_of_initialize_leave_no_session_behind(self, subrequests: Subrequests) -> None:
        """One server has opened a session, another one has not: the client that leaves never learns of it."""
        server, held = subrequests.server, subrequests.held

        async def one_answers(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
            return (
                await held(request, message)
                if request.headers["x-mcp-server"] == "weather"
                else server._initialize(message)
            )

        server.on["initialize"] = one_answers
        leaver = await subrequests.rig.waiting(initialize(), request_fields())
        assert await held.reached(1) == {"weather"}
        await eventually(lambda: server.calls("notifications/initialized"), "the other one is confirmed")
        assert len(server.sessions) == 1
        leaver.cancel()
        await eventually(lambda: not server.sessions, "its session is ended")
