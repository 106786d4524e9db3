"""A minimal, fast HTTP/1.1 (RFC 9112) parser for the upstream and the load client.

It trusts its peer, an Envoy on the same machine, and is not suited for anything else.
"""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """One complete request or response."""

    head: bytes
    """Start line and headers, without the empty line that ends them."""
    body: bytes
    """Decoded body, empty if there was none."""

    @property
    def status(self) -> int:
        """Status code of a response. Raises ValueError for a request."""
        return int(self.head[9:12])

    def header(self, name: bytes) -> bytes | None:
        """Value of the first header with that name, given in lower case."""
        return _header(self.head, self.head.lower(), name)


class Reader:
    """Bytes in, whole messages out.

    A message with neither Content-Length nor chunked coding has no body: true for requests, and for the responses of an
    Envoy that keeps the connection open.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0
        self._head: bytes | None = None
        self._chunks: bytearray | None = None

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`, in order. Raises ValueError if the bytes are not HTTP/1.1."""
        self._buffer += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> Message | None:
        if self._head is None and not self._read_head():
            return None
        body = self._read_chunks() if self._chunks is not None else self._take(self._needed)
        if body is None:
            return None
        assert self._head is not None
        message = Message(self._head, body)
        self._head = self._chunks = None
        return message

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        lower = head.lower()
        self._head = head
        if b"\r\ntransfer-encoding: chunked" in lower:
            self._chunks = bytearray()
        else:
            self._needed = int(_header(head, lower, b"content-length") or b"0")
        return True

    def _read_chunks(self) -> bytes | None:
        # chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF (RFC 9112 section 7.1); trailers are not sent to us.
        assert self._chunks is not None
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(bytes(self._buffer[:end]).partition(b";")[0], 16)
            start, stop = end + 2, end + 2 + size
            if len(self._buffer) < stop + 2:
                return None
            if self._buffer[stop : stop + 2] != b"\r\n":
                raise ValueError("a chunk is longer than its size")
            self._chunks += self._buffer[start:stop]
            del self._buffer[: stop + 2]
            if size == 0:
                return bytes(self._chunks)
        return None

    def _take(self, size: int) -> bytes | None:
        if len(self._buffer) < size:
            return None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _header(head: bytes, lower: bytes, name: bytes) -> bytes | None:
    start = lower.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
