"""The audit: one line of JSON for each request that was decided."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

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


def line(exchange: Exchange) -> bytes:
    """One line, with its end. ASCII only: none of the characters at which some readers break a line is in it, nor one that a
    terminal obeys."""
    found = fields(exchange)
    try:
        text = orjson.dumps(found)
    except TypeError:  # halves of characters, by escapes in an id
        text = b"\xff"
    if not text.isascii() or _DELETE in text:
        text = _ENCODE(found).encode("ascii")
    return text + b"\n"


def bounded(text: str, limit: int) -> str:
    """A text of which the JSON has no more than ``limit`` bytes.

    >>> bounded("short", 10), bounded("much longer", 10)
    ('short', 'much…')
    """
    if len(text) * 12 <= limit or _length(text) <= limit:  # a character has twelve bytes at most
        return text
    room = limit - _length(_ELLIPSIS)
    for end, char in enumerate(text):
        room -= _length(char)
        if room < 0:
            return text[:end] + _ELLIPSIS
    return text


def _length(text: str) -> int:
    return len(json.dumps(text)) - 2


def _time(nanoseconds: int) -> str:
    """ISO 8601 with milliseconds.

    >>> _time(1_790_000_000_123_456_789)
    '2026-09-21T14:13:20.123Z'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
