"""A client of the connection that says just what a test makes it say, frame by frame, and reads the answers the same way."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from hpack import Decoder, Encoder

from mcp_extproc.extproc.http2 import frames
from mcp_extproc.extproc.http2.connection import Connection, ConnectionEnded, DataReceived, Event, Limits

Fields = list[tuple[str, str]]

REQUEST: Final[Fields] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process"),
    (":authority", "extproc"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]

LARGEST = (1 << 31) - 1

FORGET_TABLE = b"\x20"
"""The table size update to 0 that our settings force on an encoder."""


@dataclass(frozen=True)
class Frame:
    """A frame that the connection sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def word(self) -> int:
        """The first four bytes as a number: an increment, an error code."""
        return int(struct.unpack_from(">L", self.payload)[0])


def read_frames(data: bytes) -> list[Frame]:
    """Whole frames, as the connection sends them."""
    found = []
    while data:
        upper, lower, kind, flags, stream = frames.read_header(data, 0)
        end = frames.HEADER_BYTES + (upper << 8 | lower)
        assert len(data) >= end, "a frame is cut short"
        found.append(Frame(kind, flags, stream, data[frames.HEADER_BYTES : end]))
        data = data[end:]
    return found


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """A connection and its client.

    Args:
        limits: of the connection.
        greet: say the preface and empty settings, acknowledge the connection's.
        settings: that the client sends.
    """

    def __init__(
        self, limits: Limits | None = None, *, greet: bool = True, settings: dict[int, int] | None = None
    ) -> None:
        self.clock = Clock()
        self.connection = Connection(limits, self.clock)
        self.decoder = Decoder()
        self._encoder = Encoder()
        self._encoder.header_table_size = 0
        self._encoder.encode([])
        self._next = 1
        if greet:
            events = self.send(frames.PREFACE, frames.settings(settings or {}), frames.SETTINGS_ACK)
            assert events == []
            self.answers()

    def send(self, *data: bytes) -> list[Event]:
        """Say this, and hear what the connection makes of it. It is told that nothing of it was processed yet."""
        events = self.connection.receive(b"".join(data))
        for event in events:
            if isinstance(event, DataReceived):
                self.connection.hold(event.stream, event.size)
        return events

    def answers(self) -> list[Frame]:
        """What the connection sent since the last time."""
        return read_frames(self.connection.take())

    def block(self, fields: Fields = REQUEST) -> bytes:
        """A header block that stands alone."""
        return FORGET_TABLE + self._encoder.encode(fields)

    def headers(self, stream: int, fields: Fields = REQUEST, *, end: bool = False) -> bytes:
        """A HEADERS frame."""
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return frames.frame(frames.HEADERS, flags, stream, self.block(fields))

    def open(self, fields: Fields = REQUEST, *, end: bool = False) -> int:
        """Open a stream; its number."""
        stream, self._next = self._next, self._next + 2
        events = self.send(self.headers(stream, fields, end=end))
        assert len(events) == 1 + end, events
        return stream

    def ended(self) -> ConnectionEnded | None:
        """How the connection ended, by its GOAWAY; ``None`` where it goes on."""
        goaways = [frame for frame in self.answers() if frame.kind == frames.GOAWAY]
        if not goaways:
            return None
        (goaway,) = goaways
        code = int(struct.unpack_from(">L", goaway.payload, 4)[0])
        return ConnectionEnded(code, goaway.payload[8:].decode())


def data(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    """A DATA frame."""
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream, payload)


def padded(kind: int, flags: int, stream: int, payload: bytes, padding: int) -> bytes:
    """A frame with padding."""
    body = bytes((padding,)) + payload + bytes(padding)
    return frames.frame(kind, flags | frames.PADDED, stream, body)


def received(events: list[Event]) -> dict[int, bytes]:
    """The data among events, by stream."""
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, DataReceived):
            found[event.stream] = found.get(event.stream, b"") + event.data
    return found


def body(answers: list[Frame], stream: int) -> bytes:
    """The data among the answers."""
    return b"".join(frame.payload for frame in answers if frame.kind == frames.DATA and frame.stream == stream)
