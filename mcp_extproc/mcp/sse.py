"""Server-sent events: bytes in, events out. Source: WHATWG HTML, section 9.2.6 (Interpreting an event stream)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

MAX_EVENT_ID_CHARACTERS = 512
"""Longest event id that a stream is resumed after: sealed, with those of other servers, it has to fit into a header."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_USUAL = re.compile(
    rb"(?:id: ?([^\r\n\0]*+)\r?\n)?+(?:event: ?([^\r\n]*+)\r?\n)?+(?:id: ?([^\r\n\0]*+)\r?\n)?+data: ?([^\r\n]*+)\r?\n\r?\n"
)
"""An event as SDKs write it, whole: read at once instead of line by line, which takes a third of the time."""
_PIECE_BYTES = 16 * 1024
_PIECE_LINES = 36
"""A multiple of the lines that usual events have (two to four): those are not cut in two, which takes them longer to read."""

_LINE_BYTES = 1024
"""As many take as long as a line, however short it is: also blank lines, comments and junk have to be parsed."""

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event exceeds the parser's bound."""


class SseEvent(msgspec.Struct, frozen=True):
    """One block of a stream."""

    data: bytes | None
    """Lines of ``data`` joined by LF; empty in a priming event. ``None`` where the block had no ``data``: browsers dispatch
    no event then, but its id and retry time count, and a comment shows that the server is alive."""
    event: str = "message"
    id: str | None = None
    """The event's own id, or ``None`` where it set none."""
    retry: int | None = None
    """Reconnection time in milliseconds, where the event set one."""


COMMENT = b":\n\n"
"""A block that means nothing, for proxies and clients that end silent connections."""


def render(event: SseEvent) -> bytes:
    """The event as a stream carries it.

    >>> render(SseEvent(b'{}', id="7"))
    b'id: 7\\ndata: {}\\n\\n'
    """
    if event.data is not None and event.event == "message" and event.retry is None and b"\n" not in event.data:
        # As nearly all of them are.
        block = b"data: %b\n\n" % event.data if event.data else b"data:\n\n"
        return block if event.id is None else b"id: %b\n%b" % (event.id.encode(), block)
    lines: list[bytes] = []
    if event.event != "message":
        lines.append(b"event: " + event.event.encode())
    if event.id is not None:
        lines.append(b"id: " + event.id.encode())
    if event.retry is not None:
        lines.append(b"retry: %d" % event.retry)
    if event.data is not None:
        lines += [b"data: " + line if line else b"data:" for line in event.data.split(b"\n")]
    return b"\n".join(lines) + b"\n\n" if lines else COMMENT


def is_resumable(event_id: str) -> bool:
    """Whether a stream can be resumed after an event id of a server's: it goes back in a header (``Last-Event-ID``).

    >>> is_resumable("a-1"), is_resumable(""), is_resumable("a\\x01b")
    (True, False, False)
    """
    return 0 < len(event_id) <= MAX_EVENT_ID_CHARACTERS and all(char >= " " and char != "\x7f" for char in event_id)


def portions(chunk: bytes) -> Iterator[tuple[bytes, int]]:
    """A chunk of a stream in small pieces, each with the bytes that take as long: whatever a server sends, and be it comments
    without end, others can have their turn in between."""
    if len(chunk) <= _PIECE_BYTES and (lines_in := chunk.count(b"\n") + chunk.count(b"\r")) <= _PIECE_LINES:
        yield chunk, max(len(chunk), lines_in * _LINE_BYTES)
        return
    for start in range(0, len(chunk), _PIECE_BYTES):
        lines = chunk[start : start + _PIECE_BYTES].splitlines(keepends=True)
        for first in range(0, len(lines), _PIECE_LINES):
            some = lines[first : first + _PIECE_LINES]
            piece = b"".join(some)
            yield piece, max(len(piece), len(some) * _LINE_BYTES)


class SseParser:
    """An incremental parser. Chunks may end anywhere, also inside a CRLF or a UTF-8 character.

    Args:
        max_event_bytes: most bytes held for one event.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._pending = bytearray()
        """A line that is not complete."""
        self._after_cr = False
        self._started = False
        self._data: bytes | bytearray | None = None
        """Lines joined by LF, in one piece, as many short ones would take many times their size. A single one, the usual case,
        is not copied."""
        self._data_size = 0
        # As they came: text may take four times as much.
        self._event = b""
        self._id: bytes | None = None
        self._retry: int | None = None

    @property
    def held(self) -> int:
        """Bytes of an event that is not complete."""
        return len(self._pending) + self._data_size + len(self._event) + (0 if self._id is None else len(self._id))

    @property
    def is_between_events(self) -> bool:
        """Whether what comes next is the beginning of a block."""
        return not (self._after_cr or self._pending or self._in_block())

    def pass_over(self) -> None:
        """Whole blocks of the stream were read by somebody else."""
        self._started = True

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """The events that this chunk completes. All have to be taken before the next chunk is given.

        Raises:
            EventTooLarge: an event exceeds the bound; those before it were given. The stream can't go on.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        start = 0
        while True:
            if not self._pending and not self._in_block():
                while (usual := _USUAL.match(chunk, start)) is not None and usual.end() - start <= self._max:
                    start = usual.end()
                    yield self._read(usual)
            if (end := _LINE_END.search(chunk, start)) is None:
                break
            line = chunk[start : end.start()]
            start = end.end()
            if self._pending:
                self._pending += line
                line = bytes(self._pending)
                self._pending = bytearray()
            self._check_size(len(line))
            if event := self._line(line):
                yield event
        if start and start == len(chunk) and chunk[-1:] == b"\r":
            self._after_cr = True
        if start < len(chunk):
            self._pending += memoryview(chunk)[start:]
        self._check_size(0)

    def only(self, chunk: bytes) -> SseEvent | None:
        """The event that this chunk is, if it is a usual one, whole and alone; nothing has to be fed then."""
        if not chunk.endswith(b"\n") or len(chunk) > self._max or not self.is_between_events:
            return None
        usual = _USUAL.fullmatch(chunk)
        return None if usual is None else self._read(usual)

    def _read(self, usual: re.Match[bytes]) -> SseEvent:
        self._started = True
        first, event, second, data = usual.groups()
        id = first if second is None else second
        kind = _text(event) if event and event != b"message" else "message"
        return SseEvent(data, kind, None if id is None else _text(id))

    def finish(self) -> SseEvent | None:
        """The event that the end of the stream cut off, without its closing blank line.

        The standard drops it. Servers that forget the line exist, and a JSON message that is whole can't be a part of
        another one, so the caller may take it if it can read it.
        """
        line = bytes(self._pending)
        self._pending = bytearray()
        return (self._line(line) if line else None) or self._dispatch()

    def _check_size(self, line_size: int) -> None:
        if line_size + self.held > self._max:
            raise EventTooLarge(f"an event is larger than {self._max} bytes")

    def _line(self, line: bytes) -> SseEvent | None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if not name:
            return None if self._in_block() else SseEvent(None)
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._add_data(value)
                self._data_size += len(value) + 1
            case b"event":
                self._event = value
            case b"id" if b"\0" not in value:
                self._id = value
            case b"retry" if value.isdigit():
                self._retry = int(value[:12])
        return None

    def _add_data(self, line: bytes) -> None:
        if self._data is None:
            self._data = line
        elif isinstance(self._data, bytearray):
            self._data += b"\n" + line
        else:
            self._data = bytearray(b"\n").join((self._data, line))

    def _dispatch(self) -> SseEvent | None:
        event = None
        if self._in_block():
            data = self._data if self._data is None else bytes(self._data)
            id = None if self._id is None else _text(self._id)
            event = SseEvent(data, _text(self._event) or "message", id, self._retry)
        self._clear()
        return event

    def _in_block(self) -> bool:
        return bool(self._data is not None or self._event or self._id is not None or self._retry is not None)

    def _clear(self) -> None:
        self._data = None
        self._data_size = 0
        self._event = b""
        self._id = None
        self._retry = None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
