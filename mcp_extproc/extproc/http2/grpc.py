"""gRPC over HTTP/2 as bytes: message framing, and statuses in trailers.

Source: gRPC over HTTP2 (PROTOCOL-HTTP2.md in grpc/grpc), "Requests", "Responses", "Status".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

OK: Final = 0
CANCELLED: Final = 1
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
ABORTED: Final = 10
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

_PREFIX = struct.Struct(">BL")
_PREFIX_BYTES = _PREFIX.size
_read_prefix: Final[Callable[..., tuple[int, int]]] = _PREFIX.unpack_from
"""Whether a message is compressed, and its length."""
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class GrpcError(Exception):
    """A call that ends with a status.

    Attributes:
        status: gRPC status code.
        message: for the caller.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def whole(data: bytes, max_bytes: int) -> bytes | None:
    """The message that this is, whole and alone, as most pieces of a stream are; ``None`` for anything else.

    Args:
        data: a piece of a stream that begins with a message.
        max_bytes: maximum size of a message.
    """
    size = len(data) - _PREFIX_BYTES
    return data[_PREFIX_BYTES:] if 0 <= size <= max_bytes and _read_prefix(data) == (0, size) else None


class Messages:
    """Reassembles a stream's messages from arbitrary chunks.

    Args:
        max_bytes: maximum size of a message.
    """

    __slots__ = ("_buffer", "_max", "_wanted")

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._buffer = bytearray()
        """A single buffer: many tiny chunks in a list would be mostly overhead."""
        self._wanted = _PREFIX_BYTES

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now.

        Raises:
            GrpcError: a message is compressed or too large. This ends the stream.
        """
        buffer = self._buffer
        if not buffer and (message := whole(data, self._max)) is not None:
            return [message]
        if len(buffer) + len(data) == self._wanted > _PREFIX_BYTES:
            return [self._completed(data)]
        buffer += data
        if len(buffer) < self._wanted:
            return []
        messages: list[bytes] = []
        position = 0
        self._wanted = _PREFIX_BYTES
        with memoryview(buffer) as view:
            while len(buffer) - position >= _PREFIX_BYTES:
                end = position + _PREFIX_BYTES + self._length(buffer, position)
                if end > len(buffer):
                    self._wanted = end - position
                    break
                messages.append(bytes(view[position + _PREFIX_BYTES : end]))
                position = end
        del buffer[:position]
        return messages

    def _completed(self, data: bytes) -> bytes:
        """The message that this is the end of, as most are in few pieces: copied once."""
        with memoryview(self._buffer) as begun:
            message = b"".join((begun[_PREFIX_BYTES:], data))
        self._buffer = bytearray()
        self._wanted = _PREFIX_BYTES
        return message

    @property
    def is_empty(self) -> bool:
        """Whether there is no incomplete message."""
        return not self._buffer

    def _length(self, buffer: bytes | bytearray, position: int = 0) -> int:
        compressed, length = _read_prefix(buffer, position)
        if compressed:
            raise GrpcError(UNIMPLEMENTED, "compressed messages are not read")
        if length > self._max:
            raise GrpcError(RESOURCE_EXHAUSTED, f"a message of {length} bytes is larger than {self._max}")
        return length


def prefix(size: int) -> bytes:
    """The prefix of a message of this size."""
    return _PREFIX.pack(0, size)


def message(payload: bytes) -> bytes:
    """A message with its prefix."""
    return _PREFIX.pack(0, len(payload)) + payload


def timeout(value: str) -> float:
    """The seconds in a ``grpc-timeout``.

    Raises:
        ValueError: it is invalid.
    """
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError(value)
    return int(match[1]) * _UNITS[match[2]]


# -- Header blocks, in HPACK literals without indexing (RFC 7541, section 6.2.2) ---------------------------------------------

_STATUS_200 = b"\x88"


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    size -= 127
    prefix = [127]
    while size >= 128:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes((*prefix, size)) + text


HEAD: Final = _STATUS_200 + _literal(b"content-type", b"application/grpc")
"""The headers in front of the first message."""

_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""Characters allowed in a ``grpc-message`` without encoding."""

TRAILERS_OK: Final = _literal(b"grpc-status", b"0")

NOT_GRPC: Final = _literal(b":status", b"415")
"""The response to a request that is not a gRPC call."""


def trailers(status: int, text: str) -> bytes:
    """The trailers that end a call."""
    block = _literal(b"grpc-status", b"%d" % status)
    if text := text[:1024].strip():
        # Percent-encoded, so that it is always a valid header value.
        block += _literal(b"grpc-message", quote(text, safe=_PLAIN, errors="replace").encode())
    return block
