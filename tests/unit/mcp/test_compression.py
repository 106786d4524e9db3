"""Bodies that servers compress: in pieces that are bounded, however they are cut, and never more than they may become."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp.compression import MAX_RATIO, PIECE_BYTES, Decompressor, Undecodable, beginning_of
from tests.support.codings import CODINGS

TEXT = b"".join(b'{"n":%d},' % number for number in range(40_000))
"""Larger than several pieces."""


def decompressed(coding: str, *chunks: bytes, allowance: int = 1 << 20) -> list[bytes]:
    decompressor = Decompressor(coding, allowance)
    pieces = [piece for chunk in chunks for piece in decompressor.feed(chunk)]
    decompressor.finish()
    return pieces


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_any_cut_gives_the_same(coding: str, size: int) -> None:
    compressed = CODINGS[coding](TEXT)
    pieces = decompressed(coding, *(compressed[start : start + size] for start in range(0, len(compressed), size)))
    assert b"".join(pieces) == TEXT
    assert max(map(len, pieces)) <= 2 * PIECE_BYTES  # to brotli it is no more than a wish


@pytest.mark.parametrize("coding", CODINGS)
def test_byte_by_byte(coding: str) -> None:
    compressed = CODINGS[coding](b"data: {}\n\n")
    assert b"".join(decompressed(coding, *(bytes([byte]) for byte in compressed))) == b"data: {}\n\n"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_streams_one_behind_the_other(coding: str) -> None:
    compressed = CODINGS[coding](b"one ") + CODINGS[coding](b"two ") + CODINGS[coding](b"three")
    assert b"".join(decompressed(coding, compressed)) == b"one two three"
    assert b"".join(decompressed(coding, compressed[:10], compressed[10:])) == b"one two three"


def test_deflate_without_its_frame() -> None:
    """As some servers send it."""
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert b"".join(decompressed("deflate", bare.compress(TEXT) + bare.flush())) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_a_part_is_missing(coding: str) -> None:
    with pytest.raises(Undecodable, match="is cut off"):
        decompressed(coding, CODINGS[coding](TEXT)[:-1])


def test_nothing_is_nothing() -> None:
    assert decompressed("gzip") == []
    assert decompressed("gzip", b"") == []


@pytest.mark.parametrize("coding", CODINGS)
def test_a_chunk_becomes_so_much_and_no_more(coding: str) -> None:
    """Before more is made of it."""
    bomb = CODINGS[coding](b" " * 30_000_000)
    decompressor, became = Decompressor(coding, 1000), [0]

    def feed() -> None:
        for start in range(0, len(bomb), 4096):
            became.append(0)
            for piece in decompressor.feed(bomb[start : start + 4096]):
                became[-1] += len(piece)

    with pytest.raises(Undecodable, match="too large"):
        feed()
    assert max(became) <= 1000 + MAX_RATIO * 4096


@pytest.mark.parametrize("coding", CODINGS)
def test_what_compresses_badly_is_no_bomb(coding: str) -> None:
    noise = random.Random(1).randbytes(200_000)
    assert b"".join(decompressed(coding, CODINGS[coding](noise), allowance=0)) == noise


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "*"])
def test_other_codings(coding: str) -> None:
    with pytest.raises(Undecodable, match="not supported"):
        Decompressor(coding, 0)


@given(st.sampled_from(sorted(CODINGS)), st.binary(max_size=100), st.integers(0, 100))
def test_any_bytes_are_decompressed_or_refused(coding: str, junk: bytes, cut: int) -> None:
    """With no other exception."""
    compressed = gzip.compress(b"x") if coding == "gzip" else CODINGS[coding](b"x")
    for text in (junk, compressed[:cut] + junk):
        try:
            decompressed(coding, text[:cut], text[cut:])
        except Undecodable:
            continue


@pytest.mark.parametrize("coding", CODINGS)
def test_the_beginning_of_a_body(coding: str) -> None:
    text = random.Random(1).randbytes(3 * PIECE_BYTES)
    packed = CODINGS[coding](text)
    assert beginning_of(packed, coding.upper(), 10) == text[:10]
    assert beginning_of(packed, coding, len(text) + 1) == text
    assert beginning_of(b"\xff" + packed, coding, 10) == b""
    assert text.startswith(beginning_of(packed[: len(packed) // 2], coding, len(text)))


def test_the_beginning_of_what_is_not_compressed() -> None:
    assert beginning_of(b"text", "identity", 2) == b"te"
    assert beginning_of(b"text", "gzip, br", 2) == b""
