"""The parts of protobuf's wire format needed to write responses, and spans.

A library builds the same messages by reflection, field by field, at several times the cost; the response to a call has some
forty fields, most of them the same as for the call before. Tests parse the output with the library.

Source: Protocol Buffers, Encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_CACHED_CHARS = 256
_DOUBLE = struct.Struct("<d")
_FIXED = struct.Struct("<Q")


def varint(number: int) -> bytes:
    """A varint: seven bits a byte, least significant first."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field: a string, bytes, or a message. ``number`` is at most 15."""
    size = len(payload)
    return (_SHORT[number][size] if size < 0x80 else head(number, size)) + payload


@lru_cache(maxsize=4096)
def head(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field with ``size`` bytes of payload. ``number`` is at most 15."""
    return bytes((number << 3 | 2,)) + varint(size)


@lru_cache(maxsize=4096)
def heads(size: int, *numbers: int) -> bytes:
    """Tags and lengths of fields around ``size`` bytes, each the next one's payload: of the innermost field the number comes
    first."""
    found = b""
    for number in numbers:
        found = head(number, size + len(found)) + found
    return found


_SHORT = tuple(tuple(bytes((number << 3 | 2, size)) for size in range(0x80)) for number in range(16))
"""Tag and length of short fields."""


def number_field(number: int, value: int) -> bytes:
    """An integer, boolean or enum field. ``number`` is at most 15."""
    return bytes((number << 3,)) + varint(value)


def fixed_field(number: int, value: int) -> bytes:
    """A ``fixed64`` field. ``number`` is at most 15."""
    return bytes((number << 3 | 1,)) + _FIXED.pack(value)


# -- google.protobuf.Struct -----------------------------------------------------------------------------------------------


def struct_of(mapping: Mapping[str, Any]) -> bytes:
    """A ``Struct`` of strings, numbers, booleans, lists and mappings."""
    return b"".join([_entry(name, value) for name, value in mapping.items()])


def text_entry(name: str, text: str) -> bytes:
    """An entry of a ``Struct`` whose text is hardly ever the same: it takes no room from others that are kept."""
    raw = text.encode()
    return _before_text(name, len(raw)) + raw


@lru_cache(maxsize=4096)
def _before_text(name: str, size: int) -> bytes:
    value = head(3, size)
    inner = field(1, name.encode()) + head(2, len(value) + size) + value
    return head(1, len(inner) + size) + inner


def _entry(name: str, value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return _known_entry(name, value) if len(value) <= _CACHED_CHARS else _new_entry(name, value)
    if kind is int or kind is bool:
        return _known_entry(name, value)
    if kind is dict and len(value) == 1:
        [(inner, text)] = value.items()
        if type(text) is str and len(text) <= _CACHED_CHARS:
            return _known_pair(name, inner, text)
    return _new_entry(name, value)


@lru_cache(maxsize=4096)
def _known_pair(name: str, inner: str, text: str) -> bytes:
    return _new_entry(name, {inner: text})


def _new_entry(name: str, value: Any) -> bytes:
    return field(1, field(1, name.encode()) + field(2, _value(value)))


_known_entry = lru_cache(maxsize=8192, typed=True)(_new_entry)
"""Most entries are the same as for the call before."""


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return field(3, value.encode())
    if isinstance(value, bool):
        return number_field(4, value)
    if isinstance(value, int | float):
        return b"\x11" + _DOUBLE.pack(value)
    if isinstance(value, list | tuple):
        return field(6, b"".join([field(1, _value(item)) for item in value]))
    return field(5, struct_of(value))
