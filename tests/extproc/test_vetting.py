"""A call that waits for consent, as Envoy sends it: first to the filter that decides, then to the one that asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import CALL_KEY, CERTIFICATE_HEADER, VETTING_KEY, VETTING_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.principal import Principal
from tests.extproc.rig import Rig, Transport, call, configuration, fakes, rig, seal
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.front_door import RESULT, FrontDoor, front_door
from tests.support.rawclient import Ended, Fields, RawExchange, common, headers_message, kind
from tests.support.vetted import vetted_calls
from tests.support.waiting import eventually

CONFIG = configuration(vetting=[{"tools": ["delete"]}])
BY_CERTIFICATE = configuration(
    vetting=[{"tools": ["delete"]}],
    listen={"tls": {"certificate": "server.pem", "key": "server.key"}},
    authentication={"mtls": {"ca": "clients.pem"}},
)
FORMS = frozenset({"elicitation", "elicitation.form"})


@asynccontextmanager
async def vetting(
    transport: Transport, door: FrontDoor, config: GatewayConfig = CONFIG
) -> AsyncIterator[Rig[FakeUpstreams]]:
    async with front_door(door, config.limits) as batches:

        def vetted(gateway: Gateway) -> Any:
            return vetted_calls(gateway, batches)

        async with rig(transport, fakes, config, vetted) as running:
            yield running


def fields(running: Rig[FakeUpstreams], token: str | None = None) -> Fields:
    return running.fields(mcp_session_id=token or seal(running._sealer, client_flags=FORMS))


async def decided(running: Rig[FakeUpstreams], body: bytes, head: Fields) -> pb.ProcessingResponse:
    exchange = await running.posted(body, head)
    answer = await exchange.receive()
    assert kind(answer) == "request_headers", answer
    await exchange.half_close()
    return answer


async def asking(
    running: Rig[FakeUpstreams], answer: pb.ProcessingResponse, head: Fields, *, pieces: int = 1, trailers: bool = False
) -> RawExchange:
    """The stream of the filter that asks, after the request was sent to it as the first one's answer made it."""
    message = headers_message(head)
    told = answer.dynamic_metadata.fields[VETTING_NAMESPACE].struct_value
    message.metadata_context.filter_metadata[VETTING_NAMESPACE].CopyFrom(told)
    exchange = running.client.exchange(**{VETTING_KEY: "1"})
    await exchange.send(message)
    body = common(answer).body_mutation.body
    size = -(-len(body) // pieces)
    for start in range(0, len(body), size):
        await exchange.send_body(body[start : start + size], end_of_stream=not trailers and start + size >= len(body))
    if trailers:
        await exchange.send_trailers()
    return exchange


async def event(exchange: RawExchange) -> dict[str, Any]:
    answer = await exchange.receive()
    text = answer.streamed_immediate_response.body_response.body
    parsed: dict[str, Any] = json.loads(text.removeprefix(b"data: "))
    return parsed


async def begun(exchange: RawExchange) -> dict[str, Any]:
    """The question, behind the head of the answer."""
    head = await exchange.receive()
    found = {h.key: h.raw_value for h in head.streamed_immediate_response.headers_response.headers.headers}
    assert (found[":status"], found["content-type"]) == (b"200", b"text/event-stream")
    return await event(exchange)


async def reply(running: Rig[FakeUpstreams], head: Fields, id: str, action: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"action": action}}).encode()
    answer = await (await running.posted(body, head)).receive()
    assert answer.immediate_response.status.code == 202


@pytest.mark.parametrize(("pieces", "trailers"), [(1, False), (3, False), (2, True)])
async def test_a_call_is_asked_about_and_runs(transport: Transport, pieces: int, trailers: bool) -> None:
    door = FrontDoor()
    async with vetting(transport, door) as running:
        head = fields(running)
        answer = await decided(running, call("gh__delete", path="/x"), head)
        assert common(answer).body_mutation.body == call("delete", path="/x")
        assert answer.dynamic_metadata.fields["mcp_proxy"].struct_value.fields["tool"].string_value == "delete"
        exchange = await asking(running, answer, head, pieces=pieces, trailers=trailers)
        question = await begun(exchange)
        await reply(running, head, question["id"], "accept")
        assert await event(exchange) == json.loads(RESULT)
        last = await exchange.receive()
        assert last.streamed_immediate_response.body_response.end_of_stream
        assert last.dynamic_metadata.fields["mcp_proxy"].struct_value.fields["consent"].string_value == "given"
        assert (await exchange.end()).name == "OK"
    assert door.bodies == [call("gh__delete", path="/x")]


async def test_who_has_a_certificate_has_it_when_the_call_runs(transport: Transport) -> None:
    """The request that passes once more comes from the worker, and the filter that asks is told of no caller."""
    door = FrontDoor()
    async with vetting(transport, door, BY_CERTIFICATE) as running:
        running.certificate = "zoe"
        zoe = Principal("certificate", "mtls", "zoe")
        head = fields(running, seal(running._sealer, client_flags=FORMS, principal=zoe.key))
        exchange = await asking(running, await decided(running, call("gh__delete"), head), head)
        await reply(running, head, (await begun(exchange))["id"], "accept")
        assert await event(exchange) == json.loads(RESULT)
    assert [headers[CERTIFICATE_HEADER] for headers in door.headers] == ["zoe"]


async def test_what_came_of_it_is_in_the_metadata(transport: Transport) -> None:
    async with vetting(transport, FrontDoor()) as running:
        head = fields(running)
        exchange = await asking(running, await decided(running, call("gh__delete"), head), head)
        await reply(running, head, (await begun(exchange))["id"], "decline")
        assert (await event(exchange))["error"]["data"] == {"reason": "consent_declined"}
        facts = (await exchange.receive()).dynamic_metadata.fields["mcp_proxy"].struct_value.fields
        assert facts["consent"].string_value == "declined"
        assert facts["error_reason"].string_value == "consent_declined"


async def test_responses_that_come_along_are_let_pass(transport: Transport) -> None:
    """The event stream of the filter behind passes the one in front."""
    async with vetting(transport, FrontDoor()) as running:
        running.brings_response = True
        exchange = await running.posted(call("gh__delete"), fields(running))
        assert kind(await exchange.receive()) == "request_headers"
        assert (await exchange.end()).name == "OK"


async def test_a_client_that_leaves_is_waited_for_no_more(transport: Transport) -> None:
    door = FrontDoor()
    async with vetting(transport, door) as running:
        head = fields(running)
        exchange = await asking(running, await decided(running, call("gh__delete"), head), head)
        await begun(exchange)
        exchange.cancel()
        calls: Any = running.processor.vetted
        await eventually(lambda: not calls._waiting and not calls._held.total, "nobody waits")
    assert not door.bodies


async def test_what_no_worker_has_decided_is_not_asked_about(transport: Transport) -> None:
    """Such a request must not pass: Envoy would send it on if the stream ended well."""
    async with vetting(transport, FrontDoor()) as running:
        head = fields(running)
        for told in ("", "made up"):
            answer = pb.ProcessingResponse()
            answer.dynamic_metadata.fields[VETTING_NAMESPACE].struct_value.fields[CALL_KEY].string_value = told
            answer.request_headers.response.body_mutation.body = call("delete")
            exchange = await asking(running, answer, head)
            assert (await exchange.receive()).immediate_response.status.code == 500


async def test_a_stream_that_breaks_does_not_end_well(transport: Transport) -> None:
    """Before the head that would let the request pass; after it, the client would wait for ever."""

    async def fails(_: Any) -> Any:
        raise AssertionError("a bug")

    async with vetting(transport, FrontDoor()) as running:
        head = fields(running)
        answer = await decided(running, call("gh__delete"), head)
        exchange = await asking(running, answer, head)
        question = await begun(exchange)
        calls: Any = running.processor.vetted
        calls._run = fails
        await reply(running, head, question["id"], "accept")
        with pytest.raises(Ended) as ended:
            await exchange.receive()
        assert "OK" not in str(ended.value)
        # Before a body came, it ends as Envoy ends it: undecided.
        unfinished = running.client.exchange(**{VETTING_KEY: "1"})
        await unfinished.send(headers_message(head))
        await unfinished.half_close()
        assert (await unfinished.end()).name == "ABORTED"


async def test_a_worker_that_drains_asks_no_longer(transport: Transport) -> None:
    async with vetting(transport, FrontDoor()) as running:
        head = fields(running)
        exchange = await asking(running, await decided(running, call("gh__delete"), head), head)
        await begun(exchange)
        calls: Any = running.processor.vetted
        stopping = asyncio.create_task(running.server.stop(10))
        calls.close()
        assert (await event(exchange))["method"] == "notifications/cancelled"
        assert (await event(exchange))["error"]["data"] == {"reason": "consent_closed"}
        assert (await exchange.receive()).streamed_immediate_response.body_response.end_of_stream
        await exchange.half_close()
        await stopping
