"""The audit: one line of JSON for each request that was decided."""

from __future__ import annotations

import json
from bisect import bisect_right
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from mcp_extproc.telemetry.exchange import Exchange, Verdict

MAX_TEXT_BYTES: Final = 512
"""Of one value as JSON. Most are shorter; what is cut ends with an ellipsis."""

_ELLIPSIS: Final = "…"

_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Writes ASCII only, in four times as long."""

_DELETE: Final = b"\x7f"
"""No printable character, and one that orjson does not escape."""

MAX_ARGUMENTS_BYTES: Final = 2048
"""Of what is written of a call's arguments."""


def is_audited(exchange: Exchange) -> bool:
    """Requests and notifications, and whatever was denied."""
    return exchange.is_request or exchange.verdict is Verdict.DENY


def fields(exchange: Exchange) -> dict[str, Any]:
    """What the audit has of an exchange; what is not known is absent. Times are in seconds."""
    found: dict[str, Any] = {
        "time": _time(exchange.started),
        "principal": exchange.principal,
        "issuer": exchange.issuer,
        "method": exchange.method,
        "endpoint": exchange.endpoint,
        "server": exchange.server,
        "tool": exchange.tool,
        "prompt": exchange.prompt,
        "name": exchange.asked_for if exchange.tool is None and exchange.prompt is None else None,
        "uri": exchange.uri,
        "verdict": exchange.verdict.value,
        "rule": exchange.rule,
        "error.type": exchange.error_type,
        "request_id": exchange.request_id,
        "jsonrpc.request.id": exchange.id,
        "session": exchange.session,
        "client_address": None if exchange.client is None else exchange.client.address,
    }
    found = {name: bounded(text, MAX_TEXT_BYTES) for name, text in found.items() if text is not None}
    if exchange.arguments is not None:
        found["arguments"] = bounded(exchange.arguments, MAX_ARGUMENTS_BYTES)
    return found | {"duration": exchange.duration / 1e9}


class LineShape(msgspec.Struct, frozen=True):
    """What the lines of exchanges of a kind have in common: their members, each with a comma behind it."""

    asked: bytes
    decided: bytes


def shape_of(exchange: Exchange) -> LineShape | None:
    """That of an exchange, and of all others of its kind; ``None`` if they have no lines."""
    if not is_audited(exchange):
        return None
    found = fields(exchange)
    asked = [_member(name, found[name]) for name in ("method", "endpoint", "server", "tool", "prompt") if name in found]
    decided = [_member(name, found[name]) for name in ("verdict", "rule", "error.type") if name in found]
    return LineShape(b"".join(asked), b"".join(decided))


def line(exchange: Exchange, shape: LineShape) -> bytes:
    """One line, with its end: its members are those of :func:`fields`, in another order. ASCII only: none of the characters at
    which some readers break a line is in it, nor one that a terminal obeys."""
    named = uri = b""
    if exchange.asked_for is not None and exchange.tool is None and exchange.prompt is None:
        named = _member("name", exchange.asked_for)
    if exchange.uri is not None:
        uri = _member("uri", exchange.uri)
    return of_members(
        exchange.started,
        exchange.duration,
        of_asker(exchange.principal, exchange.issuer),
        shape,
        named + uri,
        b"" if exchange.request_id is None else _member("request_id", exchange.request_id),
        b"" if exchange.id is None else _member("jsonrpc.request.id", exchange.id),
        of_session(exchange.session),
        of_client(None if exchange.client is None else exchange.client.address),
        b"" if exchange.arguments is None else _member("arguments", exchange.arguments, MAX_ARGUMENTS_BYTES),
    )


def of_members(
    started: int, duration: int, asker: bytes, shape: LineShape, named: bytes, request: bytes, id: bytes, session: bytes,
    client: bytes, arguments: bytes,
) -> bytes:  # fmt: skip
    """A line, of the members that it has, each with a comma behind it."""
    seconds, rest = divmod(started, 1_000_000_000)
    return b"".join((
        b'{"time":"', _second(seconds), _MILLISECONDS[rest // 1_000_000], b'",', asker, shape.asked, named, shape.decided,
        request, id, session, client, arguments, b'"duration":', orjson.dumps(duration / 1e9), b"}\n",
    ))  # fmt: skip


def known_line(
    started: int, duration: int, before: bytes, request_id: bytes, id: bytes, between: bytes, arguments: bytes
) -> bytes:
    """A line of which most is known.

    Args:
        started, duration: nanoseconds.
        before: the members in front of those that are its alone.
        request_id: ``X-Request-Id``, as Envoy has it.
        id: the JSON-RPC id, as plain text that :func:`is_plain`.
        between: the members in front of the arguments.
        arguments: JSON, or a hash.
    """
    both = request_id + arguments
    if both.translate(_WITH_LETTERS).isalnum() and len(both) <= 2 * _PLAIN_BYTES:  # as :func:`is_plain`
        request = b'"request_id":"' + request_id + b'",' if request_id else b""
        asked = b'"arguments":"' + arguments + b'",' if arguments else b""
    else:
        request, asked = of_request_id(request_id), of_arguments(arguments)
    milliseconds = started // 1_000_000
    return b"".join((
        _until_second(milliseconds // 1000), _MILLISECONDS[milliseconds % 1000], b'",', before, request,
        b'"jsonrpc.request.id":"' + id + b'",' if id else b"", between, asked, b'"duration":',
        orjson.dumps(duration / 1e9), b"}\n",
    ))  # fmt: skip


@lru_cache(maxsize=64)
def _until_second(seconds: int) -> bytes:
    return b'{"time":"' + _second(seconds)


def of_asker(principal: str | None, issuer: str | None) -> bytes:
    """Who asks, and who vouches for that."""
    who = b"" if principal is None else _often("principal", principal)
    return who if issuer is None else who + _often("issuer", issuer)


def of_session(session: str | None) -> bytes:
    """The session."""
    return b"" if session is None else _often("session", session)


def of_client(address: str | None) -> bytes:
    """Where a client is."""
    return b"" if address is None else _often("client_address", address)


def of_request_id(id: bytes) -> bytes:
    """``X-Request-Id``, as Envoy has it."""
    if not id:
        return b""
    if is_plain(id):
        return b'"request_id":"' + id + b'",'
    return _member("request_id", id.decode("latin-1"))


def of_arguments(arguments: bytes) -> bytes:
    """What there is of arguments: JSON, or a hash."""
    if not arguments:
        return b""
    if is_plain(arguments):
        return b'"arguments":"' + arguments + b'",'
    return _member("arguments", arguments.decode(), MAX_ARGUMENTS_BYTES)


def is_plain(text: bytes) -> bool:
    """Whether it is a word that JSON has as it is, as ids and hashes are, and short enough."""
    return len(text) <= _PLAIN_BYTES and text.translate(_WITH_LETTERS).isalnum()


_WITH_LETTERS: Final = bytes.maketrans(b"-:", b"xx")
_PLAIN_BYTES: Final = 128


def _member(name: str, text: str, limit: int = MAX_TEXT_BYTES) -> bytes:
    return b'"%b":%b,' % (name.encode(), _quoted(bounded(text, limit)))


_OFTEN_CHARACTERS: Final = 128
_kept_member = lru_cache(maxsize=4096)(_member)


def _often(name: str, text: str) -> bytes:
    """A member that many lines have."""
    return _kept_member(name, text) if len(text) <= _OFTEN_CHARACTERS else _member(name, text)


def _quoted(text: str) -> bytes:
    try:
        quoted = orjson.dumps(text)
    except TypeError:  # halves of characters, by escapes in an id
        return _ENCODE(text).encode("ascii")
    return quoted if quoted.isascii() and _DELETE not in quoted else _ENCODE(text).encode("ascii")


def bounded(text: str, limit: int) -> str:
    """A text of which the JSON has no more than ``limit`` bytes.

    >>> bounded("short", 10), bounded("much longer", 10)
    ('short', 'much…')
    """
    if len(text) * 12 <= limit or _length(text) <= limit:  # a character has twelve bytes at most
        return text
    room = limit - _length(_ELLIPSIS)
    # Each character has a byte at least. One by one they would take a hundred times as long as all at once.
    ends = range(min(len(text), room) + 1)
    return text[: bisect_right(ends, room, key=lambda end: _length(text[:end])) - 1] + _ELLIPSIS


def _length(text: str) -> int:
    return len(json.dumps(text)) - 2


def _time(nanoseconds: int) -> str:
    """ISO 8601 with milliseconds.

    >>> _time(1_790_000_000_123_456_789)
    '2026-09-21T14:13:20.123Z'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return (_second(seconds) + _MILLISECONDS[rest // 1_000_000]).decode()


_MILLISECONDS: Final = tuple(b".%03dZ" % number for number in range(1000))


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}".encode()
