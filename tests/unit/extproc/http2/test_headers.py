"""Header blocks: with a table until our settings are acknowledged, alone from then on; and what a request may say."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder

from mcp_extproc.extproc.http2 import frames, grpc
from mcp_extproc.extproc.http2.connection import ConnectionEnded, Limits, RequestReceived
from tests.unit.extproc.http2.peer import FORGET_TABLE, REQUEST, Fields, Peer

HEADERS = dict(REQUEST)


def request(stream: int, block: bytes) -> bytes:
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)


def early() -> Peer:
    """A client that has not read our settings yet."""
    peer = Peer(greet=False)
    peer.send(frames.PREFACE, frames.settings({}))
    return peer


def test_a_table_may_be_used_until_ours_is_known() -> None:
    peer, encoder = early(), Encoder()
    first, second = encoder.encode(REQUEST), encoder.encode(REQUEST)
    assert len(second) < len(first)
    for stream in (1, 3, 5, 7):
        block = first if stream == 1 else second
        assert peer.send(request(stream, block)) == [RequestReceived(stream, HEADERS)]

    assert peer.send(frames.SETTINGS_ACK) == []
    encoder.header_table_size = 0
    alone = encoder.encode(REQUEST)
    assert alone[:1] == FORGET_TABLE
    for stream in (9, 11):
        assert peer.send(request(stream, alone)) == [RequestReceived(stream, HEADERS)]


def test_the_same_bytes_mean_what_the_table_makes_of_them() -> None:
    peer = early()
    fields = Encoder().encode(REQUEST[:2]) + b"\x84"
    newest = fields + b"\xbe"
    stream = 1
    for value in (b"a", b"b", b"a", b"c"):
        peer.send(request(stream, fields + b"\x40\x01x\x01" + value))
        (got,) = peer.send(request(stream + 2, newest))
        assert isinstance(got, RequestReceived)
        assert got.headers["x"] == value.decode()
        stream += 4


def test_the_table_may_go_and_come_back_until_ours_is_known() -> None:
    # Blocks that were read while the table was gone are no key to those that follow its return.
    peer = early()
    gone, back = b"\x20", b"\x3f\xe1\x1f"
    fields = Encoder().encode(REQUEST[:2]) + b"\x84"
    adds = back + fields + b"\x40\x01x\x01y"
    refers = fields + b"\xbe"
    stream = 1
    for _ in range(3):
        for block in (gone + fields, adds, refers):
            (got,) = peer.send(request(stream, block))
            assert isinstance(got, RequestReceived)
            assert got.headers.get("x") == (None if block == gone + fields else "y")
            stream += 2


@pytest.mark.parametrize("size", [0, 100, 4095, 4096, 10_000])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_smaller_table_of_the_clients_is_agreed_to_once(size: int, at_once: bool) -> None:
    peer = Peer()
    decoder = Decoder()
    decoder.max_allowed_table_size = size
    peer.send(frames.settings({frames.HEADER_TABLE_SIZE: size}))
    for _ in range(3):
        stream = peer.open(end=True)
        if not at_once:
            peer.connection.send_headers(stream, grpc.HEAD)
        peer.connection.end_stream(stream, grpc.HEAD if at_once else grpc.TRAILERS_OK)
    peer.send(frames.settings({frames.HEADER_TABLE_SIZE: size}))
    peer.connection.end_stream(peer.open(end=True), grpc.HEAD)
    blocks = [frame.payload for frame in peer.answers() if frame.kind == frames.HEADERS]
    assert [block[:1] == FORGET_TABLE for block in blocks] == [size < 4096] + [False] * (len(blocks) - 1)
    for block in blocks:
        decoder.decode(block)


@pytest.mark.parametrize("block", [FORGET_TABLE, b"\x3f\xe1\x1f"])
def test_the_table_has_to_go_once_ours_is_known(block: bytes) -> None:
    peer = Peer()
    peer.send(request(1, block + Encoder().encode(REQUEST[:2]) + b"\x84"))
    ended = peer.ended()
    if block == FORGET_TABLE:
        assert ended is None
    else:
        assert ended == ConnectionEnded(frames.COMPRESSION_ERROR, "a header block can't be read")


def test_a_client_that_keeps_its_table() -> None:
    peer = Peer()
    peer.send(request(1, Encoder().encode(REQUEST)))
    assert (ended := peer.ended()) is not None
    assert ended.code == frames.COMPRESSION_ERROR


def test_blocks_of_refused_streams_count_for_the_table() -> None:
    peer = Peer(Limits(streams=1), greet=False)
    peer.send(frames.PREFACE, frames.settings({}))
    encoder = Encoder()
    peer.send(request(1, encoder.encode([*REQUEST[:2], (":path", "/")])))
    refused = encoder.encode([*REQUEST, ("x", "y")])
    assert peer.send(request(3, refused)) == []
    peer.send(frames.rst_stream(1, frames.CANCEL))
    (got,) = peer.send(request(5, encoder.encode([*REQUEST, ("x", "y")])))
    assert got == RequestReceived(5, {**HEADERS, "x": "y"})


def test_blocks_of_late_trailers_count_for_the_table() -> None:
    peer, encoder = early(), Encoder()
    peer.send(request(1, encoder.encode(REQUEST)))
    peer.connection.reset_stream(1, frames.CANCEL)
    peer.send(frames.frame(frames.HEADERS, 5, 1, encoder.encode([("x", "y")])))
    (got,) = peer.send(request(3, encoder.encode([*REQUEST, ("x", "y")])))
    assert got == RequestReceived(3, {**HEADERS, "x": "y"})


def test_a_known_block_is_read_as_the_first_time() -> None:
    peer = Peer()
    blocks = [peer.block([*REQUEST, ("x", str(number))]) for number in range(600)]
    for turn in range(2):
        for number, block in enumerate(blocks):
            stream = 1 + 2 * (turn * len(blocks) + number)
            assert peer.send(request(stream, block)) == [RequestReceived(stream, {**HEADERS, "x": str(number)})]
            peer.connection.end_stream(stream, b"\x88")


def test_a_known_block_that_comes_in_parts() -> None:
    peer = Peer()
    block = peer.block()
    peer.send(request(1, block))
    first = frames.frame(frames.HEADERS, 0, 3, block[:5])
    assert peer.send(first, frames.frame(frames.CONTINUATION, 4, 3, block[5:])) == [RequestReceived(3, HEADERS)]


def test_headers_can_not_be_changed() -> None:
    peer = Peer()
    (got,) = peer.send(peer.headers(1))
    assert isinstance(got, RequestReceived)
    with pytest.raises(TypeError):
        got.headers["x"] = "y"  # type: ignore[index]


def test_repeated_headers_are_joined() -> None:
    peer = Peer()
    (got,) = peer.send(peer.headers(1, [*REQUEST, ("x", "a"), ("y", ""), ("x", "b")]))
    assert got == RequestReceived(1, {**HEADERS, "x": "a, b", "y": ""})


PSEUDO = REQUEST[:4]


def without(name: str) -> Fields:
    return [field for field in REQUEST if field[0] != name]


@pytest.mark.parametrize(
    "fields",
    [
        [("x", "y"), *REQUEST],
        [*PSEUDO[:3], ("x", "y"), PSEUDO[3]],
        without(":method"),
        without(":scheme"),
        without(":path"),
        [*without(":path"), (":path", "")],
        [(":path", ""), *without(":path")],
        [(":method", "GET"), *REQUEST],
        [(":path", "/"), *REQUEST],
        [(":authority", "a"), *REQUEST],
        [(":status", "200"), *REQUEST],
        [(":protocol", "websocket"), *REQUEST],
        [(":", "x"), *REQUEST],
        [(":\xff", "x"), *REQUEST],
        [*REQUEST, ("X", "y")],
        [*REQUEST, ("x-Y", "z")],
        [*REQUEST, ("", "y")],
        [*REQUEST, ("a b", "y")],
        [*REQUEST, ("a:b", "y")],
        [*REQUEST, ("a\r\nb", "y")],
        [*REQUEST, ("a\0", "y")],
        [*REQUEST, ("a\x7f", "y")],
        [*REQUEST, ("\xe4", "y")],
        [*REQUEST, ("x", "a\rb")],
        [*REQUEST, ("x", "a\nb")],
        [*REQUEST, ("x", "a\0b")],
        [*REQUEST, ("x", " a")],
        [*REQUEST, ("x", "a ")],
        [*REQUEST, ("x", "\ta")],
        [*REQUEST, ("x", "a\t")],
        [*REQUEST, ("x", " ")],
        [*without(":path"), (":path", "/\r\nx: y")],
        [(":path", "/\r\nx: y"), *without(":path")],
        [(":path", " /"), *without(":path")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("keep-alive", "1")],
        [*REQUEST, ("proxy-connection", "close")],
        [*REQUEST, ("transfer-encoding", "chunked")],
        [*REQUEST, ("upgrade", "h2c")],
        [*REQUEST, ("te", "gzip")],
        [],
    ],
    ids=repr,
)
def test_malformed_requests(fields: Fields) -> None:
    peer = Peer()
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    encoder = Encoder()
    encoder.header_table_size = 0
    encoder.encode([])
    block = FORGET_TABLE + encoder.encode(raw)
    for stream in (1, 3):  # a block that was seen before is no better
        assert peer.send(request(stream, block)) == []
        (reset,) = peer.answers()
        assert (reset.kind, reset.stream, reset.word) == (frames.RST_STREAM, stream, frames.PROTOCOL_ERROR)
        assert not peer.connection.is_open(stream)
    assert peer.send(peer.headers(5)) == [RequestReceived(5, HEADERS)]


@pytest.mark.parametrize(
    "field", [("te", "trailers"), ("x", "a b\tc"), ("x", ""), ("x", "\xe4\x7f\x01"), ("a!#$%&'*+-.^_`|~9", "y")]
)
def test_what_a_field_may_be(field: tuple[str, str]) -> None:
    peer = Peer()
    encoder = Encoder()
    encoder.header_table_size = 0
    encoder.encode([])
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in [*without("te"), field]]
    (got,) = peer.send(request(1, FORGET_TABLE + encoder.encode(raw)))
    assert isinstance(got, RequestReceived)
    assert got.headers[field[0]] == field[1]


def test_as_many_header_bytes_as_are_allowed() -> None:
    # Each field counts 32 bytes more than it has (RFC 7541, section 4.1).
    used = sum(len(name) + len(value) + 32 for name, value in REQUEST)
    peer = Peer(Limits(header_bytes=2000))
    room = 2000 - used - 32 - 1
    assert peer.send(peer.headers(1, [*REQUEST, ("x", "y" * room)])) != []
    peer.answers()
    peer.send(peer.headers(3, [*REQUEST, ("x", "y" * (room + 1))]))
    assert peer.ended() == ConnectionEnded(frames.ENHANCE_YOUR_CALM, "a header list is too large")


def test_a_block_in_one_frame_is_bounded_too() -> None:
    peer = Peer(Limits(header_bytes=2000))
    peer.send(request(1, FORGET_TABLE * 2001))
    assert peer.ended() == ConnectionEnded(frames.ENHANCE_YOUR_CALM, "a header block is too large")
