"""A response whose answer has come with its head: Envoy gets it in one message. Else nobody waits for more than has come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.response_exchange import ResponseExchange
from mcp_extproc.extproc.shared import Shared
from mcp_extproc.gateway.relay import responses
from mcp_extproc.gateway.relay.awaited import Awaited
from mcp_extproc.gateway.relay.server_messages import Call
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.telemetry.counters import Counters
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.rawclient import header_map
from tests.support.vetted import vetted_calls
from tests.unit.gateway.relay.support import Rig as Relays
from tests.unit.gateway.relay.support import error, notification, request, result
from tests.unit.gateway.support import NOW, Rig

HEAD = pb.ProcessingRequest(
    response_headers=pb.HttpHeaders(headers=header_map([(":status", "200"), ("content-type", "text/event-stream")]))
).SerializeToString()

PROGRESS = notification("notifications/progress", {"progressToken": 5, "progress": 1})


def exchange() -> ResponseExchange:
    gateway = Rig().gateway
    shared = Shared(gateway, FakeUpstreams(), FakeStreams(), vetted_calls(gateway), Counters(), lambda: NOW)
    expected = Relays().response(call=Call("tools/call", b"5"))
    return ResponseExchange(shared, Awaited(expected, (), RequestContext((), "", b"1", {})))


def event(message: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(message).encode()


def piece(body: bytes, *, end: bool = False) -> bytes:
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end)).SerializeToString()


def received(exchange: ResponseExchange, body: bytes, *, end: bool = False) -> list[pb.ProcessingResponse]:
    answers = exchange.receive(piece(body, end=end))
    assert isinstance(answers, list)
    return list(map(pb.ProcessingResponse.FromString, answers))


def replaced(exchange: ResponseExchange, body: bytes, *, end: bool = False) -> bytes:
    """What the client gets of a body that has come with its head, in one message."""
    [answer] = received(exchange, body, end=end)
    common = answer.response_headers.response
    assert common.status == common.CONTINUE_AND_REPLACE
    assert {"content-length", "content-encoding"} <= set(common.header_mutation.remove_headers)
    assert answer.dynamic_metadata.fields
    return common.body_mutation.body


def test_an_answer_that_has_come_with_the_head_is_one_message() -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    assert not reading.decided
    assert replaced(reading, event(PROGRESS) + event(result({}))) == event(PROGRESS) + event(result({}))
    assert reading.decided
    assert owed() == []


def test_what_comes_behind_it_is_not_answered() -> None:
    """Envoy drops it, and takes an answer that it does not expect for a fault."""
    reading = exchange()
    reading.receive(HEAD)
    replaced(reading, event(result({})))
    assert received(reading, event(result({"isError": True}, id=2))) == []
    assert received(reading, b"", end=True) == []
    assert reading.receive(pb.ProcessingRequest(response_trailers=pb.HttpTrailers()).SerializeToString()) == []
    assert reading.fail() == []


def test_an_error_is_told_with_it() -> None:
    reading = exchange()
    reading.receive(HEAD)
    [answer] = received(reading, event(error(-32000)))
    facts = answer.dynamic_metadata.fields["mcp_proxy"].struct_value.fields
    assert facts["error_code"].number_value == -32000


def test_nobody_waits_for_what_has_not_come() -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    assert owed() == [messages.READ_RESPONSE_BODY]
    assert reading.decided
    assert owed() == []
    [answer] = received(reading, event(result({})))
    assert answer.response_body.response.body_mutation.body == event(result({}))


@pytest.mark.parametrize(
    "begins", [PROGRESS, request(1, "ping"), result({}, id=9)], ids=["progress", "ping", "foreign"]
)
def test_a_stream_that_goes_on_is_read_on(begins: Any) -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    head, first = received(reading, event(begins))
    assert head.SerializeToString() == messages.READ_RESPONSE_BODY
    assert first.HasField("response_body")
    assert owed() == []
    [answer] = received(reading, event(result({})))
    assert answer.response_body.response.body_mutation.body == event(result({}))
    [foreign] = received(reading, event(result({}, id=9)))
    assert b"data: {" not in foreign.response_body.response.body_mutation.body


def test_a_stream_that_ends_without_an_answer_gets_one() -> None:
    reading = exchange()
    reading.receive(HEAD)
    assert b"-32603" in replaced(reading, b"", end=True)


def test_trailers_behind_the_head_are_the_end() -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    answers = reading.receive(pb.ProcessingRequest(response_trailers=pb.HttpTrailers()).SerializeToString())
    assert isinstance(answers, list)
    [answer] = map(pb.ProcessingResponse.FromString, answers)
    assert b"-32603" in answer.immediate_response.body
    assert reading.decided
    assert owed() == []


def test_where_reading_breaks_the_client_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    monkeypatch.setattr(responses.CallResponse, "feeding", None)
    with pytest.raises(TypeError):
        reading.receive(piece(event(result({}))))
    [apology] = reading.fail()
    assert b"-32603" in pb.ProcessingResponse.FromString(apology).immediate_response.body
    assert reading.decided
    assert owed() == []


async def test_the_head_does_not_wait_for_what_takes_time() -> None:
    reading = exchange()
    reading.receive(HEAD)
    large = event(result({"content": [{"type": "text", "text": "x" * 200_000}]}))
    answers = reading.receive(piece(large * 2))
    assert not isinstance(answers, list)
    assert not callable(answers)
    first, *rest = [answer async for answer in answers]
    assert first == messages.READ_RESPONSE_BODY
    assert len(rest) == 1
