"""How servers look to one client session: what identifiers become on their way down, and what they were on the way back."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import msgspec
import orjson

from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.sealing import MAX_BLOB_BYTES, NotSealed, TextSealer
from mcp_extproc.mcp.sessions import UpstreamSession

MAX_UPSTREAM_ID_BYTES = 512
"""Longest id or progress token taken from a server: sealed, it travels in ids."""

_MAX_HIDDEN_CHARS = 64 * 1024
"""Longest text from another worker: a session and a URI, of the greatest length that either may have, and in Base64."""

_NUMERIC_ID_MARK = "mcp-extproc:"

_encode = msgspec.msgpack.Encoder().encode

_MOST_FOR_A_LENGTH = 4
"""More bytes for the length of a long array in msgpack than for that of an empty one."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where one server's stream stands."""

    server: str
    session: int
    """Checksum of the server's session id: another session knows nothing of this stream."""
    event_id: str


class Position(msgspec.Struct, frozen=True, array_like=True):
    """What an event id of ours means."""

    method: str
    """Of the request whose response the stream carries, or empty for the stream of a GET."""
    cursors: tuple[Cursor, ...]
    """A merged stream is resumed at every server, so each id holds them all, the one that has moved last at the end."""
    id: bytes = b""
    """Of the request, as the client wrote it; empty for the stream of a GET, and in ids of release 0.2."""

    def fitting(self) -> Position:
        """What of it fits into an event id: as many cursors as there is room for, those that have moved last first."""
        room = MAX_BLOB_BYTES - len(_encode(Position(self.method, (), self.id))) - _MOST_FOR_A_LENGTH
        kept: list[Cursor] = []
        for cursor in reversed(self.cursors):
            size = len(_encode(cursor))
            if size <= room:
                kept.insert(0, cursor)
                room -= size
        return Position(self.method, tuple(kept), self.id)


_decode_position = msgspec.msgpack.Decoder(Position).decode


class Owned(msgspec.Struct, frozen=True, array_like=True):
    """What a sealed id or progress token means."""

    server: str
    session: int
    """Checksum of the server's session id: a server that was restarted counts from the start again."""
    raw: bytes
    """The server's own JSON text, type and digits as it wrote them."""


_decode_owned = msgspec.msgpack.Decoder(Owned).decode
_decode_owner = msgspec.msgpack.Decoder(tuple[bytes, str]).decode


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """What the id of a question to a user means: which one it is, and who waits for the answer."""

    question: bytes
    """Random, never twice."""
    worker: str
    """Where that worker takes what others got for it; empty where it can't."""


class Consent(msgspec.Struct, frozen=True, array_like=True):
    """What a user consented to."""

    call: bytes
    """Digest of the request as the user was shown it."""
    server: str
    tool: str
    """The server's own name."""
    question: bytes
    """The one that was answered: a consent is used once."""


_decode_asked = msgspec.msgpack.Decoder(Asked).decode
_decode_consent = msgspec.msgpack.Decoder(Consent).decode


@dataclass(frozen=True, slots=True)
class ClientView:
    """What the relay has to know of a caller.

    Attributes:
        key: the caller's; sealed texts are bound to it.
        version: protocol version that the client speaks.
        flags: what the client can be asked for.
    """

    key: str
    version: str
    flags: Flags


class Identifiers:
    """Seals what a client must bring back unchanged: ids of servers' requests, progress tokens, event ids.

    Args:
        sealer: of texts.
    """

    def __init__(self, sealer: TextSealer) -> None:
        self._sealer = sealer

    def own(self, purpose: str, view: ClientView, server: str, session: UpstreamSession, raw: bytes) -> bytes:
        """A server's id or token as JSON text for the client: unique over all servers, and ours to recognise."""
        owned = Owned(server, session_checksum(session), raw)
        return orjson.dumps(self._sealer.seal(purpose, view.key, _encode(owned)))

    def owner(self, purpose: str, key: str, raw: bytes) -> Owned | None:
        """Whose id or token it is; ``None`` for what is not ours."""
        text = jsontext.text_of(raw)
        if text is None:
            return None
        try:
            return _decode_owned(self._sealer.open(purpose, key, text))
        except (NotSealed, msgspec.DecodeError):
            return None

    def hidden(self, blob: bytes) -> str:
        """Bytes for another worker, by way of metadata: whoever sees that must not read them."""
        return self._sealer.seal("worker", "", blob)

    def shown(self, text: str) -> bytes:
        """What was hidden.

        Raises:
            NotSealed: it was not hidden here.
        """
        return self._sealer.open("worker", "", text, _MAX_HIDDEN_CHARS)

    def event_id(self, view: ClientView, position: Position) -> str:
        """An event id for the client. It has to come back in a header, and so it holds no more than fits."""
        blob = _encode(position)
        if len(blob) > MAX_BLOB_BYTES:
            blob = _encode(position.fitting())
        return self._sealer.seal("event", view.key, blob)

    def position(self, key: str, event_id: str) -> Position | None:
        """What an event id means, or ``None`` for what is not ours."""
        try:
            return _decode_position(self._sealer.open("event", key, event_id))
        except (NotSealed, msgspec.DecodeError):
            return None

    def question_id(self, key: str, asked: Asked) -> str:
        """The id of a question to a user."""
        return self._sealer.seal("question", key, _encode(asked))

    def asked(self, key: str, raw: bytes) -> Asked | None:
        """Which question of ours an id means; ``None`` for what is none."""
        text = jsontext.text_of(raw)
        if text is None:
            return None
        try:
            return _decode_asked(self._sealer.open("question", key, text))
        except (NotSealed, msgspec.DecodeError):
            return None

    def consent(self, key: str, consent: Consent) -> str:
        """A user's consent, for a request that passes Envoy once more. It goes by a header."""
        return self._sealer.seal("consent", key, _encode(consent))

    def consented(self, key: str, text: str) -> Consent | None:
        """What was consented to; ``None`` where nothing of ours says so."""
        try:
            return _decode_consent(self._sealer.open("consent", key, text))
        except (NotSealed, msgspec.DecodeError):
            return None

    def told_owner(self, key: str, kind: str, name: str, server: str) -> str:
        """Whose a name or URI is, for a request that passes the policies once more. It goes by a header."""
        return self._sealer.seal("owner", key, _encode((_digest(kind, name), server)))

    def owner_told(self, key: str, kind: str, name: str, text: str) -> str | None:
        """The server's name; ``None`` where nothing of ours says so."""
        try:
            digest, server = _decode_owner(self._sealer.open("owner", key, text))
        except (NotSealed, msgspec.DecodeError):
            return None
        return server if digest == _digest(kind, name) else None


def digest_of(request: bytes) -> bytes:
    """For :attr:`Consent.call`."""
    return hashlib.blake2s(request).digest()


def _digest(kind: str, name: str) -> bytes:
    return hashlib.blake2s(f"{kind}\0{name}".encode(), digest_size=16).digest()


def session_checksum(session: UpstreamSession) -> int:
    """For :attr:`Cursor.session`."""
    return zlib.crc32((session.id or "").encode())


# -- Ids of clients' requests -------------------------------------------------------------------------------------------


def id_for_server(id: bytes) -> bytes:
    """A client's id as servers get it: as it is, but for a string that reads like a number (or like a marked one).

    Servers on the Python SDK keep streams by ``str(id)`` and the SDKs' clients read ``"5"`` as 5, so that ``0`` and ``"0"``,
    in flight together, would get each other's answer.

    >>> id_for_server(b'7'), id_for_server(b'"7"')
    (b'7', b'"mcp-extproc:7"')
    """
    if id[:1] != b'"':
        return id
    text = jsontext.text_of(id)
    if text is None or not (text.strip().lstrip("+-").isdigit() or text.startswith(_NUMERIC_ID_MARK)):
        return id
    return orjson.dumps(_NUMERIC_ID_MARK + text)


def id_for_client(id: bytes) -> bytes:
    """The client's own id again."""
    text = jsontext.text_of(id) if id.startswith(b'"' + _NUMERIC_ID_MARK.encode()) else None
    return id if text is None else orjson.dumps(text.removeprefix(_NUMERIC_ID_MARK))
