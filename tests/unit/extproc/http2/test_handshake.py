"""How a connection begins, and what settings change."""

from __future__ import annotations

import pytest

from mcp_extproc.extproc.http2 import frames
from mcp_extproc.extproc.http2.connection import ConnectionEnded, Limits
from tests.unit.extproc.http2.peer import LARGEST, Peer, body, read_frames


def test_the_server_speaks_first() -> None:
    limits = Limits(streams=7, header_bytes=5000, stream_window=100_000, connection_window=200_000)
    settings, window = read_frames(Peer(limits, greet=False).connection.take())

    assert (settings.kind, settings.flags, settings.stream) == (frames.SETTINGS, 0, 0)
    assert frames.read_settings(settings.payload) == [
        (frames.HEADER_TABLE_SIZE, 0),
        (frames.MAX_CONCURRENT_STREAMS, 7),
        (frames.INITIAL_WINDOW_SIZE, 100_000),
        (frames.MAX_HEADER_LIST_SIZE, 5000),
    ]
    assert (window.kind, window.stream, window.word) == (frames.WINDOW_UPDATE, 0, 200_000 - frames.DEFAULT_WINDOW)


def test_the_smallest_window_needs_no_update() -> None:
    (settings,) = read_frames(Peer(Limits(connection_window=frames.DEFAULT_WINDOW), greet=False).connection.take())
    assert settings.kind == frames.SETTINGS


@pytest.mark.parametrize("window", [0, frames.DEFAULT_WINDOW - 1, frames.MAX_WINDOW + 1])
@pytest.mark.parametrize("name", ["stream_window", "connection_window"])
def test_windows_that_may_not_be(name: str, window: int) -> None:
    with pytest.raises(ValueError, match=str(window)):
        Limits(**{name: window})


@pytest.mark.parametrize("cut", range(len(frames.PREFACE) + 1))
def test_the_preface_in_two_pieces(cut: int) -> None:
    peer = Peer(greet=False)
    assert peer.send(frames.PREFACE[:cut]) == []
    assert peer.send(frames.PREFACE[cut:], frames.settings({})) == []
    assert read_frames(peer.connection.take())[-1].flags == frames.ACK


@pytest.mark.parametrize("at", range(len(frames.PREFACE)))
def test_a_preface_that_is_wrong_at_one_byte(at: int) -> None:
    peer = Peer(greet=False)
    wrong = bytearray(frames.PREFACE)
    wrong[at] ^= 1
    events = [event for byte in wrong for event in peer.send(bytes((byte,)))]
    assert events == [ConnectionEnded(frames.PROTOCOL_ERROR, "the client does not speak HTTP/2")]
    assert peer.connection.is_over
    assert peer.ended() == events[0]


def test_a_client_of_http_1() -> None:
    peer = Peer(greet=False)
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert peer.connection.is_over


def first_frames() -> dict[str, bytes]:
    return {
        "ping": frames.frame(frames.PING, 0, 0, bytes(8)),
        "headers": Peer().headers(1),
        "unknown": frames.frame(0xAA, 0, 0, b""),
        "acknowledgement": frames.SETTINGS_ACK,
    }


@pytest.mark.parametrize("first", first_frames().values(), ids=first_frames().keys())
def test_the_first_frame_is_settings(first: bytes) -> None:
    peer = Peer(greet=False)
    assert peer.send(frames.PREFACE, first) == [
        ConnectionEnded(frames.PROTOCOL_ERROR, "the first frame is no SETTINGS")
    ]


def test_each_settings_frame_is_acknowledged() -> None:
    peer = Peer()
    peer.send(frames.settings({}), frames.settings({frames.MAX_FRAME_SIZE: 20_000}))
    assert peer.connection.take() == frames.SETTINGS_ACK * 2


def test_unknown_settings_are_ignored() -> None:
    peer = Peer()
    assert peer.send(frames.settings({0xFFFF: 7, 0x8: 3, frames.MAX_CONCURRENT_STREAMS: 0})) == []
    assert peer.connection.take() == frames.SETTINGS_ACK


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        (frames.ENABLE_PUSH, 2, frames.PROTOCOL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, 1 << 31, frames.FLOW_CONTROL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, (1 << 32) - 1, frames.FLOW_CONTROL_ERROR),
        (frames.MAX_FRAME_SIZE, frames.SMALLEST_MAX_FRAME - 1, frames.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, frames.LARGEST_MAX_FRAME + 1, frames.PROTOCOL_ERROR),
    ],
)
def test_values_that_may_not_be(setting: int, value: int, code: int) -> None:
    peer = Peer()
    peer.send(frames.settings({setting: value}))
    assert (ended := peer.ended()) is not None
    assert ended.code == code


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (frames.ENABLE_PUSH, 0),
        (frames.ENABLE_PUSH, 1),
        (frames.INITIAL_WINDOW_SIZE, 0),
        (frames.INITIAL_WINDOW_SIZE, LARGEST),
        (frames.MAX_FRAME_SIZE, frames.SMALLEST_MAX_FRAME),
        (frames.MAX_FRAME_SIZE, frames.LARGEST_MAX_FRAME),
    ],
)
def test_values_that_just_may_be(setting: int, value: int) -> None:
    peer = Peer()
    assert peer.send(frames.settings({setting: value})) == []
    assert peer.connection.take() == frames.SETTINGS_ACK


def test_frames_are_as_large_as_the_client_allows() -> None:
    peer = Peer(settings={frames.MAX_FRAME_SIZE: 20_000})
    stream = peer.open()
    peer.connection.send_data(stream, bytes(50_000))
    assert [len(frame.payload) for frame in peer.answers()] == [20_000, 20_000, 10_000]


def test_what_new_settings_allow_follows_their_acknowledgement() -> None:
    # Until it reads that, a client goes by its old settings.
    peer = Peer(settings={frames.INITIAL_WINDOW_SIZE: 0})
    stream = peer.open()
    peer.connection.send_data(stream, bytes(20_000))
    assert peer.answers() == []

    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 65_535, frames.MAX_FRAME_SIZE: 20_000}))
    first, second = peer.answers()
    assert (first.kind, first.flags) == (frames.SETTINGS, frames.ACK)
    assert (second.kind, len(second.payload)) == (frames.DATA, 20_000)


def test_the_last_value_of_a_setting_counts() -> None:
    peer = Peer()
    stream = peer.open()
    twice = frames.settings({frames.INITIAL_WINDOW_SIZE: 0})[9:] + frames.settings({frames.INITIAL_WINDOW_SIZE: 5})[9:]
    peer.send(frames.frame(frames.SETTINGS, 0, 0, twice))
    peer.connection.send_data(stream, b"0123456789")
    assert body(peer.answers(), stream) == b"01234"


def test_our_settings_are_acknowledged_once() -> None:
    peer = Peer()
    peer.send(frames.SETTINGS_ACK)
    assert peer.ended() == ConnectionEnded(frames.PROTOCOL_ERROR, "settings were acknowledged twice")
