"""Keys and sealed texts: what the gateway hands out and must recognise when it comes back.

Keys are derived once with HKDF-SHA256 (RFC 5869), one for each purpose. Short texts (ids, progress tokens, event ids) are
sealed with AES-SIV (RFC 5297): the same text always seals to the same value, so that a server's ``cancelled`` can name the
request that it sent before. A sealed text is ``version . AES-SIV(payload)`` in URL-safe Base64.

What is sealed outlives the worker, and the release, that sealed it. Payloads are msgpack arrays: fields are added at the end,
with a default, where a reader that does not know them is still right without them. Any other change is a new version, which
older readers take for none of theirs. docs/design.md, Formats that outlive a release, has the rule.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = b"\x01"

MAX_SEALED_CHARS = 8 * 1024
"""Longest sealed text of a client's or a server's that is looked at."""

MAX_BLOB_BYTES = MAX_SEALED_CHARS * 3 // 4 - len(_VERSION) - 16
"""Most bytes that seal to a text that is looked at. The last ones are AES-SIV's tag."""


class NotSealed(ValueError):
    """A text that is none of ours: garbage, tampered with, of another session, or made for another purpose."""


def derive_key(secret: str, purpose: str, length: int) -> bytes:
    """The key of one purpose, ``length`` bytes long."""
    return HKDF(SHA256(), length, salt=b"mcp-extproc", info=purpose.encode()).derive(secret.encode())


def to_base64(blob: bytes) -> str:
    """URL-safe Base64 without padding."""
    return base64.urlsafe_b64encode(blob).rstrip(b"=").decode()


def from_base64(text: str, max_chars: int) -> bytes:
    """The bytes of :func:`to_base64`, strictly: one spelling for each, so that no flipped bit goes unnoticed.

    Raises:
        ValueError: it is none of its spellings, or longer than ``max_chars``.
    """
    if not 0 < len(text) <= max_chars or not text.isascii() or "=" in text:
        raise ValueError("malformed")
    try:
        blob = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("malformed") from None
    if to_base64(blob) != text:
        raise ValueError("malformed")
    return blob


class TextSealer:
    """Seals short texts for one client session.

    Args:
        secret: seals, and opens.
        previous: open only.
    """

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        self._keys = [AESSIV(derive_key(text, "sealed text v1", 64)) for text in (secret, *previous)]

    def seal(self, purpose: str, session_id: str, blob: bytes) -> str:
        """A text that only this session can bring back, and only for this purpose."""
        return to_base64(_VERSION + self._keys[0].encrypt(blob, _bound_to(purpose, session_id)))

    def open(self, purpose: str, session_id: str, text: str, longest: int = MAX_SEALED_CHARS) -> bytes:
        """What was sealed.

        Args:
            purpose: that it was sealed for.
            session_id: of the session that it was sealed for.
            text: that came back.
            longest: characters that are looked at.

        Raises:
            NotSealed: the text is none of ours.
        """
        try:
            blob = from_base64(text, longest)
        except ValueError:
            raise NotSealed("malformed") from None
        if blob[:1] != _VERSION:
            raise NotSealed("of another version")
        for key in self._keys:
            try:
                return key.decrypt(blob[1:], _bound_to(purpose, session_id))
            except (InvalidTag, ValueError):
                continue
        raise NotSealed("not sealed here for this session")


def _bound_to(purpose: str, session_id: str) -> list[bytes]:
    return [_VERSION, purpose.encode(), session_id.encode()]
