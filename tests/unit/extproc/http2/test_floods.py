"""What costs us work and brings nothing is allowed in small change only; honest clients never notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcp_extproc.extproc.http2 import frames
from mcp_extproc.extproc.http2.connection import FORGIVEN_PER_SECOND, ConnectionEnded, Limits, StreamEnded
from tests.unit.extproc.http2.peer import Peer, data, padded

DEBTS = 50

Flood = Callable[[Peer, int], bytes]
"""The n-th wave. Stream 1 is open, stream 3 was reset by us, 5 was reset by the client."""

FLOODS: dict[str, Flood] = {
    "resets of what is over": lambda _, n: frames.rst_stream(5, frames.CANCEL),
    "resets that we are made to send": lambda peer, n: (
        peer.headers(9 + 2 * n) + frames.window_update(9 + 2 * n, 0xFFFF) + frames.frame(8, 0, 9 + 2 * n, bytes(4))
    ),
    "malformed requests": lambda peer, n: peer.headers(9 + 2 * n, [("x", "y")]),
    "refused streams": lambda peer, n: peer.headers(9 + 2 * n),
    "pings": lambda _, n: frames.frame(frames.PING, 0, 0, bytes(8)),
    "ping acknowledgements": lambda _, n: frames.frame(frames.PING, frames.ACK, 0, bytes(8)),
    "settings": lambda _, n: frames.settings({}),
    "windows moved": lambda _, n: frames.settings({frames.INITIAL_WINDOW_SIZE: n}),
    "empty data": lambda _, n: data(1, b""),
    "only padding": lambda _, n: padded(frames.DATA, 0, 1, b"", 10),
    "empty data on what is over": lambda _, n: data(3, b""),
    "empty data on what the client reset": lambda _, n: data(5, b""),
    "headers on what is over": lambda peer, n: peer.headers(3),
    "priorities": lambda _, n: frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
    "unknown frames": lambda _, n: frames.frame(0xAA, 0, 0, b""),
    "goaways": lambda _, n: frames.goaway(0, 0),
    "continuations": lambda _, n: (
        frames.frame(frames.HEADERS if n == 0 else frames.CONTINUATION, 0, 101, b"")
    ),
}  # fmt: skip


def flooded() -> Peer:
    peer = Peer(Limits(debts=DEBTS, streams=5))
    peer.open()
    peer.connection.reset_stream(peer.open(), frames.CANCEL)
    peer.send(frames.rst_stream(peer.open(), frames.CANCEL))
    peer.clock.now += 100
    peer.answers()
    return peer


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_flood(flood: Flood) -> None:
    peer = flooded()
    waves = 0
    while not (peer.send(flood(peer, waves)) and peer.connection.is_over):
        waves += 1
        assert waves <= DEBTS + 10, "the flood goes on"
    assert waves >= DEBTS // 4
    assert peer.ended() == ConnectionEnded(frames.ENHANCE_YOUR_CALM, "too many frames that do nothing")


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_trickle_is_no_flood(flood: Flood) -> None:
    peer = flooded()
    for wave in range(DEBTS * 4):
        peer.send(flood(peer, wave))
        peer.clock.now += 3 / FORGIVEN_PER_SECOND
        # A client never has more streams than it may.
        if peer.connection.is_open(9 + 2 * wave):
            peer.connection.reset_stream(9 + 2 * wave, frames.CANCEL)
    assert not peer.connection.is_over


def test_patience_is_not_saved_up() -> None:
    peer = flooded()
    peer.clock.now += 1e6
    peer.send(frames.frame(frames.PING, 0, 0, bytes(8)) * DEBTS)
    assert not peer.connection.is_over
    peer.send(frames.frame(frames.PING, 0, 0, bytes(8)))
    assert peer.connection.is_over


def test_work_is_not_saved_up_either() -> None:
    peer = Peer(Limits(debts=DEBTS))
    for _ in range(10 * DEBTS):
        stream = peer.open(end=True)
        peer.connection.send_headers(stream, b"\x88")
        peer.connection.end_stream(stream, b"\x88")
    peer.send(frames.frame(frames.PING, 0, 0, bytes(8)) * (DEBTS + 1))
    assert peer.connection.is_over


def test_moving_many_windows_costs_more() -> None:
    peer = Peer(Limits(debts=1000))
    for _ in range(6400):
        peer.open()
    waves = 0
    while not peer.connection.is_over:
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: waves}))
        waves += 1
    assert waves == 10


def test_many_settings_in_one_frame_move_windows_once() -> None:
    peer = Peer(Limits(debts=1000))
    for _ in range(6400):
        peer.open()
    many = b"".join(frames.settings({frames.INITIAL_WINDOW_SIZE: value})[9:] for value in range(2000))
    peer.send(frames.frame(frames.SETTINGS, 0, 0, many))
    assert not peer.connection.is_over


def by_the_book(peer: Peer) -> None:
    """As grpcio and Envoy call: the request half closes, an acknowledgement of our ping or a reset may follow."""
    stream = peer.open()
    peer.send(data(stream, b"abc"))
    peer.connection.send_headers(stream, b"\x88")
    peer.connection.send_data(stream, b"abc")
    assert peer.send(data(stream, b"", end=True)) == [StreamEnded(stream)]
    peer.connection.end_stream(stream, b"\x88")


def given_up(peer: Peer) -> None:
    """Envoy has what it wanted and resets."""
    stream = peer.open()
    peer.send(data(stream, b"abc"))
    peer.connection.send_headers(stream, b"\x88")
    peer.connection.send_data(stream, b"abc")
    peer.send(frames.rst_stream(stream, frames.CANCEL))


def left_by_its_client(peer: Peer) -> None:
    """A client of Envoy's resets each request at once (CVE-2023-44487), and so does Envoy; others share the connection."""
    peer.send(frames.rst_stream(peer.open(), frames.CANCEL))


def refused_by_status(peer: Peer) -> None:
    """The answer is an error, what the client was sending is still on its way, and a reset answers ours."""
    stream = peer.open()
    peer.connection.end_stream(stream, b"\x88")
    peer.send(data(stream, bytes(1000)) * 20, frames.rst_stream(stream, frames.NO_ERROR))


def continued(peer: Peer) -> None:
    """Headers that need a second frame, and a ping to measure the line."""
    stream, peer._next = peer._next, peer._next + 2
    block = peer.block()
    peer.send(
        frames.frame(frames.HEADERS, 1, stream, block[:9]), frames.frame(frames.CONTINUATION, 4, stream, block[9:])
    )
    peer.send(frames.frame(frames.PING, 0, 0, bytes(8)))
    peer.connection.send_headers(stream, b"\x88")
    peer.connection.end_stream(stream, b"\x88")


@pytest.mark.parametrize("call", [by_the_book, given_up, left_by_its_client, refused_by_status, continued])
def test_calls_leave_no_debts(call: Callable[[Peer], None]) -> None:
    # In no time at all, with hardly any credit: what one call leaves behind, a million would.
    peer = Peer(Limits(debts=4))
    for _ in range(5000):
        call(peer)
        peer.connection.take()
    assert not peer.connection.is_over
    assert not peer.connection._streams
    assert len(peer.connection._forgotten) <= 1024
