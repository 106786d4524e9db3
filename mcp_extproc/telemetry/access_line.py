"""Records of the access log as lines that people read, for a terminal. What reads them by program gets the JSON itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mcp_extproc.telemetry.printable import printable

MAX_RECORD_BYTES = 64 << 10
"""Of what has no line break yet. Envoy cuts its own values; a record has a few KiB."""

_MAX_CHARACTERS = 120
"""Of a value of the client's or the server's."""


class AccessLines:
    """Makes lines of what Envoy writes, which arrives in parts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> Iterator[str]:
        """The lines that are whole with this part. Something without end is dropped at :data:`MAX_RECORD_BYTES`."""
        *records, rest = (self._rest + part).split(b"\n")
        self._rest = rest if len(rest) <= MAX_RECORD_BYTES else b""
        return (line(record) for record in records if record)


def line(record: bytes) -> str:
    """One record: when, status, duration, what was asked of whom, and what went wrong.

    >>> line(b'{"start_time":"2026-01-01T10:00:00.000Z","status":200,"duration_ms":6,"http_method":"GET"}')[8:]
    ' 200      6 ms  GET'
    """
    try:
        fields = json.loads(record)
        started = datetime.fromisoformat(fields["start_time"]).astimezone().strftime("%H:%M:%S")
        numbers = f"{fields['status']:3d} {fields.get('duration_ms', 0):6d} ms"
    except (ValueError, TypeError, KeyError):
        # Envoy's own words, or those of something else that runs in it.
        return printable(record.decode(errors="replace"))
    return printable(f"{started} {numbers}  " + " ".join(_words(fields)))


def _words(fields: Mapping[str, Any]) -> Iterator[str]:
    yield _cut(fields.get("mcp.method.name") or fields.get("http_method", "-"))
    for name in ("mcp.name", "mcp.resource.uri"):
        if name in fields:
            yield _cut(fields[name])
    if "mcp.batch" in fields:
        yield f"batch of {_cut(fields['mcp.batch'])}"
    if "mcp.unavailable" in fields:
        yield f"without {_cut(fields['mcp.unavailable'])}"
    if "error.type" in fields:
        yield f"error {_cut(fields['error.type'])}"
    elif fields.get("response_flags", "-") != "-":
        yield f"error {_cut(fields['response_flags'])}"
    if "mcp.client" in fields:
        yield f"({_cut(fields['mcp.client'])})"


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"
