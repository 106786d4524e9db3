"""Session tokens: everything a replica needs to serve a session, sealed into the client's ``Mcp-Session-Id``.

A token is ``version . key id . nonce . AES-256-GCM(payload)`` in URL-safe Base64 (visible ASCII, as MCP 2025-11-25
basic/transports, Session Management asks). One bit of the nonce is not random: it tells Envoy, which can't open tokens,
whether a server of the session answers in event streams (:data:`IN_EVENTS`). See :mod:`mcp_extproc.mcp.sealing` for the
keys, and for what may change between releases.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.structs import force_setattr

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.mcp.capabilities import Flags, shared
from mcp_extproc.mcp.sealing import derive_key, from_base64, to_base64

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES
_TAG_BYTES = 16
_NOT_IN_EVENTS = 0x20
"""Of the nonce's first byte, whose lower six bits are one character of the token."""
IN_EVENTS: Final = "[A-Za-z0-9_-]{7}[A-Za-f].*"
"""RE2: tokens of sessions with servers that answer in event streams. Only a hint: of the tokens that earlier releases made,
half have it, and whoever changes it has no token any more."""
MAX_TOKEN_CHARS = 48 * 1024
"""Longest token looked at. Envoy takes 60 KiB of headers in all."""

_MAX_SESSION_BYTES: Final = MAX_TOKEN_CHARS * 3 // 4 - _HEADER_BYTES - _TAG_BYTES
"""Most bytes of a session whose token is looked at."""

_MAX_REMEMBERED = 8192
_MAX_REMEMBERED_BYTES = 32 * MIB
_MAX_REMEMBERED_CHARS = 4096


class BadToken(ValueError):
    """No session of ours: unknown, expired, tampered with, of another endpoint or of another principal. The client learns
    no more than that."""


class ExpiredToken(BadToken):
    """A session of ours that has expired.

    Attributes:
        session: its short name (:attr:`OpenedSession.id`).
        version: of the protocol.
    """

    def __init__(self, session: str, version: str) -> None:
        super().__init__("expired")
        self.session = session
        self.version = version


class UpstreamSession(msgspec.Struct, frozen=True, array_like=True):
    """The gateway's session with one server."""

    version: str
    """Negotiated protocol version."""
    id: str | None
    """The server's ``Mcp-Session-Id``, or ``None`` for a server without sessions."""
    capabilities: Flags
    """What the server offers."""
    carried: str = ""
    """Hash of what the server got of the caller when it was opened; empty for nothing. No other caller has it."""

    def __post_init__(self) -> None:
        # A worker remembers thousands, of which nearly all say the same here.
        force_setattr(self, "capabilities", shared(self.capabilities))

    def __repr__(self) -> str:
        # The id is a credential for the session.
        return f"UpstreamSession({self.version!r}, {'an id' if self.id is not None else 'no id'})"


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A client's session, as it was when ``initialize`` answered."""

    audience: str
    """The endpoint that the session belongs to."""
    principal: str
    """Hash of the authenticated caller, or empty for anonymous callers."""
    version: str
    """Protocol version negotiated with the client."""
    expires: int
    """Unix time in seconds."""
    client: str
    """``name/version`` the client gave, for logs. Self-reported: never a basis for a decision."""
    client_flags: Flags
    """What the client can be asked for."""
    upstreams: dict[str, UpstreamSession]
    """By server. A server that was down at ``initialize`` is missing."""
    offer: int = 0
    """Checksum of what the configuration offered clients then; 0 where it is not known."""

    def __post_init__(self) -> None:
        force_setattr(self, "client_flags", shared(self.client_flags))


class OpenedSession(msgspec.Struct, frozen=True):
    """A session read from a token."""

    id: str
    """Short name of the token for logs, metadata and revocation. Reveals nothing and opens nothing."""
    session: Session


def of_a_size(session: Session) -> tuple[Session, tuple[str, ...]]:
    """A session whose token can be sent, and the servers that are left out of it: those that take most, so a server with a
    long id is in nobody's way but its own."""
    encode = msgspec.msgpack.Encoder().encode
    excess = len(encode(session)) - _MAX_SESSION_BYTES
    sizes = {name: len(encode({name: upstream})) - 1 for name, upstream in session.upstreams.items()}
    kept, left_out = dict(session.upstreams), []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if excess <= 0:
            break
        excess -= sizes[name]
        del kept[name]
        left_out.append(name)
    return msgspec.structs.replace(session, upstreams=kept), tuple(left_out)


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
        self._recent: Bounded[str, OpenedSession] = Bounded(_MAX_REMEMBERED, _MAX_REMEMBERED_BYTES)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Session).decode

    def seal(self, session: Session, *, in_events: bool = False) -> tuple[str, str]:
        """The token of a session, and its short name (:attr:`OpenedSession.id`).

        Args:
            session: what the token holds.
            in_events: whether it has to match :data:`IN_EVENTS`.
        """
        nonce = _marked(self._random(_NONCE_BYTES), in_events=in_events)
        header = _VERSION + self._key_id + nonce
        sealed = self._aead.encrypt(nonce, self._encode(session), _VERSION + self._key_id)
        return to_base64(header + sealed), _short_name(nonce)

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
        opened = self._recent.get(token)
        if opened is None:
            opened = self._unseal(token)
            if len(token) <= _MAX_REMEMBERED_CHARS:
                self._recent.keep(token, opened, size_of(token))
        session = opened.session
        if session.expires <= now:
            raise ExpiredToken(opened.id, session.version)
        if session.audience != audience:
            raise BadToken("of another endpoint")
        if session.principal != principal:
            raise BadToken("of another principal")
        return opened

    def _unseal(self, token: str) -> OpenedSession:
        try:
            blob = from_base64(token, MAX_TOKEN_CHARS)
        except ValueError:
            raise BadToken("malformed") from None
        if len(blob) < _HEADER_BYTES + _TAG_BYTES:
            raise BadToken("malformed")
        if blob[:1] != _VERSION:
            raise BadToken("of another version")
        key_id, nonce = blob[1 : 1 + _KEY_ID_BYTES], blob[1 + _KEY_ID_BYTES : _HEADER_BYTES]
        aead = self._by_id.get(key_id)
        if aead is None:
            raise BadToken("unknown key")
        try:
            session = self._decode(aead.decrypt(nonce, blob[_HEADER_BYTES:], blob[: 1 + _KEY_ID_BYTES]))
        except (InvalidTag, msgspec.DecodeError):
            raise BadToken("tampered") from None
        return OpenedSession(_short_name(nonce), session)


def _marked(nonce: bytes, *, in_events: bool) -> bytes:
    first = nonce[0] & ~_NOT_IN_EVENTS if in_events else nonce[0] | _NOT_IN_EVENTS
    return bytes((first,)) + nonce[1:]


def size_of(token: str) -> int:
    """About how many bytes a token and what was read from it hold."""
    return 1024 + 4 * len(token)


def _derive(secret: str) -> tuple[bytes, AESGCM]:
    key = derive_key(secret, "session token v1", 32)
    return hashlib.sha256(b"key id" + key).digest()[:_KEY_ID_BYTES], AESGCM(key)


def _short_name(nonce: bytes) -> str:
    return hashlib.sha256(nonce).hexdigest()[:16]
