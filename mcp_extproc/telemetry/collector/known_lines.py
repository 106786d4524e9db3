"""Lines of a kind that was there before: what becomes of them is made of their bytes, at less than half of what it costs to
read each as an exchange first. That is what most lines are. All others are read, and so is the first one of a kind.

Both ways give the same bytes (``tests/unit/telemetry/collector/test_known_lines.py``).
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.telemetry import audit
from mcp_extproc.telemetry.collector.cells import Cells
from mcp_extproc.telemetry.collector.intake import Intake, Listed, Made
from mcp_extproc.telemetry.exchange import MAX_DETAILS, Exchange, Peer
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.telemetry.records.line_format import BEFORE
from mcp_extproc.telemetry.records.line_reader import FIELD, START_BYTE, UNREADABLE, LineReader, peer_of
from mcp_extproc.telemetry.spans import Shared

_MAX_KINDS: Final = 10_000
_MAX_KINDS_BYTES: Final = 32 * MIB
_KIND_BYTES: Final = 4096

Key = tuple[bytes, bytes, bytes, bool, bool | None]
"""What says of which kind a line is: what came of it, what the worker noted of its kind, Envoy's details, whether it went to a
server, and whether the client has a port, if it is known."""


class Spans(Protocol):
    """Makes and sends spans."""

    def shared(self, found: Shared) -> bytes:
        """What spans of a kind have in common."""
        ...

    def who(self, session: str | None, client: Peer | None) -> bytes:
        """For whom they are, and from where."""
        ...

    def send(
        self, ids: bytes, start: int, end: int, begin: int, done: int, server: bytes, client: bytes, session: bytes,
        peer: bytes, id: bytes,
    ) -> None:  # fmt: skip
        """Both of a request. See :func:`.otlp.of_both`."""
        ...


class _Kind(NamedTuple):
    """What lines of a kind have in common.

    Attributes:
        listed: see :class:`.intake.Made`.
        cells: where values are added up.
        line: what lines of the audit have.
        server, client: what spans have; empty if there are none.
    """

    listed: Listed | None
    cells: Cells | None
    line: audit.LineShape | None
    server: bytes
    client: bytes


class _Who(NamedTuple):
    """Who asks, as the audit has it, and the session, as the audit and spans have it."""

    asker: bytes
    session: bytes
    span: bytes
    name: str | None


class _Client(NamedTuple):
    """Where a client is, as the audit and spans have it."""

    line: bytes
    span: bytes
    has_port: bool | None


class KnownLines:
    """Bytes in.

    Args:
        intake: what is done with records, whichever way they are read.
        spans: makes those of requests that a worker has sampled; ``None`` where there are no traces.
        show: shows people what comes.
        tells_records: whether something else is made of records, for which all of them have to be read.
    """

    def __init__(
        self,
        intake: Intake,
        spans: Spans | None,
        show: Callable[[Exchange], None] | None = None,
        *,
        tells_records: bool,
    ) -> None:
        self._intake = intake
        self._spans = spans
        self._show = show
        self._reads_all = tells_records
        self._reader = LineReader()
        self._kinds: Bounded[Key, _Kind] = Bounded(_MAX_KINDS, _MAX_KINDS_BYTES)
        self._who = lru_cache(maxsize=4096)(self._new_who)
        self._client = lru_cache(maxsize=4096)(self._new_client)
        self.unreadable = 0
        """Lines that were none, or of which a part is missing."""

    def take(self, chunk: bytes) -> int:
        """Take the lines that end in this chunk. Returns how many could be read."""
        for line in self._reader.lines(chunk):
            try:
                if self._reads_all or not self._take(line):
                    self._intake.add(self._reader.read(line))
            except UNREADABLE:
                self.unreadable += 1
        return self._intake.settle()

    def _take(self, line: bytes) -> bool:
        """Take one if it is a usual one; else nothing is done.

        Raises:
            UNREADABLE: it is none.
        """
        parts = line.split(FIELD, _FIELDS)
        if len(parts) <= _FIELDS or line.rfind(START_BYTE) != 0:
            return False
        numbers, outcome, client, request_id, _, _, kind, who, id, told, arguments, more, details = parts
        if more or len(who) > _MAX_WHO or len(client) > _MAX_CLIENT or len(details) > MAX_DETAILS or not told.isascii():
            return False
        if (times := _times(numbers)) is None or (plain := _plain(id)) is None:
            return False
        start, duration, at, until = times
        peer = self._client(client)
        key = outcome, kind, details, until > 0, peer.has_port
        if (known := self._kinds.get(key)) is None:
            exchange = self._reader.read(line)
            self._learn(key, exchange, self._intake.add(exchange))
            return True
        ids: bytes | None = b""
        if known.server and told != _LEFT_OUT and (not known.client or (ids := _ids(told)) is None):
            return False
        asks, entry = self._who(who), b""
        if known.line is not None:
            entry = audit.of_members(
                start, duration, asks.asker, known.line, b"", audit.of_request_id(request_id), audit.of_id(plain),
                asks.session, peer.line, audit.of_arguments(arguments),
            )  # fmt: skip
        shown = None if self._show is None else self._reader.read(line)
        # Nothing is raised from here on.
        self._intake.add_known(
            known.listed, known.cells, entry, asks.name, start, duration, until - at if until else None
        )
        if shown is not None and self._show is not None:
            self._show(shown)
        if ids and self._spans is not None:
            self._spans.send(
                ids, start, start + duration, start + at, start + until, known.server, known.client, asks.span,
                peer.span, plain,
            )  # fmt: skip
        return True

    def _learn(self, key: Key, exchange: Exchange, made: Made) -> None:
        """A kind, by what was made of its first line."""
        name = exchange.tool or exchange.prompt
        if made.listed is None and name is not None and exchange.server is not None:
            return  # somebody may find out meanwhile that a server lists it
        server, client = (
            b"" if self._spans is None or shape is None else self._spans.shared(shape)
            for shape in ((None, None) if made.spans is None else (made.spans.server, made.spans.client))
        )
        size = sum(map(len, key[:3])) + len(server) + len(client)
        self._kinds.keep(key, _Kind(made.listed, made.cells, made.line, server, client), _KIND_BYTES + 4 * size)

    def _new_who(self, part: bytes) -> _Who:
        asks = worker_note.who_of(part) if part else worker_note.NOBODY
        span = b"" if self._spans is None else self._spans.who(asks.session, None)
        asker, session = audit.of_asker(asks.principal, asks.issuer), audit.of_session(asks.session)
        return _Who(asker, session, span, asks.session)

    def _new_client(self, address: bytes) -> _Client:
        peer = peer_of(address)
        span = b"" if self._spans is None else self._spans.who(None, peer)
        if peer is None:
            return _Client(b"", span, None)
        return _Client(audit.of_client(peer.address), span, peer.port is not None)


_FIELDS: Final = BEFORE + worker_note.PARTS
"""In front of the last one."""
_MAX_WHO: Final = 1024
_MAX_CLIENT: Final = 256
_LEFT_OUT: Final = worker_note.LEFT_OUT.encode()


def _times(numbers: bytes) -> tuple[int, int, int, int] | None:
    """Start and duration of a request, and when it was sent to a server, and was back; zeros if it was not. ``None`` where
    numbers are missing that are hardly ever, or are none.

    >>> [_times(b"\\x1d1000 50 1 %b 100 200 1" % at_server) for at_server in (b"10 40", b"10 ", b" ")]
    [(1000, 50, 10, 40), (1000, 50, 10, 50), (1000, 50, 0, 0)]
    """
    words = numbers[1:].split(b" ")
    if len(words) != _NUMBERS or len(numbers) > _MAX_NUMBERS or not numbers[1:].replace(b" ", b"").isdigit():
        return None
    started, ended, _, begin, end, _, _, _ = words
    if not started or not ended:
        return None
    duration = int(ended)
    if not begin:
        return int(started), duration, 0, 0
    at = int(begin)
    until = max(at, int(end) if end else duration)
    return (int(started), duration, at, until) if until else None


_NUMBERS: Final = 8
_MAX_NUMBERS: Final = 128
"""Bytes of all of them."""


def _plain(id: bytes) -> bytes | None:
    """A JSON-RPC id as plain text, from its JSON text, if it is a word as most are; ``None`` of any other.

    >>> _plain(b"7"), _plain(b'"a-b"'), _plain(b""), _plain(b'"a"b'), _plain(b'""')
    (b'7', b'a-b', b'', None, None)
    """
    if not id or (id.isdigit() and len(id) < _MAX_ID):
        return id
    inner = id[1:-1]
    return inner if id == b'"%b"' % inner and audit.is_plain(inner) else None


_MAX_ID: Final = 100
"""Digits."""


def _ids(told: bytes) -> bytes | None:
    """What a worker has told of spans that are kept: ids of the trace, of the request's own, of that towards the server, and
    of the parent if there is one. ``None`` if anything else is told, as a link."""
    if told.translate(_SHAPE) not in _SHAPES:
        return None
    ids = unhexlify(told.translate(None, b"-,"))
    return None if ids[0] or ids[25] != _SAMPLED else ids[1:25] + ids[-8:] + ids[26:-8]


_SHAPE: Final = bytes(
    byte if chr(byte) in "-," else ord("x") if chr(byte) in "0123456789abcdef" else 0 for byte in range(256)
)
_SHAPES: Final = frozenset(b"xx-%b-%b-xx,%b,%b," % (b"x" * 32, b"x" * 16, b"x" * above, b"x" * 16) for above in (0, 16))
"""With an x for each digit."""
_SAMPLED: Final = 1
"""Flags."""
