"""What is written by hand is what the protobuf library reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc import wire
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import forwarding, messages
from mcp_extproc.gateway.decision import Forward, ForwardPlan, Reply
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.request import RequestHead

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
SCALARS = TEXT | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
STRUCTS = st.dictionaries(TEXT, SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3))
FACTS = st.builds(
    RequestFacts,
    method=st.none() | TEXT,
    params=st.none() | st.dictionaries(TEXT, SCALARS, max_size=3),
    session=st.none() | TEXT,
    server=st.none() | TEXT,
    named=st.none() | st.tuples(st.sampled_from(["tool", "prompt"]), TEXT),
    batch=st.none() | st.integers(0, 100),
    repair=st.booleans(),
    unavailable=st.lists(TEXT, max_size=3).map(tuple),
    native=st.booleans(),
)
HEADERS = st.lists(st.tuples(st.text("abc-:", min_size=1), st.text(st.characters(max_codepoint=255)))).map(tuple)
IDS = st.none() | (st.integers() | TEXT).map(lambda value: json.dumps(value).encode())
BYTES = st.binary(max_size=70_000)


def read(answer: bytes) -> pb.ProcessingResponse:
    return pb.ProcessingResponse.FromString(answer)


def mutation(of: pb.HeaderMutation) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    overwrite = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    assert all(option.append_action == overwrite for option in of.set_headers)
    fields = tuple((option.header.key, option.header.raw_value.decode("latin-1")) for option in of.set_headers)
    return fields, tuple(of.remove_headers)


def told(answer: pb.ProcessingResponse) -> dict[str, Any]:
    metadata: dict[str, Any] = json_format.MessageToDict(answer.dynamic_metadata)
    assert set(metadata) == {"mcp_proxy"}
    facts: dict[str, Any] = metadata["mcp_proxy"]
    return facts


def as_struct(facts: dict[str, Any]) -> dict[str, Any]:
    struct = Struct()
    struct.update(facts)
    read: dict[str, Any] = json_format.MessageToDict(struct)
    return read


@given(st.integers(0, 2**63 - 1))
def test_varints(number: int) -> None:
    assert pb.HttpStatus.FromString(b"\x08" + wire.varint(number % 2**31)).code == number % 2**31
    assert len(wire.varint(number)) == max(1, -(-number.bit_length() // 7))


@given(STRUCTS)
def test_structs(facts: dict[str, Any]) -> None:
    assert json_format.MessageToDict(Struct.FromString(wire.struct_of(facts))) == as_struct(facts)


@given(HEADERS, HEADERS, st.lists(st.text("abc-")).map(tuple), BYTES, FACTS, IDS)
def test_forwards(headers: Any, own: Any, gone: Any, body: bytes, facts: RequestFacts, id: bytes | None) -> None:
    forward = Forward(ForwardPlan("a", headers, gone, facts), body, own, id)
    answer = read(forwarding.forward(forward, RequestHead("POST", "/", {})))
    common = answer.request_headers.response
    assert mutation(common.header_mutation) == (headers + own, gone)
    assert common.status == pb.CommonResponse.CONTINUE_AND_REPLACE
    assert common.clear_route_cache
    assert common.body_mutation.WhichOneof("mutation") == "body"
    assert common.body_mutation.body == body
    assert told(answer) == as_struct(forward.facts.metadata())


@given(HEADERS, st.lists(st.text("abc-")).map(tuple), FACTS)
def test_forwards_of_heads(headers: Any, gone: Any, facts: RequestFacts) -> None:
    answer = read(messages.forward_headers(Forward(ForwardPlan("a", headers, gone, facts), b"")))
    assert mutation(answer.request_headers.response.header_mutation) == (headers, gone)
    assert answer.mode_override.response_header_mode == pb.ProcessingMode.SEND
    assert told(answer) == as_struct(facts.metadata())


@given(st.integers(200, 599), HEADERS, BYTES, FACTS)
def test_replies(status: int, headers: Any, body: bytes, facts: RequestFacts) -> None:
    answer = read(messages.reply(Reply(status, body, headers, facts)))
    immediate = answer.immediate_response
    assert (immediate.status.code, immediate.body, mutation(immediate.headers)) == (status, body, (headers, ()))
    assert immediate.details.startswith("mcp_")
    assert told(answer) == as_struct({**facts.metadata(), "answered": True})


@given(BYTES, st.booleans())
def test_streams(chunk: bytes, end: bool) -> None:
    body = read(messages.stream_chunk(chunk, end=end)).streamed_immediate_response.body_response
    assert (body.body, body.end_of_stream) == (chunk, end)


@given(BYTES)
def test_pieces_of_responses(body: bytes) -> None:
    changed = read(messages.response_piece(body)).response_body.response.body_mutation
    assert changed.WhichOneof("mutation") == ("body" if body else "clear_body")
    assert changed.body == body


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"\x12\x02\x0a\x05"])
def test_bytes_that_are_no_message(raw: bytes) -> None:
    with pytest.raises(messages.Unreadable):
        messages.read(raw)


@given(BYTES, st.booleans())
def test_whole_bodies_are_read_without_the_library(body: bytes, end: bool) -> None:
    message = pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end))
    raw = message.SerializeToString()
    message.metadata_context.SetInParent()  # as Envoy 1.40 does
    for sent in (raw, message.SerializeToString()):
        assert messages.whole_body(sent) == (body or None)
        assert messages.read(sent).request_body.body == body


@given(BYTES, st.booleans(), st.none() | STRUCTS)
def test_pieces_of_responses_are_read_without_the_library(body: bytes, end: bool, told: dict[str, Any] | None) -> None:
    message = pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end))
    if told is not None:
        message.metadata_context.filter_metadata["a"].update(told)
    assert messages.piece_of_response(message.SerializeToString()) == ((body, end) if body else None)


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda raw: b"\x2a\x0c\x0a\x08" + raw))
def test_what_is_no_piece_is_left_to_the_library(raw: bytes) -> None:
    piece = messages.piece_of_response(raw)
    if piece is not None:
        message = messages.read(raw)
        assert message.WhichOneof("request") == "response_body"
        assert (message.response_body.body, message.response_body.end_of_stream) == piece


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda raw: b"\x22\x0c\x0a\x08" + raw))
def test_what_is_no_body_is_left_to_the_library(raw: bytes) -> None:
    body = messages.whole_body(raw)
    if body is not None:
        message = messages.read(raw)
        assert message.WhichOneof("request") == "request_body"
        assert message.request_body.body == body


def test_a_body_with_more_to_it_is_left_to_the_library() -> None:
    message = pb.ProcessingRequest(request_body=pb.HttpBody(body=b"x"))
    message.attributes["a"].fields["b"].string_value = "c"
    assert messages.whole_body(message.SerializeToString()) is None
    assert messages.whole_body(pb.ProcessingRequest(response_body=message.request_body).SerializeToString()) is None


@pytest.mark.parametrize(("seconds", "asked"), [(5.0, 5.0), (0.05, 0.05), (3600.0, 3600.0), (4805.0, 3600.0)])
def test_envoy_is_asked_for_no_more_time_than_it_gives(seconds: float, asked: float) -> None:
    timeout = read(messages.more_time(seconds)).override_message_timeout
    assert timeout.seconds + timeout.nanos / 1e9 == pytest.approx(asked)
