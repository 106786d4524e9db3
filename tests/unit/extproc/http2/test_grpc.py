"""gRPC's own framing and header blocks."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.extproc.http2 import grpc


def decoded(block: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in Decoder().decode(block)]


def fed(messages: grpc.Messages, pieces: list[bytes]) -> list[bytes]:
    return [message for piece in pieces for message in messages.feed(piece)]


SENT = [b"", b"a", b"bcd" * 100, b"", b"\0\0\0\0\0", b"last"]
STREAM = b"".join(map(grpc.message, SENT))


def test_a_message_has_its_length_in_front() -> None:
    assert grpc.message(b"") == bytes(5)
    assert grpc.message(b"abc") == b"\0\0\0\0\x03abc"
    assert grpc.message(bytes(70_000))[:5] == b"\0\0\x01\x11\x70"


def test_messages_joined() -> None:
    assert grpc.Messages(1000).feed(STREAM) == SENT


def test_messages_one_by_one() -> None:
    messages = grpc.Messages(1000)
    assert fed(messages, [grpc.message(sent) for sent in SENT]) == SENT
    assert messages.is_empty


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_messages_in_pieces(size: int) -> None:
    messages = grpc.Messages(1000)
    assert fed(messages, [STREAM[at : at + size] for at in range(0, len(STREAM), size)]) == SENT
    assert messages.is_empty


@given(sent=st.lists(st.binary(max_size=40)), cuts=st.lists(st.integers(0, 300)))
def test_messages_cut_anywhere(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(grpc.message, sent))
    marks = [0, *sorted(cuts), len(stream) + 300]
    messages = grpc.Messages(40)
    assert fed(messages, [stream[a:b] for a, b in pairwise(marks)]) == sent
    assert messages.is_empty


def test_a_message_comes_with_its_last_byte() -> None:
    messages = grpc.Messages(1000)
    whole = grpc.message(b"abc")
    for byte in whole[:-1]:
        assert messages.feed(bytes((byte,))) == []
        assert not messages.is_empty
    assert messages.feed(whole[-1:]) == [b"abc"]


def test_nothing_is_no_part_of_a_message() -> None:
    messages = grpc.Messages(1000)
    assert messages.feed(b"") == []
    assert messages.is_empty


@pytest.mark.parametrize("before", [b"", grpc.message(b"x"), grpc.message(b"x")[:3]])
@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        (b"\1\0\0\0\0", grpc.UNIMPLEMENTED),
        (b"\x80\0\0\0\0", grpc.UNIMPLEMENTED),
        (b"\0\0\0\0\x0b", grpc.RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff", grpc.RESOURCE_EXHAUSTED),
    ],
)
def test_messages_that_are_refused(before: bytes, prefix: bytes, status: int) -> None:
    # As soon as their length is known: nothing is collected of what will not be read.
    messages = grpc.Messages(10)
    messages.feed(before)
    if len(before) == 3:
        messages.feed(grpc.message(b"x")[3:])
    with pytest.raises(grpc.GrpcError) as raised:
        messages.feed(prefix)
    assert raised.value.status == status


def test_a_refusal_tells_sizes_and_nothing_else() -> None:
    with pytest.raises(grpc.GrpcError, match="a message of 11 bytes is larger than 10") as raised:
        grpc.Messages(10).feed(grpc.message(b"secret12345"))
    assert "secret" not in raised.value.message


def test_the_largest_message() -> None:
    assert grpc.Messages(10).feed(grpc.message(bytes(10))) == [bytes(10)]


def test_pieces_are_held_in_no_more_than_their_bytes() -> None:
    messages = grpc.Messages(1 << 20)
    messages.feed(grpc.message(bytes(1 << 20))[:5])
    for _ in range(100_000):
        messages.feed(b"ab")
    assert messages._buffer.__sizeof__() < 200_000 * 1.2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("3S", 3),
        ("40m", 0.04),
        ("50u", 5e-5),
        ("60n", 6e-8),
        ("0S", 0),
        ("99999999S", 99999999),
    ],
)
def test_timeouts(value: str, seconds: float) -> None:
    assert grpc.timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "S", "1", "1s", "1.5S", "-1S", "+1S", " 1S", "1S ", "1S\n", "100000000S", "1S, 1S", "\u0661S"]
)
def test_what_is_no_timeout(value: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(value)}$"):
        grpc.timeout(value)


def test_blocks() -> None:
    assert decoded(grpc.HEAD) == [(":status", "200"), ("content-type", "application/grpc")]
    assert decoded(grpc.TRAILERS_OK) == [("grpc-status", "0")]
    assert decoded(grpc.NOT_GRPC) == [(":status", "415")]
    assert decoded(grpc.HEAD + grpc.trailers(12, "no")) == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "12"),
        ("grpc-message", "no"),
    ]


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain: text!", "plain: text!"),
        ("100%", "100%25"),
        ("a\r\nb\0", "a%0D%0Ab%00"),
        ("a\x1f\x20\x7e\x7f", "a%1F ~%7F"),
        ("grün", "gr%C3%BCn"),
        ("\N{SNOWMAN}", "%E2%98%83"),
        ("half of \ud800", "half of ?"),
        ("  edges  ", "edges"),
        ("x" * 1024 + "y", "x" * 1024),
        ("x" * 126, "x" * 126),
        ("x" * 127, "x" * 127),
        ("x" * 254, "x" * 254),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_message_in_trailers(text: str, encoded: str) -> None:
    assert decoded(grpc.trailers(13, text)) == [("grpc-status", "13"), ("grpc-message", encoded)]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_no_message_in_trailers(text: str) -> None:
    assert decoded(grpc.trailers(4, text)) == [("grpc-status", "4")]


@given(st.text(max_size=2000))
def test_whatever_a_message_says_it_is_a_headers_value(text: str) -> None:
    for name, value in decoded(grpc.trailers(2, text)):
        assert name in ("grpc-status", "grpc-message")
        assert value == value.strip()
        assert all(" " <= character <= "~" for character in value)
