"""What is written by hand is what the protobuf library reads."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages, wire
from mcp_extproc.gateway.decision import Forward, Reply

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
SCALARS = TEXT | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
FACTS = st.dictionaries(TEXT, SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3))
HEADERS = st.lists(st.tuples(st.text("abc-:", min_size=1), st.text(st.characters(max_codepoint=255)))).map(tuple)
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


@given(FACTS)
def test_structs(facts: dict[str, Any]) -> None:
    assert json_format.MessageToDict(Struct.FromString(wire.struct_of(facts))) == as_struct(facts)


@given(HEADERS, st.lists(st.text("abc-")).map(tuple), BYTES, BYTES, FACTS)
def test_forwards(headers: Any, gone: Any, original: bytes, body: bytes, facts: dict[str, Any]) -> None:
    answer = read(messages.forward_with_body(Forward("a", headers, gone, body, facts), original))
    common = answer.request_body.response
    assert mutation(common.header_mutation) == (headers, gone)
    assert common.clear_route_cache
    assert common.HasField("body_mutation") == (body != original)
    assert common.body_mutation.body == (body if body != original else b"")
    assert told(answer) == as_struct(facts)


@given(HEADERS, st.lists(st.text("abc-")).map(tuple), FACTS)
def test_forwards_of_heads(headers: Any, gone: Any, facts: dict[str, Any]) -> None:
    answer = read(messages.forward_headers(Forward("a", headers, gone, b"", facts)))
    assert mutation(answer.request_headers.response.header_mutation) == (headers, gone)
    assert answer.mode_override.response_header_mode == pb.ProcessingMode.SEND
    assert told(answer) == as_struct(facts)


@given(st.integers(200, 599), HEADERS, BYTES, FACTS)
def test_replies(status: int, headers: Any, body: bytes, facts: dict[str, Any]) -> None:
    answer = read(messages.reply(Reply(status, body, headers, facts)))
    immediate = answer.immediate_response
    assert (immediate.status.code, immediate.body, mutation(immediate.headers)) == (status, body, (headers, ()))
    assert immediate.details.startswith("mcp_")
    assert told(answer) == as_struct({**facts, "answered": True})


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
