"""HTTP/2 frames as bytes. Source: RFC 9113, sections 4 and 6."""

from __future__ import annotations

import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The client connection preface (section 3.4)."""

HEADER_BYTES: Final = 9

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# Section 6.5.2
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

# Section 7
NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
SMALLEST_MAX_FRAME: Final = 16_384
LARGEST_MAX_FRAME: Final = 2**24 - 1

STREAM_ID: Final = 0x7FFFFFFF
"""Mask of a stream id, without the reserved bit."""

_HEADER = struct.Struct(">HBBBL")
_START = struct.Struct(">LBL")
_PARTS = struct.Struct(">BHHL")
_WORD = struct.Struct(">L")
_SETTING = struct.Struct(">HL")

read_header = _HEADER.unpack_from
"""Length (upper 16 bits, lower 8), type, flags, stream, unpacked from a buffer at an offset."""

read_start = _PARTS.unpack_from
"""The same in fewer values: length (upper 8 bits, lower 16), type and flags in one (:func:`kind_of`), stream. Of no frame that
may be here are the upper bits of the length set."""

start = _START.pack
"""A frame header of length and type in one (``length << 8 | type``), flags, stream; the payload follows."""

read_word = _WORD.unpack_from


def kind_of(kind: int, flags: int) -> int:
    """Type and flags as :data:`read_start` has them. Data without flags is 0."""
    return kind << 8 | flags


def header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """A frame header; the payload follows."""
    return start(length << 8 | kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A complete frame."""
    return start(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings in a frame, whose length has to be a multiple of six."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _WORD.pack(last_stream) + _WORD.pack(code) + debug)


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0, b"")
