"""Envoy lets a request pass unprocessed when a processor hangs up with OK before it answered, even with
``failure_mode_allow: false``. So whatever breaks, an exchange ends in an answer or in a status that is not OK.

Source: envoy/service/ext_proc/v3/external_processor.proto, ExternalProcessor.Process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any, NoReturn

import grpc
import pytest

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import forwarding, messages
from mcp_extproc.gateway import merge
from mcp_extproc.gateway.legs import Listed
from tests.extproc import rig as rigs
from tests.extproc.rig import GITHUB, REPAIR_FIELDS, REPAIR_ROUTE, WEATHER, Rig, Transport, call, initialize
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    DEADLINE,
    Ended,
    RawExchange,
    error_of,
    facts,
    kind,
    request_fields,
    response_head,
    rpc,
)
from tests.support.scripted import ScriptedServer, hang

LISTED = [Listed("github", ()), Listed("weather", ())]


class Bug(Exception):
    """Something of ours that breaks."""


def broken(*_: Any, **__: Any) -> NoReturn:
    raise Bug("of our own: s3cr3t")


async def ended(exchange: RawExchange) -> grpc.StatusCode:
    """The status of a stream that has to end without an answer."""
    with pytest.raises(Ended) as caught:
        await exchange.receive()
    assert "s3cr3t" not in caught.value.details
    return caught.value.code


def assert_apology(answer: pb.ProcessingResponse, id: object = None) -> None:
    """The answer to a request that could not be handled because of a bug: of the request where that was read."""
    error = error_of(answer)
    assert error["error"] == {"code": -32603, "message": "The gateway failed to handle this request; its log says why."}
    assert error.get("id") == id
    assert answer.immediate_response.status.code == (500 if id is None else 200)
    assert facts(answer) == {"error_code": -32603, "error_reason": "internal", "answered": True}


class TestBugs:
    """Each step of a decision breaks in turn. The one exchange is answered with an error, and others are served."""

    async def test_in_judging_the_head(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch) -> None:
        exchange = rig.client.exchange()
        with monkeypatch.context() as patch:
            patch.setattr(rig.gateway, "admit", broken)
            await exchange.send_headers(rig.fields())
            assert_apology(await exchange.receive())
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    async def test_in_reading_the_head(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch) -> None:
        exchange = rig.client.exchange()
        with monkeypatch.context() as patch:
            patch.setattr(messages, "read_head", broken)
            await exchange.send_headers(rig.fields())
            assert_apology(await exchange.receive())
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    @pytest.mark.parametrize(("body", "id"), [(call(id="b-1"), "b-1"), (b"junk", None), (rpc("x", id=None), None)])
    async def test_in_judging_the_body(
        self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch, body: bytes, id: object
    ) -> None:
        exchange = await rig.asked()
        with monkeypatch.context() as patch:
            patch.setattr(rig.gateway, "decide", broken)
            await exchange.send_body(body)
            assert_apology(await exchange.receive(), id)
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    @pytest.mark.parametrize(
        ("body", "module", "step"),
        [
            (call(id=5), forwarding, "_new_template"),
            (call(id=5), forwarding, "_replacing"),
            (call("nobody__knows", id=5), messages, "_under_namespaces"),
            (call("nobody__knows", id=5), messages, "mutation"),
            (rpc("ping", id=5), messages, "mutation"),
        ],
    )
    async def test_in_writing_the_answer(
        self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch, body: bytes, module: ModuleType, step: str
    ) -> None:
        """The answer was decided but not sent, so it is still owed."""
        exchange = await rig.asked()
        with monkeypatch.context() as patch:
            intact = getattr(module, step)
            calls = iter([broken])
            patch.setattr(module, step, lambda *given: next(calls, intact)(*given))
            await exchange.send_body(body)
            assert_apology(await exchange.receive(), 5)
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    async def test_in_writing_even_the_apology(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch) -> None:
        exchange = await rig.asked()
        with monkeypatch.context() as patch:
            patch.setattr(forwarding, "_replacing", broken)
            patch.setattr(messages, "_under_namespaces", broken)
            await exchange.send_body(call())
            assert (await ended(exchange)).name != "OK"
        await rig.serves()

    @pytest.mark.parametrize("body", [call(), call("nobody__knows")])
    async def test_in_counting(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
        exchange = await rig.asked()
        with monkeypatch.context() as patch:
            patch.setattr(rig.counters, "add", broken)
            await exchange.send_body(body)
            assert (await ended(exchange)).name != "OK"
        await rig.serves()

    async def test_in_asking_servers(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list", id="l"))
        (await rig.upstreams.next_run()).outcome.set_exception(Bug())
        assert_apology(await exchange.receive(), "l")
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    async def test_in_merging(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch) -> None:
        exchange = await rig.waiting(rpc("tools/list", id="l"))
        with monkeypatch.context() as patch:
            patch.setattr(merge, "entries", broken)
            (await rig.upstreams.next_run()).outcome.set_result(LISTED)
            assert_apology(await exchange.receive(), "l")
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    async def test_in_opening_a_session(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(
            call(id=3), rig.fields(mcp_session_id=rig.token(weather=WEATHER)), rigs.FOR_A_SESSION
        )
        (await rig.upstreams.next_session()).outcome.set_exception(Bug())
        assert_apology(await exchange.receive(), 3)
        assert (await exchange.end()).name == "OK"
        await rig.serves()

    async def test_in_a_repair(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        rigs.assert_more_time(await exchange.receive(), rigs.FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.set_exception(Bug())
        assert_apology(await exchange.receive())
        assert (await exchange.end()).name == "OK"

    async def test_after_the_decision(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch) -> None:
        """The response's head is owed an answer, and no error can be sent in its place."""
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        rigs.assert_more_time(await exchange.receive(), rigs.FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.set_result(GITHUB)
        assert kind(await exchange.receive()) == "request_headers"
        with monkeypatch.context() as patch:
            patch.setattr(rig.gateway.memory, "forget", broken)
            await exchange.send(response_head("404", lost=True))
            assert (await ended(exchange)).name != "OK"
        await rig.serves()

    async def test_are_logged_without_the_request(
        self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = rig.token()
        with caplog.at_level(logging.DEBUG), monkeypatch.context() as patch:
            patch.setattr(rig.gateway, "decide", broken)
            exchange = await rig.posted(
                call(password="hunter2"), rig.fields(mcp_session_id=token, authorization="me:me")
            )
            assert_apology(await exchange.receive(), 1)
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == ["exchange_failed"]
        assert "Bug" in caplog.text
        for secret in (token, "hunter2", "me:me", "of-the-gateway"):
            assert secret not in caplog.text


class TestCancelledTasks:
    """Not Envoy but something of ours cancels. Silence would be as bad as OK: nobody would ever answer."""

    async def test_whoever_asks_servers(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        work.task.cancel()
        await self.fails(rig, exchange)

    async def test_what_a_fan_out_waits_for(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        (await rig.upstreams.next_run()).outcome.cancel()
        await self.fails(rig, exchange)

    async def test_what_a_call_waits_for(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(call(), rig.fields(mcp_session_id=rig.token(weather=WEATHER)), rigs.FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.cancel()
        await self.fails(rig, exchange)

    async def test_what_a_repair_waits_for(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        rigs.assert_more_time(await exchange.receive(), rigs.FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.cancel()
        await self.fails(rig, exchange)

    @staticmethod
    async def fails(rig: Rig[FakeUpstreams], exchange: RawExchange) -> None:
        try:
            error_of(await exchange.receive())
        except Ended as end:
            assert end.code.name == "UNAVAILABLE"  # noqa: PT017 - either way is right
        await rig.serves()


class TestHalfClose:
    """Envoy says that nothing more comes, while an answer is owed."""

    async def test_before_the_head(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.half_close()
        assert (await ended(exchange)).name == "ABORTED"

    async def test_before_the_body(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.asked()
        await exchange.half_close()
        assert (await ended(exchange)).name == "ABORTED"
        await rig.serves()


async def _owed_the_head(rig: Rig[FakeUpstreams]) -> RawExchange:
    exchange = rig.client.exchange()
    await exchange.opened()
    await rig.serves()  # a stream that came later is served: the server knows of this one
    return exchange


async def _owed_a_list(rig: Rig[FakeUpstreams]) -> RawExchange:
    return await rig.waiting(rpc("tools/list"))


async def _owed_a_session(rig: Rig[FakeUpstreams]) -> RawExchange:
    return await rig.waiting(call(), rig.fields(mcp_session_id=rig.token(weather=WEATHER)), rigs.FOR_A_SESSION)


OWING: Mapping[str, Callable[[Rig[FakeUpstreams]], Awaitable[RawExchange]]] = {
    "head": _owed_the_head,
    "body": lambda rig: rig.asked(),
    "fan-out": _owed_a_list,
    "session": _owed_a_session,
}
"""Streams that owe an answer, by what they wait for."""


class TestDrain:
    async def test_exchanges_that_run_are_finished(self, rig: Rig[FakeUpstreams]) -> None:
        asked, waiting = await rig.asked(), await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        stopping = asyncio.create_task(rig.server.stop(grace=DEADLINE))
        await asked.send_body(call())
        assert kind(await asked.receive()) == "request_headers"
        assert (await asked.end()).name == "OK"
        assert not stopping.done()
        work.outcome.set_result(LISTED)
        assert kind(await waiting.receive()) == "immediate_response"
        assert (await waiting.end()).name == "OK"
        await stopping

    @pytest.mark.parametrize("owed", OWING)
    async def test_at_its_end_no_stream_that_owes_an_answer_gets_ok(self, rig: Rig[FakeUpstreams], owed: str) -> None:
        exchange = await OWING[owed](rig)
        await rig.server.stop(grace=0)
        assert (await ended(exchange)).name not in ("OK", "CANCELLED")

    @pytest.mark.parametrize("owed", OWING)
    async def test_nor_does_one_that_is_half_closed(self, rig: Rig[FakeUpstreams], owed: str) -> None:
        exchange = await OWING[owed](rig)
        await exchange.half_close()
        await rig.server.stop(grace=0)
        assert (await ended(exchange)).name not in ("OK", "CANCELLED")

    async def test_its_end_gives_fan_outs_up(self, rig: Rig[FakeUpstreams]) -> None:
        await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        live = rigs.LiveTasks()
        await rig.server.stop(grace=0)
        await work.given_up()
        await live.ended()

    async def test_new_streams_are_refused(self, rig: Rig[FakeUpstreams]) -> None:
        waiting = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        async with rig.client.watch_health("") as states:
            assert await anext(states) == "SERVING"
            stopping = asyncio.create_task(rig.server.stop(grace=DEADLINE))
            assert await anext(states) == "NOT_SERVING"
        late = rig.client.exchange()
        with pytest.raises(Ended) as refused:  # noqa: PT012 - it may be refused at either step
            await late.send_headers(rig.fields())
            await late.receive()
        assert refused.value.code.name == "UNAVAILABLE"
        work.outcome.set_result(LISTED)
        assert kind(await waiting.receive()) == "immediate_response"
        assert (await waiting.end()).name == "OK"
        await stopping


class TestServersThatHang:
    async def test_are_left_out_after_their_deadline(self, transport: Transport) -> None:
        """With real requests: the deadline of a leg is shorter than what Envoy was asked for, so Envoy gets an answer."""
        servers = {name: {**server, "discovery_timeout": 0.05} for name, server in rigs.SERVERS.items()}
        config = rigs.configuration(servers=servers)
        async with ScriptedServer(on={"initialize": hang}) as server:
            async with rigs.real_legs(transport, server, config) as rig:
                exchange = await rig.waiting(initialize(), request_fields(), 5.05)
                error = error_of(await exchange.receive())["error"]
                assert error["code"] == -32603
                assert "server 'github' did not answer within 0.05 s" in error["message"]
                assert (await exchange.end()).name == "OK"

    async def test_forever_leave_the_exchange_owing(self, rig: Rig[FakeUpstreams]) -> None:
        """Envoy gives up first: nothing but a reset ends the stream then."""
        exchange = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        await exchange.half_close()
        await rig.serves()
        assert not work.ended.is_set()
        exchange.cancel()
        await work.given_up()
