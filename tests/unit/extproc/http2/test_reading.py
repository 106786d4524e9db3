"""What a client says in order, however it is cut."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_extproc.extproc.http2 import frames
from mcp_extproc.extproc.http2.connection import (
    ConnectionEnded,
    DataReceived,
    Event,
    Limits,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from tests.unit.extproc.http2.peer import REQUEST, Peer, data, padded


def conversation(peer: Peer) -> bytes:
    """Some of everything."""
    block = peer.block()
    return b"".join((
        frames.PREFACE,
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1000}),
        frames.SETTINGS_ACK,
        peer.headers(1),
        data(1, b"one"),
        frames.frame(frames.HEADERS, 0, 3, block[:10]),
        frames.frame(frames.CONTINUATION, 0, 3, block[10:20]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 3, block[20:]),
        frames.frame(0xAA, 0xFF, 3, b"unknown"),
        padded(frames.DATA, 0, 3, b"two", 5),
        frames.frame(frames.PING, 0, 0, b"pingpong"),
        frames.window_update(1, 100),
        data(1, b"", end=True),
        frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, b"\0\x01a\x01b"),
        padded(frames.HEADERS, frames.END_HEADERS | frames.WITH_PRIORITY, 5, bytes(5) + block, 9),
        frames.rst_stream(5, frames.CANCEL),
        frames.goaway(0, frames.NO_ERROR, b"bye"),
        data(3, b"late"),
    ))  # fmt: skip


EXPECTED: list[Event] = [
    RequestReceived(1, dict(REQUEST)),
    DataReceived(1, b"one", 3),
    RequestReceived(3, dict(REQUEST)),
    DataReceived(3, b"two", 9),
    StreamEnded(1),
    StreamEnded(3),
    RequestReceived(5, dict(REQUEST)),
    StreamReset(5, frames.CANCEL),
    StreamReset(3, frames.STREAM_CLOSED),
]


def play(pieces: Callable[[bytes], list[bytes]]) -> tuple[list[Event], bytes]:
    peer = Peer(greet=False)
    events = [event for piece in pieces(conversation(Peer(greet=False))) for event in peer.send(piece)]
    return events, peer.connection.take()


def test_all_at_once() -> None:
    events, answers = play(lambda said: [said])
    assert events == EXPECTED
    assert [type(event) for event in events] == [type(event) for event in EXPECTED]  # they are equal to any tuple
    kinds = [frames.SETTINGS, frames.WINDOW_UPDATE, frames.SETTINGS, frames.PING, frames.RST_STREAM]
    peer = Peer(greet=False)
    peer.send(conversation(Peer(greet=False)))
    assert [frame.kind for frame in peer.answers()] == kinds
    assert frames.frame(frames.PING, frames.ACK, 0, b"pingpong") in answers


def test_byte_by_byte() -> None:
    whole = play(lambda said: [said])
    assert play(lambda said: [said[at : at + 1] for at in range(len(said))]) == whole


def test_cut_anywhere() -> None:
    whole = play(lambda said: [said])
    for cut in range(len(conversation(Peer(greet=False)))):
        assert play(lambda said, cut=cut: [said[:cut], said[cut:]]) == whole  # type: ignore[misc]


@settings(max_examples=50)
@given(cuts=st.lists(st.integers(0, 500), max_size=20))
def test_cut_in_many_places(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), 10_000]
    assert play(lambda said: [said[a:b] for a, b in pairwise(marks)]) == play(lambda said: [said])


def test_a_violation_hides_nothing_that_came_before() -> None:
    peer = Peer()
    events = peer.send(peer.headers(1), data(1, b"x", end=True), frames.frame(frames.PUSH_PROMISE, 0, 1, b""))
    assert events == [
        RequestReceived(1, dict(REQUEST)),
        DataReceived(1, b"x", 1),
        StreamEnded(1),
        StreamReset(1, frames.PROTOCOL_ERROR),
        ConnectionEnded(frames.PROTOCOL_ERROR, "a client pushes"),
    ]


def test_a_request_that_has_no_body() -> None:
    peer = Peer()
    assert peer.send(peer.headers(1, end=True)) == [RequestReceived(1, dict(REQUEST)), StreamEnded(1)]


def test_an_end_with_the_last_data() -> None:
    peer = Peer()
    stream = peer.open()
    assert peer.send(data(stream, b"x", end=True)) == [DataReceived(stream, b"x", 1), StreamEnded(stream)]


def test_numbers_may_be_left_out() -> None:
    peer = Peer()
    assert peer.send(peer.headers(7))[0] == RequestReceived(7, dict(REQUEST))
    peer.send(peer.headers(5))
    assert peer.ended() is not None


def test_a_continuation_may_be_empty() -> None:
    peer = Peer()
    empty = frames.frame(frames.CONTINUATION, 0, 1, b"")
    first = frames.frame(frames.HEADERS, frames.END_STREAM, 1, b"")
    last = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, peer.block())
    assert peer.send(first, empty * 5, last) == [RequestReceived(1, dict(REQUEST)), StreamEnded(1)]


def test_the_largest_frame() -> None:
    peer = Peer()
    stream = peer.open()
    assert peer.send(data(stream, bytes(16_384))) == [DataReceived(stream, bytes(16_384), 16_384)]


def test_answers() -> None:
    peer = Peer()
    stream = peer.open()
    peer.connection.send_headers(stream, b"\x88")
    peer.connection.send_data(stream, b"answer")
    assert peer.send(data(stream, b"", end=True)) == [StreamEnded(stream)]
    peer.connection.end_stream(stream, b"\0\x01a\x01b")
    head, answer, end = peer.answers()
    assert (head.kind, head.flags, head.payload) == (frames.HEADERS, frames.END_HEADERS, b"\x88")
    assert (answer.kind, answer.flags, answer.payload) == (frames.DATA, 0, b"answer")
    assert (end.kind, end.flags) == (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM)
    assert {head.stream, answer.stream, end.stream} == {stream}
    assert not peer.connection.is_open(stream)


def test_an_answer_that_needs_no_more_of_the_request() -> None:
    # Section 8.1: the client is told to stop, without an error.
    peer = Peer()
    stream = peer.open()
    peer.connection.end_stream(stream, b"\x88")
    _, reset = peer.answers()
    assert (reset.kind, reset.word) == (frames.RST_STREAM, frames.NO_ERROR)
    assert peer.send(data(stream, b"still talking", end=True)) == []
    assert peer.answers() == []


def test_nothing_is_sent_on_a_stream_that_is_over() -> None:
    peer = Peer()
    stream = peer.open()
    peer.send(frames.rst_stream(stream, frames.CANCEL))
    connection = peer.connection
    connection.send_headers(stream, b"\x88")
    connection.send_data(stream, b"x")
    connection.end_stream(stream, b"\x88")
    connection.reset_stream(stream, frames.CANCEL)
    assert connection.take() == b""
    assert connection.pending(stream) == 0


def test_the_end_of_a_connection_in_good_terms() -> None:
    peer = Peer()
    running = peer.open()
    peer.connection.go_away()
    peer.connection.go_away()
    (goaway,) = peer.answers()
    assert (goaway.word, goaway.payload[4:]) == (running, bytes(4))
    assert not peer.connection.is_over

    # Refused, so that the client may send it elsewhere (section 8.7); what runs goes on.
    assert peer.send(peer.headers(3), data(3, b"x", end=True)) == []
    (refused,) = peer.answers()
    assert (refused.kind, refused.stream, refused.word) == (frames.RST_STREAM, 3, frames.REFUSED_STREAM)
    assert peer.send(data(running, b"x", end=True)) == [DataReceived(running, b"x", 1), StreamEnded(running)]
    peer.connection.end_stream(running, b"\x88")
    assert peer.connection.is_over


def test_the_end_is_announced_and_what_was_sent_before_the_peer_heard_of_it_is_taken() -> None:
    peer = Peer()
    running = peer.open()
    peer.connection.drain()
    peer.connection.drain()
    goaway, ping = peer.answers()
    assert (goaway.kind, goaway.word, goaway.payload[4:]) == (frames.GOAWAY, 2**31 - 1, bytes(4))
    assert (ping.kind, ping.flags) == (frames.PING, 0)
    assert not peer.connection.is_over

    [late] = peer.send(peer.headers(3))
    assert isinstance(late, RequestReceived)
    assert peer.send(frames.frame(frames.PING, frames.ACK, 0, b"not that")) == []
    assert peer.answers() == []
    assert peer.send(frames.frame(frames.PING, frames.ACK, 0, ping.payload)) == []
    (last,) = peer.answers()
    assert (last.kind, last.word) == (frames.GOAWAY, 3)
    assert peer.send(peer.headers(5)) == []
    (refused,) = peer.answers()
    assert (refused.kind, refused.stream, refused.word) == (frames.RST_STREAM, 5, frames.REFUSED_STREAM)
    for stream in (running, 3):
        peer.connection.end_stream(stream, b"\x88")
    assert peer.connection.is_over


def test_too_many_streams() -> None:
    peer = Peer(Limits(streams=2))
    first, second = peer.open(), peer.open()
    assert peer.send(peer.headers(5), data(5, b"x", end=True)) == []
    (refused,) = peer.answers()
    assert (refused.kind, refused.stream, refused.word) == (frames.RST_STREAM, 5, frames.REFUSED_STREAM)
    peer.send(frames.rst_stream(first, frames.CANCEL))
    assert peer.send(peer.headers(7)) == [RequestReceived(7, dict(REQUEST))]
    assert peer.connection.is_open(second)


@pytest.mark.parametrize("stream", [1, 3])
def test_late_frames_are_for_streams_that_we_reset(stream: int) -> None:
    peer = Peer()
    peer.open()
    peer.open()
    peer.connection.reset_stream(1, frames.CANCEL)
    peer.send(frames.rst_stream(3, frames.CANCEL))
    peer.answers()
    peer.send(data(stream, b"late"))
    assert [answer.kind for answer in peer.answers()] == ([] if stream == 1 else [frames.RST_STREAM])
