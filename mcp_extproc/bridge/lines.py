"""The framing of the stdio transport: one JSON-RPC message on each line.

Source: MCP 2025-11-25 basic/transports (stdio): messages are delimited by newlines and hold none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ENDS = 4096
"""Bytes that are kept of each end of a line that is skipped: the envelope of a response stands at one of them."""

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")

_ID = rb'"id"\s*:\s*(-?[0-9]{1,20}|"(?:[^"\\]|\\.){0,1024}")'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"'
_ID_AT_START = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID + rb"\s*,")
_ID_AT_END = re.compile(_ID + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*\Z")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that was larger than the bound, or than what may be held now."""

    start: bytes
    end: bytes
    found_no_room: bool
    """Whether it was what may be held now."""

    @property
    def id(self) -> bytes | None:
        """The JSON text of the message's id, where the ends of the line show it.

        Both places are members of the outermost object: nothing was opened before the one, and nothing is closed between
        the other and the end of the line.
        """
        found = _ID_AT_START.match(self.start) or _ID_AT_END.search(self.end)
        return None if found is None else found[1]


class Lines:
    """An incremental reader. Chunks may end anywhere.

    Args:
        max_bytes: most bytes of a line.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._pending = bytearray()
        self._start: bytes | None = None
        """Of a line that is skipped. What is pending is the last of it then."""
        self._found_no_room = False

    @property
    def held(self) -> int:
        """Bytes of a line that is not complete."""
        return len(self._pending)

    def skip(self) -> None:
        """There is no room for the line that is not complete."""
        if self._start is None:
            self._found_no_room = True
            self._begin_to_skip(b"")

    def feed(self, chunk: bytes) -> Iterator[bytes | Skipped]:
        """The lines that a chunk completes, without their ends and without empty ones."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._add(chunk[start:end])
            start = end + 1
            yield from self._take()
        self._add(chunk[start:])

    def _add(self, piece: bytes) -> None:
        if self._start is None and len(self._pending) + len(piece) <= self._max:
            self._pending += piece
            return
        if self._start is None:
            self._begin_to_skip(piece)
        else:
            self._pending += piece[-_ENDS:]
            del self._pending[:-_ENDS]

    def _begin_to_skip(self, piece: bytes) -> None:
        self._start = bytes(self._pending[:_ENDS] + piece[:_ENDS])[:_ENDS]
        self._pending = (self._pending[-_ENDS:] + piece[-_ENDS:])[-_ENDS:]

    def _take(self) -> Iterator[bytes | Skipped]:
        if self._start is not None:
            skipped = Skipped(self._start, bytes(self._pending), self._found_no_room)
            self._start, self._found_no_room = None, False
            self._pending.clear()
            yield skipped
            return
        pending = bytes(self._pending)
        self._pending.clear()
        if line := _without_line_breaks(pending).strip(b" \t"):
            yield line


def as_line(message: bytes) -> bytes:
    """A JSON text as a line. In JSON, line breaks stand only between tokens, where a blank means the same."""
    return _without_line_breaks(message) + b"\n"


def _without_line_breaks(text: bytes) -> bytes:
    """With blanks instead. Most have none, which is found out many times faster than they are replaced."""
    return text.translate(_LINE_BREAKS) if b"\n" in text or b"\r" in text else text
