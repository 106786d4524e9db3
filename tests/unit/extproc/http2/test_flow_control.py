"""Windows, both ways."""

from __future__ import annotations

import pytest

from mcp_extproc.extproc.http2 import frames
from mcp_extproc.extproc.http2.connection import ConnectionEnded, DataReceived, Limits, StreamDrained, StreamReset
from tests.unit.extproc.http2.peer import LARGEST, Peer, body, data, padded, received

SMALL = frames.DEFAULT_WINDOW


def test_data_waits_for_the_streams_window() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 10})
    stream, connection = peer.open(), peer.connection
    connection.send_data(stream, b"0123456789abcdef")
    connection.send_data(stream, b"ghi")
    assert body(peer.answers(), stream) == b"0123456789"
    assert connection.pending(stream) == 9

    assert peer.send(frames.window_update(stream, 4)) == []
    assert body(peer.answers(), stream) == b"abcd"
    assert connection.pending(stream) == 5
    (drained,) = peer.send(frames.window_update(stream, 5))
    assert isinstance(drained, StreamDrained)
    assert drained.stream == stream
    assert body(peer.answers(), stream) == b"efghi"
    assert connection.pending(stream) == 0


def test_data_waits_for_the_connections_window() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: LARGEST})
    stream = peer.open()
    peer.connection.send_data(stream, bytes(SMALL + 3))
    assert len(body(peer.answers(), stream)) == SMALL
    assert peer.send(frames.window_update(stream, 100)) == []
    assert peer.answers() == []
    assert peer.send(frames.window_update(0, 1)) == []
    assert len(body(peer.answers(), stream)) == 1
    assert peer.send(frames.window_update(0, 100)) == [StreamDrained(stream)]
    assert len(body(peer.answers(), stream)) == 2


def test_the_end_waits_for_the_data() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 0})
    stream = peer.open(end=True)
    peer.connection.send_headers(stream, b"\x88")
    peer.connection.send_data(stream, b"abc")
    peer.connection.end_stream(stream, b"\0\x01a\x01b")
    assert [answer.kind for answer in peer.answers()] == [frames.HEADERS]
    assert peer.connection.is_open(stream)

    assert peer.send(frames.window_update(stream, 3)) == [StreamDrained(stream)]
    sent, end = peer.answers()
    assert (sent.payload, end.payload, end.flags) == (b"abc", b"\0\x01a\x01b", 5)
    assert not peer.connection.is_open(stream)


def test_windows_go_below_zero() -> None:
    peer = Peer()
    stream, connection = peer.open(), peer.connection
    connection.send_data(stream, bytes(100))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 40}))  # 60 too many were sent
    peer.answers()
    connection.send_data(stream, b"abc")
    assert peer.send(frames.window_update(stream, 60)) == []
    assert peer.answers() == []
    assert peer.send(frames.window_update(stream, 1)) == []
    assert body(peer.answers(), stream) == b"a"
    assert peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 42})) == [StreamDrained(stream)]
    assert body(peer.answers(), stream) == b"bc"


def test_a_new_initial_window_is_for_open_streams_and_new_ones() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 1})
    first, second = peer.open(), peer.open()
    peer.connection.send_data(first, b"abcdef")
    peer.connection.send_data(second, b"xyz")
    peer.answers()
    assert peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 3})) == [StreamDrained(second)]
    answers = peer.answers()
    assert (body(answers, first), body(answers, second)) == (b"bc", b"yz")
    third = peer.open()
    peer.connection.send_data(third, b"12345")
    assert body(peer.answers(), third) == b"123"


def test_a_closed_initial_window_holds_back_who_waits_for_the_connection() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: SMALL})
    first, second = peer.open(), peer.open()
    peer.connection.send_data(first, bytes(SMALL))
    peer.connection.send_data(second, b"abc")
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    peer.answers()
    assert peer.send(frames.window_update(0, 10)) == []
    assert peer.answers() == []
    assert peer.send(frames.window_update(second, 2)) == []
    assert body(peer.answers(), second) == b"ab"
    assert peer.send(frames.window_update(second, 2)) == [StreamDrained(second)]
    assert body(peer.answers(), second) == b"c"


def test_all_streams_get_their_share_of_the_connections_window() -> None:
    # One that always has more to say must not keep the others waiting.
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: LARGEST})
    busy, second, third = peer.open(), peer.open(), peer.open()
    peer.connection.send_data(busy, bytes(SMALL + 1000))
    peer.connection.send_data(second, b"x" * 10)
    peer.connection.send_data(third, b"y" * 10)
    peer.answers()
    heard: dict[int, int] = dict.fromkeys((busy, second, third), 0)
    for _ in range(5):
        peer.connection.send_data(busy, bytes(100))
        peer.send(frames.window_update(0, 10))
        for answer in peer.answers():
            heard[answer.stream] += len(answer.payload)
    assert heard == {busy: 30, second: 10, third: 10}


def test_an_update_costs_no_more_than_it_allows() -> None:
    # With thousands of streams that wait for their own windows, an update of the connection's has nothing to do.
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 0})
    streams = [peer.open() for _ in range(2000)]
    for stream in streams:
        peer.connection.send_data(stream, b"abc")
    assert peer.connection._blocked == {}
    assert peer.send(frames.window_update(streams[-1], 3)) == [StreamDrained(streams[-1])]


def test_what_waits_is_gone_with_its_stream() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: LARGEST})
    first, second = peer.open(), peer.open()
    peer.connection.send_data(first, bytes(SMALL + 10))
    peer.connection.send_data(second, b"abc")
    peer.answers()
    peer.send(frames.rst_stream(first, frames.CANCEL))
    assert peer.connection.pending(first) == 0
    assert peer.send(frames.window_update(0, 3)) == [StreamDrained(second)]
    assert body(peer.answers(), second) == b"abc"


def test_the_largest_windows() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 0})
    stream = peer.open()
    assert peer.send(frames.window_update(stream, LARGEST), frames.window_update(0, LARGEST - SMALL)) == []
    assert peer.ended() is None
    peer.connection.send_data(stream, b"x")
    assert peer.send(frames.window_update(stream, 1), frames.window_update(0, 1)) == []
    assert peer.connection.is_open(stream)


def test_a_reserved_bit_is_no_part_of_an_increment() -> None:
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 0})
    stream = peer.open()
    peer.connection.send_data(stream, b"abc")
    peer.send(frames.frame(frames.WINDOW_UPDATE, 0, stream, (1 << 31 | 2).to_bytes(4, "big")))
    assert body(peer.answers(), stream) == b"ab"


LIMITS = Limits(stream_window=SMALL, connection_window=100_000)


def test_the_client_may_fill_its_window_to_the_last_byte() -> None:
    peer = Peer(LIMITS)
    stream = peer.open()
    sizes = [16_384, 16_384, 16_384, SMALL - 3 * 16_384]
    assert received(peer.send(*(data(stream, bytes(size)) for size in sizes))) == {stream: bytes(SMALL)}
    assert peer.answers() == []  # nothing is given back that was not dealt with
    assert peer.send(data(stream, b"x"))[0].stream == stream  # type: ignore[union-attr]
    (reset,) = peer.answers()
    assert (reset.kind, reset.word) == (frames.RST_STREAM, frames.FLOW_CONTROL_ERROR)


def test_streams_may_fill_the_connections_window_to_the_last_byte() -> None:
    peer = Peer(LIMITS)
    first, second = peer.open(), peer.open()
    events = peer.send(data(first, bytes(12_500)) * 4, data(second, bytes(12_500)) * 4)
    assert received(events) == {first: bytes(50_000), second: bytes(50_000)}
    assert peer.answers() == []
    peer.send(data(first, b"x"))
    assert peer.ended() == ConnectionEnded(frames.FLOW_CONTROL_ERROR, "more than the connection's window")


@pytest.mark.parametrize("reads", [1, 7, 1000])
def test_small_frames_may_fill_a_streams_window_to_the_last_byte(reads: int) -> None:
    peer = Peer(Limits(stream_window=SMALL, connection_window=1 << 20))
    stream = peer.open()
    said = data(stream, bytes(1000)) * 65 + data(stream, bytes(535))
    pieces = [said[at : at + len(said) // reads + 1] for at in range(0, len(said), len(said) // reads + 1)]
    assert sum(len(body) for piece in pieces for body in received(peer.send(piece)).values()) == SMALL
    assert peer.answers() == []
    assert peer.send(data(stream, b"x")) == [StreamReset(stream, frames.FLOW_CONTROL_ERROR)]


@pytest.mark.parametrize("reads", [1, 7, 1000])
def test_small_frames_may_fill_the_connections_window_to_the_last_byte(reads: int) -> None:
    peer = Peer(LIMITS)
    streams = [peer.open() for _ in range(4)]
    said = b"".join(data(stream, bytes(1000)) for _ in range(25) for stream in streams)
    pieces = [said[at : at + len(said) // reads + 1] for at in range(0, len(said), len(said) // reads + 1)]
    assert sum(len(body) for piece in pieces for body in received(peer.send(piece)).values()) == 100_000
    assert peer.answers() == []
    peer.send(data(streams[0], b"x"))
    assert peer.ended() == ConnectionEnded(frames.FLOW_CONTROL_ERROR, "more than the connection's window")


def test_a_large_frame_behind_small_ones_is_no_way_past_the_connections_window() -> None:
    """Nor where most of it is still to come."""
    peer = Peer(LIMITS)
    first, second = peer.open(), peer.open()
    large = data(first, bytes(16_384))
    peer.send(data(first, bytes(1000)) * 48 + data(second, bytes(1000)) * 47 + large[:100])
    peer.send(large[100:])
    assert peer.ended() == ConnectionEnded(frames.FLOW_CONTROL_ERROR, "more than the connection's window")


def test_a_stream_on_which_nothing_comes_any_more_gets_no_room() -> None:
    """A WINDOW_UPDATE for it may be an error of ours (RFC 9113, 5.1)."""
    peer = Peer(Limits(stream_window=SMALL, connection_window=1 << 20))
    stream = peer.open()
    peer.connection.receive(data(stream, bytes(1000)) * 33 + data(stream, bytes(1000), end=True))
    assert [answer.kind for answer in peer.answers() if answer.stream] == []


def test_what_is_not_held_was_dealt_with_once_bytes_are_taken() -> None:
    peer = Peer(Limits(stream_window=SMALL, connection_window=SMALL))
    stream = peer.open()
    for _ in range(20):
        peer.connection.receive(data(stream, bytes(1000)) * 32)
        assert peer.answers() == []  # not half of it yet
        peer.connection.receive(data(stream, bytes(1000)))
        assert [(frame.kind, frame.stream, frame.word) for frame in peer.answers()] == [
            (frames.WINDOW_UPDATE, 0, 33_000), (frames.WINDOW_UPDATE, stream, 33_000),
        ]  # fmt: skip


def test_room_is_given_back_once_data_was_dealt_with() -> None:
    peer = Peer(LIMITS)
    stream, window, connection_window, given = peer.open(), SMALL, 100_000, 0
    for _ in range(200):
        size = min(10_000, window, connection_window)
        assert size > 0, "the client is stuck"
        (event,) = peer.send(data(stream, bytes(size)))
        assert isinstance(event, DataReceived)
        assert event.size == size
        window, connection_window = window - size, connection_window - size
        peer.connection.consumed(stream, event.size)
        for answer in peer.answers():
            assert answer.kind == frames.WINDOW_UPDATE
            given += answer.word
            if answer.stream:
                window += answer.word
            else:
                connection_window += answer.word
        assert SMALL >= window > SMALL // 2 - 1
        assert 100_000 >= connection_window >= 50_000


@pytest.mark.parametrize("fate", ["over", "reset", "ended"])
def test_the_connections_room_survives_its_streams(fate: str) -> None:
    # Whatever becomes of a stream, what it took of the connection's window comes back.
    peer = Peer(LIMITS)
    window = 100_000
    for _ in range(100):
        stream = peer.open()
        events = peer.send(data(stream, bytes(10_000), end=fate == "ended"))
        window -= 10_000
        if fate == "over":
            peer.connection.end_stream(stream, b"\x88")
        elif fate == "reset":
            peer.send(frames.rst_stream(stream, frames.CANCEL))
        got = events[0]
        assert isinstance(got, DataReceived)
        peer.connection.consumed(stream, got.size)
        if fate == "over":
            peer.send(data(stream, bytes(10_000)))  # was on its way
            window -= 10_000
        window += sum(frame.word for frame in peer.answers() if frame.kind == frames.WINDOW_UPDATE and not frame.stream)
        assert window >= 50_000


def test_padding_takes_room_too() -> None:
    peer = Peer(LIMITS)
    stream = peer.open()
    (event,) = peer.send(padded(frames.DATA, 0, stream, b"abc", 200))
    assert event == DataReceived(stream, b"abc", 204)


def test_data_that_is_only_padding_gives_its_room_back() -> None:
    peer = Peer(Limits(stream_window=SMALL, connection_window=SMALL))
    stream = peer.open()
    given = {0: 0, stream: 0}
    for _ in range(1000):
        assert peer.send(padded(frames.DATA, 0, stream, b"", 255)) == []
        for answer in peer.answers():
            given[answer.stream] += answer.word
    assert min(given.values()) >= 1000 * 256 - SMALL // 2


def test_data_beyond_a_streams_window_does_not_cost_the_connection() -> None:
    peer = Peer(LIMITS)
    stream = peer.open()
    peer.send(data(stream, bytes(14_000)) * 5)
    peer.connection.consumed(stream, 4 * 14_000)
    assert sum(answer.word for answer in peer.answers() if answer.kind == frames.WINDOW_UPDATE) == 5 * 14_000
