"""Data in many large frames, however they are cut: bodies of requests."""

from __future__ import annotations

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
    StreamEnded,
    StreamReset,
)
from tests.unit.extproc.http2.peer import Frame, Peer, body, data, padded, received

LARGEST_FRAME = frames.SMALLEST_MAX_FRAME
TEXT = bytes(range(251)) * 300


def merged(events: list[Event]) -> list[Event]:
    """The same with data of a stream in one piece, as long as nothing else comes in between."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived) and last.stream == event.stream:
            found[-1] = DataReceived(event.stream, last.data + event.data, last.size + event.size)
        else:
            found.append(event)
    return found


def given_back(answers: list[Frame]) -> int:
    """What was given back of the connection's window."""
    return sum(frame.word for frame in answers if frame.kind == frames.WINDOW_UPDATE and not frame.stream)


SENT = st.lists(
    st.tuples(
        st.sampled_from([1, 3]),
        st.sampled_from([1, 8, 4095, 4096, 5000, LARGEST_FRAME - 1, LARGEST_FRAME]),
        st.sampled_from([None, None, None, 0, 200]),
    ),
    min_size=1,
    max_size=12,
)
"""Frames: of which stream, how large, and how they are padded."""


@settings(max_examples=200)
@given(sent=SENT, cuts=st.lists(st.integers(0, 200_000), max_size=8))
def test_cut_anywhere(sent: list[tuple[int, int, int | None]], cuts: list[int]) -> None:
    peer = Peer()
    assert (peer.open(), peer.open()) == (1, 3)
    said: list[bytes] = []
    expected: list[Event] = []
    at = 0
    for stream, size, padding in sent:
        payload = TEXT[at % 251 :][:size]
        at += size
        room = size if padding is None else size + 1 + padding
        if room > LARGEST_FRAME:
            continue
        whole = data(stream, payload) if padding is None else padded(frames.DATA, 0, stream, payload, padding)
        said.append(whole)
        expected.append(DataReceived(stream, payload, room))
    said.append(data(1, b"end", end=True))
    expected += [DataReceived(1, b"end", 3), StreamEnded(1)]
    marks = [0, *sorted(cuts), 10**6]
    stream_of_bytes = b"".join(said)
    events = [event for a, b in pairwise(marks) for event in peer.send(stream_of_bytes[a:b])]
    assert merged(events) == merged(expected)
    assert all(event.data for event in events if isinstance(event, DataReceived))
    assert peer.answers() == []


def test_frames_that_follow_each_other_are_one_piece() -> None:
    peer = Peer()
    stream, other = peer.open(), peer.open()
    run = [data(stream, TEXT[at : at + LARGEST_FRAME]) for at in range(0, len(TEXT), LARGEST_FRAME)]
    assert len(run) == 5
    assert peer.send(*run) == [DataReceived(stream, TEXT, len(TEXT))]
    both = data(stream, bytes(5000)) * 2 + data(other, bytes(6000)) * 2
    assert peer.send(both) == [DataReceived(stream, bytes(10_000), 10_000), DataReceived(other, bytes(12_000), 12_000)]


def test_what_is_there_of_a_large_frame_is_handed_on() -> None:
    peer = Peer()
    stream = peer.open()
    whole = data(stream, TEXT[:LARGEST_FRAME])
    assert peer.send(whole[:9]) == []
    assert peer.send(whole[9:10_000]) == [DataReceived(stream, TEXT[:9991], 9991)]
    assert peer.send(whole[10_000:], data(stream, b"x")) == [
        DataReceived(stream, TEXT[9991:LARGEST_FRAME], LARGEST_FRAME - 9991),
        DataReceived(stream, b"x", 1),
    ]


def test_the_rest_of_a_frame_whose_stream_is_over_gives_its_room_back() -> None:
    limits = Limits(stream_window=100_000, connection_window=100_000)
    peer = Peer(limits)
    back = 0
    for _ in range(50):
        stream = peer.open()
        whole = data(stream, bytes(LARGEST_FRAME))
        (begun,) = peer.send(whole[:5000])
        assert isinstance(begun, DataReceived)
        peer.connection.consumed(stream, begun.size)
        peer.connection.end_stream(stream, b"\x88")
        assert peer.send(whole[5000:]) == []
        answers = peer.answers()
        back += given_back(answers)
        assert frames.GOAWAY not in {frame.kind for frame in answers}
    assert 50 * LARGEST_FRAME - 50_000 <= back <= 50 * LARGEST_FRAME


@pytest.mark.parametrize("cut", [0, 9, 4000, 4 * (LARGEST_FRAME + 9) - 1])
def test_frames_up_to_the_one_that_overruns_its_streams_window_are_handed_on(cut: int) -> None:
    peer = Peer(Limits(stream_window=65_535, connection_window=1 << 20))
    stream = peer.open()
    said = data(stream, bytes(LARGEST_FRAME)) * 4
    events = peer.send(said[:cut]) + peer.send(said[cut:])
    assert merged(events) == [
        DataReceived(stream, bytes(3 * LARGEST_FRAME), 3 * LARGEST_FRAME),
        StreamReset(stream, frames.FLOW_CONTROL_ERROR),
    ]


def test_frames_up_to_the_one_that_overruns_the_connections_window_are_handed_on() -> None:
    peer = Peer(Limits(stream_window=1 << 20, connection_window=65_535))
    stream = peer.open()
    events = peer.send(data(stream, bytes(LARGEST_FRAME)) * 4)
    assert received(events) == {stream: bytes(3 * LARGEST_FRAME)}
    assert events[-1] == ConnectionEnded(frames.FLOW_CONTROL_ERROR, "more than the connection's window")


def test_a_frame_among_them_that_is_larger_than_allowed() -> None:
    peer = Peer()
    stream = peer.open()
    events = peer.send(data(stream, bytes(5000)), data(stream, bytes(LARGEST_FRAME + 1)))
    assert received(events) == {stream: bytes(5000)}
    assert events[-1] == ConnectionEnded(frames.FRAME_SIZE_ERROR, "a frame is larger than allowed")


def test_data_within_a_header_block() -> None:
    peer = Peer()
    stream = peer.open()
    begun = frames.frame(frames.HEADERS, 0, 3, peer.block()[:5])
    events = peer.send(begun, data(stream, bytes(5000)))
    assert received(events) == {}
    assert events[-1] == ConnectionEnded(frames.PROTOCOL_ERROR, "a header block is interrupted")


@pytest.mark.parametrize("size", [100, 5000])
def test_data_for_a_stream_that_its_client_has_ended(size: int) -> None:
    peer = Peer()
    stream = peer.open(end=True)
    assert peer.send(data(stream, bytes(size))) == [StreamReset(stream, frames.STREAM_CLOSED)]


def test_answers_come_in_as_large_frames_as_the_client_takes() -> None:
    for largest in (None, 1 << 20):
        settings = {frames.INITIAL_WINDOW_SIZE: 1 << 20} | ({} if largest is None else {frames.MAX_FRAME_SIZE: largest})
        peer = Peer(settings=settings)
        peer.send(frames.window_update(0, 1 << 20))
        stream = peer.open()
        peer.connection.send_data(stream, TEXT)
        sizes = [len(frame.payload) for frame in peer.answers()]
        assert sizes == ([len(TEXT)] if largest else [LARGEST_FRAME] * 4 + [len(TEXT) - 4 * LARGEST_FRAME])


@pytest.mark.parametrize(("window", "largest"), [(1 << 20, 1 << 20), (1 << 20, LARGEST_FRAME), (50_000, 1 << 20)])
def test_an_answer_that_begins_is_whole_whatever_the_client_takes_at_once(window: int, largest: int) -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: window, frames.MAX_FRAME_SIZE: largest})
    peer.send(frames.window_update(0, 1 << 20))
    stream = peer.open()
    peer.connection.begin(stream, b"\x88", b"prefix", TEXT)
    answers = peer.answers()
    assert len(body(answers, stream)) == min(len(TEXT) + 6, window)
    peer.send(frames.window_update(stream, 1 << 20))
    answers += peer.answers()
    assert [frame.kind for frame in answers[:2]] == [frames.HEADERS, frames.DATA]
    assert body(answers, stream) == b"prefix" + TEXT
    if window == largest:
        assert len(answers) == 2
    assert max(len(frame.payload) for frame in answers) <= largest
