"""A response whose answer has come with its head: Envoy gets it in one message. Else nobody waits for more than has come."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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


def head(*more: tuple[str, str]) -> bytes:
    fields = [(":status", "200"), ("content-type", "text/event-stream"), *more]
    return pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=header_map(fields))).SerializeToString()


HEAD = head()

PROGRESS = notification("notifications/progress", {"progressToken": 5, "progress": 1})


def exchange(token: bytes | None = b"5") -> ResponseExchange:
    gateway = Rig().gateway
    shared = Shared(gateway, FakeUpstreams(), FakeStreams(), vetted_calls(gateway), Counters(), lambda: NOW)
    expected = Relays().response(call=Call("tools/call", token))
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


def whole(head: bytes, token: bytes | None, bodies: list[bytes]) -> list[object]:
    """All that comes of a response whose pieces are in one read with its head, and what is true then."""
    reading = exchange(token)
    owed = reading.receive(head)
    assert callable(owed)
    answers = [reading.receive(piece(body, end=body == b"")) for body in bodies]
    told = [(reading.decided, reading.owes_head), owed(), reading.decided, reading.is_over, reading.fail()]
    reading.closed()
    return [answers, told]


_bodies = st.lists(
    st.sampled_from([
        event(result({})),
        event(result({"content": [{"type": "text", "text": "é"}], "isError": True})),
        event(result({"content": [{"type": "resource_link", "uri": "file:///a", "name": "a"}]})),
        event(result({}, id=2)),
        event(error(-32000)),
        event(notification("notifications/message", {"level": "info", "data": 1})),
        event(request(7, "ping")),
        event(result({})) * 2,
        event(result({}))[:-1],
        event(result({"text": "x" * 20_000})),
        b": ka\n\n",
        b"",
    ]),
    min_size=1,
    max_size=3,
)  # fmt: skip


@example(HEAD, None, [event(result({})), event(result({"isError": True})), b""])
@given(
    st.sampled_from([HEAD, HEAD, head(("content-encoding", "gzip")), head(("content-encoding", "odd"))]),
    st.sampled_from([None, None, b"5"]),
    _bodies,
)
def test_without_a_reader_it_is_the_same(head: bytes, token: bytes | None, bodies: list[bytes]) -> None:
    at_once = whole(head, token, bodies)
    with patch.object(ResponseExchange, "_usual_answer", lambda *_: None):
        assert whole(head, token, bodies) == at_once


@pytest.mark.parametrize("token", [None, b"5"], ids=["usual", "with progress"])
def test_a_usual_answer_needs_no_reader(token: bytes | None) -> None:
    reading = exchange(token)
    reading.receive(HEAD)
    with patch.object(responses.CallResponse, "__init__", side_effect=AssertionError("has one")):
        assert replaced(reading, event(result({}))) == event(result({}))


def test_an_answer_that_has_come_with_the_head_is_one_message() -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    assert not reading.decided
    assert replaced(reading, event(PROGRESS) + event(result({}))) == event(PROGRESS) + event(result({}))
    assert reading.decided
    assert owed() == []


@pytest.mark.parametrize("token", [None, b"5"], ids=["usual", "with progress"])
def test_what_comes_behind_it_is_not_answered(token: bytes | None) -> None:
    """Envoy drops it, and takes an answer that it does not expect for a fault."""
    reading = exchange(token)
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


@pytest.mark.parametrize(
    ("where", "what", "body"),
    [(responses, "answer_in", event(result({}))), (responses.CallResponse, "feeding", event(PROGRESS))],
    ids=["the usual", "by a reader"],
)
def test_where_reading_breaks_the_client_gets_an_error(
    monkeypatch: pytest.MonkeyPatch, where: object, what: str, body: bytes
) -> None:
    reading = exchange()
    owed = reading.receive(HEAD)
    assert callable(owed)
    monkeypatch.setattr(where, what, None)
    with pytest.raises(TypeError):
        reading.receive(piece(body))
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
