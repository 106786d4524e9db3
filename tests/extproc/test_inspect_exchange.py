"""Exchanges that are only read, message by message, on every transport."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf import json_format

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.gateway.policy import inspect
from tests.extproc import rig as rigs
from tests.extproc.rig import REQUEST_BYTES, Rig, Transport, configuration
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import Ended, RawExchange, asks_for_body, common, error_of, kind, request_fields, rpc
from tests.support.rawclient import removed_headers as removed
from tests.support.rawclient import set_headers as told_headers

PARTIAL = pb.ProcessingMode.BUFFERED_PARTIAL

Running = Rig[FakeUpstreams]


@asynccontextmanager
async def running(transport: Transport, **sections: Any) -> AsyncIterator[Running]:
    """A worker for servers of its own, too."""
    async with rigs.rig(transport, rigs.fakes, configuration(**sections)) as found:
        yield found


def reading(rig: Running) -> RawExchange:
    """A stream of Envoy's filter for pass-through."""
    return rig.client.exchange(x_mcp_pass_through="1")


def metadata(answer: pb.ProcessingResponse) -> dict[str, Any]:
    """All namespaces."""
    found: dict[str, Any] = json_format.MessageToDict(answer.dynamic_metadata)
    return found


async def read(rig: Running, body: bytes, **headers: Any) -> pb.ProcessingResponse:
    """The answer to a body. The stream has to end well after it."""
    exchange = reading(rig)
    await exchange.send_headers(request_fields(content_length=str(len(body)), **headers))
    assert asks_for_body(await exchange.receive())
    await exchange.send_body(body)
    answer = await exchange.receive()
    assert (await exchange.end()) is grpc.StatusCode.OK
    return answer


async def test_a_call_goes_on_as_it_is(transport: Transport) -> None:
    """Nothing but headers that were told and removed: no body, no length, no path, no other route."""
    async with running(transport) as rig:
        body = rpc("tools/call", {"name": "gh__issue_read"})
        answer = await read(rig, body, mcp_name="spoofed", x_mcp_server="weather")
        assert kind(answer) == "request_body"
        changes = common(answer)
        assert not changes.HasField("body_mutation")
        assert not changes.clear_route_cache
        assert told_headers(answer) == {
            "mcp-method": "tools/call", "mcp-name": "gh__issue_read", "x-mcp-request-id": "1",
        }  # fmt: skip
        assert "x-mcp-server" in removed(answer)
        found = metadata(answer)
        # The name is the server's own, whatever servers the worker has itself.
        assert found["mcp_proxy"]["tool"] == "gh__issue_read"
        assert "server" not in found["mcp_proxy"]
        assert found["mcp_extproc"] == {"pass_through": True}
        assert set(found) == {"mcp_proxy", "mcp_extproc"}
        assert rig.counters.snapshot()["mcp.passed"] == 1


async def test_all_namespaces_get_the_same(transport: Transport) -> None:
    async with running(transport, metadata={"namespaces": ["envoy.filters.http.mcp"]}) as rig:
        found = metadata(await read(rig, rpc("ping")))
        assert found["envoy.filters.http.mcp"] == found["mcp_proxy"]
        exchange = reading(rig)
        await exchange.send_headers(request_fields("GET"), end_of_stream=True)
        found = metadata(await exchange.receive())
        assert found == {name: {"http_method": "GET"} for name in ("envoy.filters.http.mcp", "mcp_proxy")}


async def test_the_route_is_chosen_again_where_that_is_configured(transport: Transport) -> None:
    async with running(transport, pass_through={"clear_route_cache": True}) as rig:
        assert common(await read(rig, rpc("ping"))).clear_route_cache


async def test_a_body_of_unknown_length(transport: Transport) -> None:
    """As much as Envoy may hold; where that is not all, it is not judged."""
    async with running(transport) as rig:
        for ends, status in ((True, None), (False, 413)):
            exchange = reading(rig)
            await exchange.send_headers(request_fields())
            assert (await exchange.receive()).mode_override.request_body_mode == PARTIAL
            await exchange.send_body(rpc("ping"), end_of_stream=ends)
            answer = await exchange.receive()
            assert (answer.immediate_response.status.code or None) == status
            assert (await exchange.end()) is grpc.StatusCode.OK


async def test_more_than_the_limit_reaches_the_worker(transport: Transport) -> None:
    """Envoy holds a little more than it was told to. It still has to be an answer, and none of the transport's."""
    async with running(transport) as rig:
        exchange = reading(rig)
        await exchange.send_headers(request_fields())
        await exchange.receive()
        await exchange.send_body(b"x" * (REQUEST_BYTES + 128 * 1024), end_of_stream=False)
        assert (await exchange.receive()).immediate_response.status.code == 413


async def test_a_head_decides_without_the_body(transport: Transport) -> None:
    async with running(transport) as rig:
        exchange = reading(rig)
        await exchange.send_headers(request_fields(content_type="text/plain"))
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 415
        assert metadata(answer)["mcp_proxy"]["answered"] is True
        assert error_of(answer)["error"]["code"] == -32600
    async with running(transport, pass_through={"traffic_mode": "pass_through"}) as rig:
        exchange = reading(rig)
        await exchange.send_headers(request_fields(content_type="text/plain"))
        answer = await exchange.receive()
        assert kind(answer) == "request_headers"
        # The body is not asked for, so Envoy sends none.
        assert not answer.HasField("mode_override")
        assert metadata(answer) == {"mcp_proxy": {
            "http_method": "POST", "is_mcp_request": False, "status": "mcp_ok", "passthrough_reason": "mcp_content_type",
        }}  # fmt: skip
        assert rig.counters.snapshot()["mcp.passed_unread{reason=mcp_content_type}"] == 1


async def test_only_envoy_chooses_the_kind_of_exchange(transport: Transport) -> None:
    """Not a client's header of the same name: its request is one to the endpoint."""
    async with running(transport) as rig:
        fields = rig.fields(x_mcp_pass_through="1")
        exchange = await rig.posted(rpc("tools/call", {"name": "gh__issue_read"}), fields)
        answer = await exchange.receive()
        assert b"issue_read" in common(answer).body_mutation.body
        await rig.serves()


# -- Whatever breaks, nothing passes unprocessed --------------------------------------------------------------------------


def broken(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("of our own: s3cr3t")


@pytest.mark.parametrize("step", [(inspect, "by_head"), (inspect, "by_body"), (messages, "let_pass")])
async def test_bugs(
    transport: Transport, step: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with running(transport) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(*step, broken)
            exchange = reading(rig)
            await exchange.send_headers(request_fields())
            answer = await exchange.receive()
            if kind(answer) == "request_headers":
                await exchange.send_body(rpc("ping"))
                answer = await exchange.receive()
        assert answer.immediate_response.status.code == 500
        assert b"s3cr3t" not in answer.SerializeToString()
        assert kind(await read(rig, rpc("ping"))) == "request_body"


async def test_an_apology_that_breaks(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream ends with a status that is not OK."""
    async with running(transport) as rig:
        monkeypatch.setattr(inspect, "by_head", broken)
        monkeypatch.setattr(messages, "refuse_to_pass", broken)
        exchange = reading(rig)
        await exchange.send_headers(request_fields())
        with pytest.raises(Ended) as caught:
            await exchange.receive()
        assert caught.value.code is not grpc.StatusCode.OK
        assert "s3cr3t" not in caught.value.details


@pytest.mark.parametrize("sent", [0, 1])
async def test_envoy_hangs_up_before_the_decision(transport: Transport, sent: int) -> None:
    async with running(transport) as rig:
        exchange = reading(rig)
        if sent:
            await exchange.send_headers(request_fields())
            await exchange.receive()
        assert (await exchange.end()) is not grpc.StatusCode.OK


OUT_OF_ORDER: dict[str, Callable[[RawExchange], Any]] = {
    "a body first": lambda exchange: exchange.send_body(rpc("ping")),
    "trailers first": lambda exchange: exchange.send_trailers(),
    "no message at all": lambda exchange: exchange.send(pb.ProcessingRequest()),
}


@pytest.mark.parametrize("what", OUT_OF_ORDER)
async def test_messages_out_of_order(transport: Transport, what: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with running(transport) as rig:
        exchange = reading(rig)
        await OUT_OF_ORDER[what](exchange)
        assert (await exchange.receive()).immediate_response.status.code == 500


async def test_a_second_piece_of_a_body_is_no_answer_any_more(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    """The decision was made without it: the request has to end."""
    caplog.set_level(logging.CRITICAL)
    async with running(transport) as rig:
        exchange = reading(rig)
        await exchange.send_headers(request_fields())
        await exchange.receive()
        await exchange.send_body(rpc("ping"))
        await exchange.receive()
        await exchange.send_body(b"more")
        with pytest.raises(Ended) as caught:
            await exchange.receive()
        assert caught.value.code is not grpc.StatusCode.OK


async def test_what_may_follow_a_decision(transport: Transport) -> None:
    async with running(transport) as rig:
        exchange = reading(rig)
        await exchange.send_headers(request_fields())
        await exchange.receive()
        await exchange.send_body(rpc("ping"))
        await exchange.receive()
        await exchange.send_body(b"")  # the end of a body, said twice: no answer
        await exchange.send_trailers()
        assert kind(await exchange.receive()) == "request_trailers"
        assert (await exchange.end()) is grpc.StatusCode.OK
