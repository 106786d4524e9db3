"""The reader gives the same messages however the bytes arrive."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bench.http1 import Message, Reader

WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nMcp-Session-Id: AbC\r\n\r\nhello"
EMPTY = b"HTTP/1.1 202 Accepted\r\ndate: now\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nC\r\n\r\n\r\n, world\r\r\n0\r\n\r\n"
REQUEST = b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"

CASES = [
    pytest.param(WITH_LENGTH, [b"hello"], id="length"),
    pytest.param(EMPTY, [b""], id="no body"),
    pytest.param(CHUNKED, [b"hello\r\n\r\n, world\r"], id="chunked"),
    pytest.param(REQUEST, [b"{}"], id="request"),
    pytest.param(CHUNKED + EMPTY + WITH_LENGTH, [b"hello\r\n\r\n, world\r", b"", b"hello"], id="pipelined"),
]


def read(pieces: Iterable[bytes]) -> list[Message]:
    reader = Reader()
    return [message for piece in pieces for message in reader.feed(piece)]


@pytest.mark.parametrize(("data", "bodies"), CASES)
@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_bodies(data: bytes, bodies: list[bytes], size: int) -> None:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [message.body for message in read(pieces)] == bodies


@pytest.mark.parametrize("data", [WITH_LENGTH, CHUNKED, REQUEST])
def test_nothing_comes_before_the_last_byte(data: bytes) -> None:
    assert read([data[:-1]]) == []


def test_head() -> None:
    (message,) = read([WITH_LENGTH])
    assert message.status == 200
    assert message.header(b"content-length") == b"5"
    assert message.header(b"mcp-session-id") == b"AbC"
    assert message.header(b"session-id") is None


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "invalid literal", id="length"),
        pytest.param(CHUNKED.replace(b"5;", b"g;"), "invalid literal", id="chunk size"),
        pytest.param(CHUNKED.replace(b"5;", b"4;"), "longer than its size", id="long chunk"),
    ],
)
def test_what_is_not_http_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read([data])
