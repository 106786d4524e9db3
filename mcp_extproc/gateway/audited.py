"""What the audit has of a call's arguments: a keyed hash, or their names. Values never."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final

import msgspec
import orjson

MASK: Final = "***"
MAX_BYTES: Final = 2048
"""Of the names. Whatever is longer is left out whole: half of an object says what is not so."""

MAX_READ_BYTES: Final = 64 << 10
"""Of arguments whose names are looked for."""

MAX_DEPTH: Final = 8
_ELEMENTS: Final = 20

TOO_LARGE: Final = '"too large"'

_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode

_LABEL: Final = b"mcp-extproc audit of arguments"


def key_of(secret: bytes) -> bytes:
    """The key of hashes, from the secret of sessions: all workers have the same, and nobody learns the secret by it."""
    return hmac.digest(secret, _LABEL, hashlib.sha256)


Text = bytes | msgspec.Raw
"""JSON."""


class Hasher:
    """Hashes arguments as they were sent: the same for the same text. Without the key nobody can try values.

    Args:
        key: see :func:`key_of`.

    >>> Hasher(b"key")(b'{"a":1}') == "hmac-sha256:" + hmac.digest(b"key", b'{"a":1}', hashlib.sha256).hex()
    True
    """

    def __init__(self, key: bytes) -> None:
        # HMAC (RFC 2104, section 2), of which a half is the same each time: section 4 says to keep that.
        block = hashlib.sha256(key).digest() if len(key) > _BLOCK else key
        block = block.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def __call__(self, arguments: Text) -> str:
        """The hash."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(arguments)
        outer.update(inner.digest())
        return "hmac-sha256:" + outer.hexdigest()


_BLOCK: Final = 64
"""Bytes that SHA-256 takes at once."""
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def redacted(arguments: Text) -> str:
    """The arguments as JSON with each value masked, inside of objects and arrays too. Of an array there is one element for
    each kind of its first ones.

    Args:
        arguments: valid JSON, as it was sent.

    >>> redacted(b'{"path": "/etc/passwd", "lines": [1, 2], "more": {"deep": null}}')
    '{"path":"***","lines":["***"],"more":{"deep":"***"}}'
    """
    arguments = bytes(arguments)
    if len(arguments) > MAX_READ_BYTES:
        return TOO_LARGE
    try:
        masked = orjson.dumps(_masked(orjson.loads(arguments), MAX_DEPTH)).decode()
    except (ValueError, TypeError):  # halves of characters, by escapes, and numbers that are no float: valid JSON, too
        try:
            masked = _ENCODE(_masked(json.loads(arguments, parse_int=str, parse_float=str), MAX_DEPTH))
        except RecursionError:
            return TOO_LARGE
    return masked if len(masked.encode()) <= MAX_BYTES else TOO_LARGE


def _masked(value: Any, depth: int) -> Any:
    if depth and isinstance(value, dict):
        return {name: _masked(inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list):
        kinds: list[Any] = []
        for inner in value[:_ELEMENTS]:
            if (masked := _masked(inner, depth - 1)) not in kinds:
                kinds.append(masked)
        return kinds
    return MASK
