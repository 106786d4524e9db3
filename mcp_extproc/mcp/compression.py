"""Decompression of what servers compress although they were asked not to: bytes in, bounded pieces out. Sans-IO.

Source: RFC 9110 section 8.4 (Content-Encoding), RFC 7932 (brotli), RFC 8878 and RFC 9659 (zstd).
"""

from __future__ import annotations

import contextlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

PIECE_BYTES: Final = 64 * 1024
"""Most bytes of a piece, about. Others may run between two of them."""

MAX_RATIO: Final = 100
"""Most bytes that each one of a chunk may become, beyond an allowance. Envoy's decompressors have the same bound."""

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_ZSTD_WINDOW_LOG: Final = 23
"""RFC 9659: a window has 8 MiB at most."""


class Undecodable(ValueError):
    """The body can't be decompressed. ``str()`` is a clause about it for people."""


def encoding_of(content_encoding: str) -> str:
    """The only encoding of a body by its ``Content-Encoding``, in lower case; empty where there is none.

    >>> encoding_of(" X-GZip"), encoding_of("identity"), encoding_of("")
    ('gzip', '', '')
    """
    encoding = content_encoding.strip().lower()
    return _SYNONYMS.get(encoding, encoding)


_SYNONYMS: Final = {"identity": "", "x-gzip": "gzip"}


def beginning_of(body: bytes, content_encoding: str, most: int) -> bytes:
    """The beginning of a whole body, decompressed, as far as it can be.

    Args:
        body: as it was sent.
        content_encoding: of it, as its sender names it.
        most: bytes of the beginning.
    """
    encoding = encoding_of(content_encoding)
    if not encoding:
        return body[:most]
    found = bytearray()
    with contextlib.suppress(Undecodable):
        for piece in Decompressor(encoding, most).feed(body):
            found += piece
            if len(found) >= most:
                break
    return bytes(found[:most])


class Decompressor:
    """Decompresses a body that comes in pieces.

    Args:
        encoding: as :func:`encoding_of` finds it.
        allowance: bytes that a chunk may become, however small it is.

    Raises:
        Undecodable: the encoding is unknown, or there are several.
    """

    def __init__(self, encoding: str, allowance: int) -> None:
        if encoding not in _CODECS:
            raise Undecodable("has a content-encoding that is not supported")
        self._encoding = encoding
        self._codec = _CODECS[encoding]
        self._allowance = allowance
        self._stream: _Stream | None = None

    @property
    def held(self) -> int:
        """Most bytes that it takes itself, as later bytes refer to earlier ones."""
        return 0 if self._stream is None else self._codec.window

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk becomes. All of it has to be taken before the next chunk is given.

        Raises:
            Undecodable: the body can't be read on.
        """
        room = self._allowance + MAX_RATIO * len(chunk)
        while chunk or not self._waits_for_more:
            if self._stream is None or self._stream.eof:
                self._stream = self._codec.stream(chunk)  # of several, one behind the other
            try:
                piece = self._stream.decompress(chunk, PIECE_BYTES)
            except Exception as error:  # noqa: BLE001 - each library raises its own
                raise Undecodable(f"is not what {self._encoding} makes ({type(error).__name__})") from None
            chunk = self._stream.unused_data if self._stream.eof else b""
            room -= len(piece)
            if room < 0:
                raise Undecodable("is too large when it is decompressed")
            yield piece

    @property
    def _waits_for_more(self) -> bool:
        return self._stream is None or self._stream.eof or self._stream.needs_input

    def finish(self) -> None:
        """The body ends here.

        Raises:
            Undecodable: a part of it is missing.
        """
        if self._stream is not None and not self._stream.eof:
            raise Undecodable("is cut off")


class _Stream(Protocol):
    """One compressed stream, in the words of ``compression.zstd``."""

    @property
    def eof(self) -> bool:
        """Whether its end was seen."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing is left of what was given."""

    @property
    def unused_data(self) -> bytes:
        """What was behind its end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most so many bytes. What they were not made of is kept for the next time."""


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._object = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._object.decompress(self._object.unconsumed_tail + data, max_length)
        self.needs_input = not self._object.unconsumed_tail and len(piece) < max_length
        return piece


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._object = brotli.Decompressor()
        self.needs_input = True
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._object.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = bytes(self._object.process(data, output_buffer_limit=max_length))
        # It takes more before all is out, so that alone says nothing.
        self.needs_input = not piece
        return piece


def _gzip(_: bytes) -> _Stream:
    return _Zlib(zlib.MAX_WBITS | 16)


def _deflate(start: bytes) -> _Stream:
    """zlib's format, or its content alone, which some servers send. The method, 8, is the lower half of the first byte
    (RFC 1950); a block of the content would begin with bits that mean nothing."""
    return _Zlib(zlib.MAX_WBITS if start[0] & 0x0F == 8 else -zlib.MAX_WBITS)


def _brotli(_: bytes) -> _Stream:
    return _Brotli()


def _zstd(_: bytes) -> _Stream:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


class _Codec(NamedTuple):
    stream: Callable[[bytes], _Stream]
    """Begins with these bytes."""
    window: int
    """Bytes."""


_CODECS: Final[Mapping[str, _Codec]] = MappingProxyType({
    "gzip": _Codec(_gzip, 64 * _KIB),
    "deflate": _Codec(_deflate, 64 * _KIB),
    "br": _Codec(_brotli, 16 * _MIB),
    "zstd": _Codec(_zstd, 1 << _ZSTD_WINDOW_LOG),
})  # fmt: skip
