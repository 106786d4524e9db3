"""Server-sent events: bytes in, events out. Source: WHATWG HTML, section 9.2.6 (Interpreting an event stream)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event exceeds the parser's bound."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One dispatched event."""

    data: bytes
    """Lines of ``data`` joined by LF. May be empty (a priming event)."""
    event: str = "message"
    id: str | None = None
    """The event's own id, or ``None`` where it set none."""
    retry: int | None = None
    """Reconnection time in milliseconds, where the event set one."""


class SseParser:
    """An incremental parser. Chunks may end anywhere, also inside a CRLF or a UTF-8 character.

    Args:
        max_event_bytes: most bytes held for one event.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._after_cr = False
        self._started = False
        self._data: list[bytes] = []
        self._data_size = 0
        self._event = ""
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes. An event without its closing blank line is dropped at the end of the
        stream, as the standard says.

        Raises:
            EventTooLarge: an event exceeds the bound; the stream can't go on.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        events: list[SseEvent] = []
        start = 0
        for end in _LINE_END.finditer(chunk):
            line = chunk[start : end.start()]
            start = end.end()
            if self._pending:
                line = b"".join([*self._pending, line])
                self._pending.clear()
            self._check_size(len(line))
            self._pending_size = 0
            if event := self._line(line):
                events.append(event)
        if start and start == len(chunk) and chunk[-1:] == b"\r":
            self._after_cr = True
        if start < len(chunk):
            self._pending.append(chunk[start:])
            self._pending_size += len(chunk) - start
        self._check_size(self._pending_size)
        return events

    def _check_size(self, line_size: int) -> None:
        if line_size + self._data_size > self._max:
            raise EventTooLarge(f"an event is larger than {self._max} bytes")

    def _line(self, line: bytes) -> SseEvent | None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._data_size += len(value) + 1
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit():
                self._retry = int(value[:12])
        return None

    def _dispatch(self) -> SseEvent | None:
        event = None
        if self._data:
            event = SseEvent(b"\n".join(self._data), self._event or "message", self._id, self._retry)
        self._clear()
        return event

    def _clear(self) -> None:
        self._data = []
        self._data_size = 0
        self._event = ""
        self._id = None
        self._retry = None
