"""Every rule that a client can break, and the error that RFC 9113 has for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mcp_extproc.extproc.http2 import frames
from mcp_extproc.extproc.http2.connection import ConnectionEnded, Limits, RequestReceived, StreamReset
from tests.unit.extproc.http2.peer import LARGEST, Peer, data

LIMITS = Limits(streams=3, header_bytes=20_000, stream_window=70_000, connection_window=100_000)


@dataclass(frozen=True)
class Case:
    """A client with stream 1 open, 3 half closed, 5 reset by us, 7 reset by itself and 9 over breaks a rule."""

    name: str
    code: int
    says: Callable[[Peer], bytes]
    stream: int = 0
    """On which it is an error; 0 for one of the connection."""


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> Callable[[Peer], bytes]:
    return lambda _: frames.frame(kind, flags, stream, payload)


def begun(*then: bytes) -> Callable[[Peer], bytes]:
    """A header block that is not at its end, and what follows."""
    return lambda _: b"".join((frames.frame(frames.HEADERS, 0, 11, b""), *then))


PRIORITY_PADDED = frames.WITH_PRIORITY | frames.PADDED | frames.END_HEADERS
CONTINUATION = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 11, b"")
WIDE = frames.window_update(1, LARGEST - 65_535)
MUCH = data(1, bytes(16_000))
PING = frames.frame(frames.PING, 0, 0, bytes(8))
PROTOCOL = frames.PROTOCOL_ERROR
SIZE = frames.FRAME_SIZE_ERROR
FLOW = frames.FLOW_CONTROL_ERROR
CLOSED = frames.STREAM_CLOSED
TRAILERS = b"\0\x01a\x01b"

CASES = [
    # 4.2
    Case("frame too large", SIZE, frame(0xAA, 0, bytes(16_385))),
    Case("data too large", SIZE, frame(frames.DATA, 1, bytes(16_385))),
    # 6.1
    Case("data on 0", PROTOCOL, frame(frames.DATA, 0, b"x")),
    Case("data on idle", PROTOCOL, frame(frames.DATA, 99, b"x")),
    Case("data on even", PROTOCOL, frame(frames.DATA, 2, b"x")),
    Case("data on half closed", CLOSED, frame(frames.DATA, 3, b"x"), 3),
    Case("data after own reset", CLOSED, frame(frames.DATA, 7, b"x"), 7),
    Case("data after the end", CLOSED, frame(frames.DATA, 9, b"x"), 9),
    Case("data with too much padding", PROTOCOL, frame(frames.DATA, 1, b"\x03abc"[:3], frames.PADDED)),
    Case("data with nothing but its padding's length", PROTOCOL, frame(frames.DATA, 1, b"\x01", frames.PADDED)),
    Case("data without its padding's length", SIZE, frame(frames.DATA, 1, b"", frames.PADDED)),
    Case("more than the stream's window", FLOW, lambda _: data(1, bytes(14_001)) * 5, 1),
    Case("more than the connection's window", FLOW, lambda peer: MUCH * 4 + peer.headers(11) + data(11, bytes(16_000)) * 3),
    # 6.2
    Case("headers on 0", PROTOCOL, lambda peer: peer.headers(0)),
    Case("headers on even", PROTOCOL, lambda peer: peer.headers(12)),
    Case("headers on a number that was left out", PROTOCOL, lambda peer: peer.headers(13) + peer.headers(11)),
    Case("headers after the end", PROTOCOL, lambda peer: peer.headers(9)),
    Case("trailers on half closed", CLOSED, frame(frames.HEADERS, 3, TRAILERS, 5), 3),
    Case("trailers that end nothing", PROTOCOL, frame(frames.HEADERS, 1, TRAILERS, frames.END_HEADERS), 1),
    Case("trailers with a pseudo-header", PROTOCOL, lambda peer: peer.headers(1, [(":path", "/")], end=True), 1),
    Case("a request as trailers", PROTOCOL, lambda peer: peer.headers(1, end=True), 1),
    Case("trailers in upper case", PROTOCOL, frame(frames.HEADERS, 1, b"\0\x01A\x01b", 5), 1),
    Case("headers with too much padding", PROTOCOL, frame(frames.HEADERS, 11, b"\x05abcd", frames.PADDED | 4)),
    Case("headers without padding's length", SIZE, frame(frames.HEADERS, 11, b"", frames.PADDED | 4)),
    Case("headers without priority", SIZE, frame(frames.HEADERS, 11, b"abcd", frames.WITH_PRIORITY | 4)),
    Case("headers without priority or padding", SIZE, frame(frames.HEADERS, 11, b"\0abcd", PRIORITY_PADDED)),
    Case("padding where priority should be", PROTOCOL, frame(frames.HEADERS, 11, b"\x02abcdef", PRIORITY_PADDED)),
    Case("block that is cut", frames.COMPRESSION_ERROR, frame(frames.HEADERS, 11, b"\0\x05ab", 4)),
    Case("block that refers to no table", frames.COMPRESSION_ERROR, frame(frames.HEADERS, 11, b"\xbe", 4)),
    Case("block with a table", frames.COMPRESSION_ERROR, frame(frames.HEADERS, 11, b"\x3f\xe1\x1f", 4)),
    Case("late block that can't be read", frames.COMPRESSION_ERROR, frame(frames.HEADERS, 5, b"\xbe", 5)),
    Case("header list too large", frames.ENHANCE_YOUR_CALM, frame(frames.HEADERS, 11, b"\x90" * 1000, 4)),
    # 6.3
    Case("priority on 0", PROTOCOL, frame(frames.PRIORITY, 0, bytes(5))),
    Case("priority too short", SIZE, frame(frames.PRIORITY, 1, bytes(4))),
    Case("priority too long on idle", SIZE, frame(frames.PRIORITY, 99, bytes(6))),
    # 6.4
    Case("reset on 0", PROTOCOL, frame(frames.RST_STREAM, 0, word(8))),
    Case("reset on idle", PROTOCOL, frame(frames.RST_STREAM, 99, word(8))),
    Case("reset on even", PROTOCOL, frame(frames.RST_STREAM, 4, word(8))),
    Case("reset too short", SIZE, frame(frames.RST_STREAM, 1, bytes(3))),
    Case("reset too long", SIZE, frame(frames.RST_STREAM, 1, bytes(5))),
    # 6.5
    Case("settings on a stream", PROTOCOL, frame(frames.SETTINGS, 1, b"")),
    Case("settings cut", SIZE, frame(frames.SETTINGS, 0, bytes(7))),
    Case("acknowledgement with settings", SIZE, frame(frames.SETTINGS, 0, bytes(6), frames.ACK)),
    Case("windows too large by a setting", FLOW, lambda _: WIDE + frames.settings({4: 65_536})),
    # 6.6
    Case("push", PROTOCOL, frame(frames.PUSH_PROMISE, 1, word(2), frames.END_HEADERS)),
    # 6.7
    Case("ping on a stream", PROTOCOL, frame(frames.PING, 1, bytes(8))),
    Case("ping too short", SIZE, frame(frames.PING, 0, bytes(7))),
    Case("ping too long", SIZE, frame(frames.PING, 0, bytes(9), frames.ACK)),
    # 6.8
    Case("goaway on a stream", PROTOCOL, frame(frames.GOAWAY, 1, bytes(8))),
    Case("goaway too short", SIZE, frame(frames.GOAWAY, 0, bytes(7))),
    # 6.9
    Case("window update of nothing", PROTOCOL, frame(frames.WINDOW_UPDATE, 0, word(0))),
    Case("window update of nothing but the reserved bit", PROTOCOL, frame(frames.WINDOW_UPDATE, 0, word(1 << 31))),
    Case("stream's window update of nothing", PROTOCOL, frame(frames.WINDOW_UPDATE, 1, word(0)), 1),
    Case("window update too short", SIZE, frame(frames.WINDOW_UPDATE, 1, bytes(3))),
    Case("window update too long", SIZE, frame(frames.WINDOW_UPDATE, 0, bytes(5))),
    Case("window update on idle", PROTOCOL, frame(frames.WINDOW_UPDATE, 99, word(1))),
    Case("window update on even", PROTOCOL, frame(frames.WINDOW_UPDATE, 4, word(1))),
    Case("connection's window too large", FLOW, frame(frames.WINDOW_UPDATE, 0, word(LARGEST))),
    Case("stream's window too large", FLOW, frame(frames.WINDOW_UPDATE, 1, word(LARGEST)), 1),
    # 6.10
    Case("continuation of nothing", PROTOCOL, frame(frames.CONTINUATION, 1, b"", 4)),
    Case("continuation of an ended block", PROTOCOL, lambda peer: peer.headers(11) + CONTINUATION),
    Case("continuation of another stream's", PROTOCOL, begun(frames.frame(frames.CONTINUATION, 4, 13, b""))),
    Case("block interrupted by data", PROTOCOL, begun(data(1, b"x"))),
    Case("block interrupted by ping", PROTOCOL, begun(PING)),
    Case("block interrupted by headers", PROTOCOL, begun(frames.frame(frames.HEADERS, 0, 11, b""))),
    Case("block interrupted by an unknown frame", PROTOCOL, begun(frames.frame(0xAA, 0, 11, b""))),
    Case("block too large", frames.ENHANCE_YOUR_CALM, begun(*[frames.frame(frames.CONTINUATION, 0, 11, bytes(10_001))] * 2)),
]  # fmt: skip


@pytest.fixture
def peer() -> Peer:
    peer = Peer(LIMITS)
    peer.open()
    peer.open(end=True)
    peer.connection.reset_stream(peer.open(), frames.CANCEL)
    peer.send(frames.rst_stream(peer.open(), frames.CANCEL))
    peer.connection.end_stream(peer.open(end=True), TRAILERS)
    peer.answers()
    return peer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_violation(peer: Peer, case: Case) -> None:
    events = peer.send(case.says(peer))
    answers = peer.answers()
    if case.stream:
        assert peer.connection.is_over is False
        resets = [answer for answer in answers if answer.kind == frames.RST_STREAM]
        assert [(reset.stream, reset.word) for reset in resets] == [(case.stream, case.code)]
        was_open = case.stream in (1, 3)
        assert [event for event in events if isinstance(event, StreamReset)] == [
            StreamReset(case.stream, case.code)
        ] * was_open
        assert not peer.connection.is_open(case.stream)
        # Others go on.
        assert isinstance(peer.send(peer.headers(101))[0], RequestReceived)
        return
    assert peer.connection.is_over
    goaway = answers[-1]
    assert goaway.kind == frames.GOAWAY
    assert int.from_bytes(goaway.payload[4:8], "big") == case.code
    assert isinstance(ended := events[-1], ConnectionEnded)
    assert ended.code == case.code
    assert goaway.payload[8:].decode() == ended.why
    # All streams that were open end too, and nothing is heard any more.
    assert {event.stream for event in events if isinstance(event, StreamReset)} >= {1, 3}
    assert not peer.connection.is_open(1)
    assert peer.send(peer.headers(101)) == []
    assert peer.connection.take() == b""


def test_the_one_goaway_names_the_last_stream(peer: Peer) -> None:
    peer.send(frames.frame(frames.PUSH_PROMISE, 0, 1, b""))
    peer.connection.go_away()
    (goaway,) = peer.answers()
    assert goaway.word == 9


@pytest.mark.parametrize(
    "says",
    [
        frame(frames.DATA, 5, b"late"),
        frame(frames.HEADERS, 5, TRAILERS, frames.END_HEADERS | frames.END_STREAM),
        frame(frames.WINDOW_UPDATE, 5, word(1)),
        frame(frames.RST_STREAM, 5, word(8)),
        frame(frames.RST_STREAM, 7, word(8)),
        frame(frames.WINDOW_UPDATE, 7, word(0)),
        frame(frames.WINDOW_UPDATE, 9, word(1)),
        frame(frames.RST_STREAM, 9, word(0)),
        frame(frames.WINDOW_UPDATE, 3, word(1)),
        frame(frames.PRIORITY, 99, bytes(5)),
        frame(frames.PRIORITY, 9, bytes(5)),
        frame(frames.PRIORITY, 2, bytes(5)),
        frame(frames.PING, 0, bytes(8), frames.ACK),
        frame(0xAA, 99, b"x"),
        frame(0xAA, 0, b"x", 0xFF),
        frame(frames.GOAWAY, 0, bytes(8) + b"bye"),
        frame(frames.RST_STREAM, 1 << 31 | 5, word(8)),
        frame(frames.DATA, 1, b"\0", frames.PADDED),
    ],
)
def test_what_has_to_be_ignored(peer: Peer, says: Callable[[Peer], bytes]) -> None:
    assert peer.send(says(peer)) == []
    assert peer.connection.take() == b""
    assert peer.connection.is_open(1)
