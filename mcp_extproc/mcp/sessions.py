"""Session tokens: everything a replica needs to serve a session, sealed into the client's ``Mcp-Session-Id``.

A token is ``version . key id . nonce . AES-256-GCM(payload)`` in URL-safe Base64 (visible ASCII, as MCP 2025-11-25
basic/transports, Session Management asks). Keys are derived once with HKDF-SHA256 (RFC 5869), one for each purpose.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES
_TAG_BYTES = 16
MAX_TOKEN_CHARS = 48 * 1024
"""Longest token looked at. Envoy takes 60 KiB of headers in all."""


class BadToken(ValueError):
    """No session of ours: unknown, expired, tampered with, of another endpoint or of another principal. The client is told
    no more than that."""


class UpstreamSession(msgspec.Struct, frozen=True, array_like=True):
    """The gateway's session with one server."""

    version: str
    """Negotiated protocol version."""
    id: str | None
    """The server's ``Mcp-Session-Id``, or ``None`` for a server without sessions."""
    capabilities: frozenset[str]
    """Names of the server's capabilities."""


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A client's session, as it was when ``initialize`` answered."""

    audience: str
    """The endpoint that the session belongs to."""
    principal: str
    """Hash of the authenticated caller, or empty where nobody is authenticated."""
    version: str
    """Protocol version negotiated with the client."""
    expires: int
    """Unix time in seconds."""
    client: str
    """``name/version`` the client gave, for logs. Self-reported: never a basis for a decision."""
    client_capabilities: bytes
    """JSON text of what the client declared."""
    upstreams: dict[str, UpstreamSession]
    """By server. A server that was down at ``initialize`` is missing."""


class OpenedSession(msgspec.Struct, frozen=True):
    """A session read from a token."""

    id: str
    """Short name of the token for logs, metadata and revocation. Reveals nothing and opens nothing."""
    session: Session


class Sealer:
    """Seals and opens tokens.

    Args:
        secret: seals new tokens, and opens them.
        previous: open only, while clients still hold their tokens.
        random: source of nonces, ``os.urandom`` unless a test needs another.
    """

    def __init__(self, secret: str, previous: Sequence[str] = (), random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        keys = [_derive(text) for text in (secret, *previous)]
        self._key_id, self._aead = keys[0]
        self._by_id = dict(reversed(keys))
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Session).decode

    def seal(self, session: Session) -> tuple[str, str]:
        """The token of a session, and its short name (:attr:`OpenedSession.id`)."""
        nonce = self._random(_NONCE_BYTES)
        header = _VERSION + self._key_id + nonce
        sealed = self._aead.encrypt(nonce, self._encode(session), _VERSION + self._key_id)
        return base64.urlsafe_b64encode(header + sealed).rstrip(b"=").decode(), _short_name(nonce)

    def open(self, token: str, *, audience: str, principal: str, now: float) -> OpenedSession:
        """The session of a token.

        Args:
            token: what the client sent as ``Mcp-Session-Id``.
            audience: the endpoint the token was used at.
            principal: hash of the authenticated caller, or empty.
            now: Unix time in seconds.

        Raises:
            BadToken: it can't be served. The reason is in ``str()``, for our log only.
        """
        blob = _decode_base64(token)
        if len(blob) < _HEADER_BYTES + _TAG_BYTES or blob[:1] != _VERSION:
            raise BadToken("malformed")
        key_id, nonce = blob[1 : 1 + _KEY_ID_BYTES], blob[1 + _KEY_ID_BYTES : _HEADER_BYTES]
        aead = self._by_id.get(key_id)
        if aead is None:
            raise BadToken("unknown key")
        try:
            session = self._decode(aead.decrypt(nonce, blob[_HEADER_BYTES:], blob[: 1 + _KEY_ID_BYTES]))
        except (InvalidTag, msgspec.DecodeError):
            raise BadToken("tampered") from None
        if session.expires <= now:
            raise BadToken("expired")
        if session.audience != audience:
            raise BadToken("of another endpoint")
        if session.principal != principal:
            raise BadToken("of another principal")
        return OpenedSession(_short_name(nonce), session)


def _derive(secret: str) -> tuple[bytes, AESGCM]:
    key = HKDF(SHA256(), 32, salt=b"mcp-extproc", info=b"session token v1").derive(secret.encode())
    return hashlib.sha256(b"key id" + key).digest()[:_KEY_ID_BYTES], AESGCM(key)


def _decode_base64(token: str) -> bytes:
    # Strict, with one spelling for each token: flipping the unused bits of the last character must not go unnoticed.
    if not 0 < len(token) <= MAX_TOKEN_CHARS or not token.isascii() or "=" in token:
        raise BadToken("malformed")
    try:
        blob = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise BadToken("malformed") from None
    if base64.urlsafe_b64encode(blob).rstrip(b"=").decode() != token:
        raise BadToken("malformed")
    return blob


def _short_name(nonce: bytes) -> str:
    return hashlib.sha256(nonce).hexdigest()[:16]
