"""Lines of a kind that was there before: what becomes of them is made of their bytes, at less than half of what it costs to
read each as an exchange first. That is what most lines are. All others are read, and so is the first one of a kind.

Both ways give the same bytes (``tests/unit/telemetry/collector/test_known_lines.py``).
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Annotated, Final, NamedTuple, Protocol

import msgspec

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

_MAX_KNOWN: Final = 16_384
_MAX_KNOWN_BYTES: Final = 32 * MIB
_KNOWN_BYTES: Final = 1024

Key = tuple[bytes, bytes, bytes, bytes, bytes, bool]
"""What says what is known of a line: what came of it, what the worker noted of its kind, Envoy's details, who asked, the
client, and whether it went to a server."""

KindKey = tuple[bytes, bytes, bytes, bool, bool | None]
"""What says of which kind it is: instead of the two before the last only whether the client has a port, if it is known."""


class Spans(Protocol):
    """Makes and sends spans."""

    def shared(self, found: Shared) -> bytes:
        """What spans of a kind have in common."""
        ...

    def who(self, session: str | None, client: Peer | None) -> bytes:
        """For whom they are, and from where."""
        ...

    def of_both(
        self, ids: bytes, start: int, end: int, begin: int, done: int, server: bytes, client: bytes, id: bytes
    ) -> tuple[bytes, ...]:
        """Both of a request, in pieces. See :func:`.otlp.of_both`."""
        ...

    def send(self, spans: bytes, count: int) -> None:
        """Some that were made."""
        ...


class _Kind(NamedTuple):
    """What lines of a kind have in common.

    Attributes:
        listed: see :class:`.intake.Made`.
        cells: where values are added up.
        line: what lines of the audit have.
        server, client: what spans have; empty if there are none.
        durations: nanoseconds, of the lines that have come since all was told.
        at_server: of these, that they were with a server, if they were.
    """

    listed: Listed | None
    cells: Cells | None
    line: audit.LineShape | None
    server: bytes
    client: bytes
    durations: list[int]
    at_server: list[int]


class _Known(NamedTuple):
    """What lines of a kind have in common that are of the same session and client.

    Attributes:
        kind: of the lines.
        session: that they are of.
        before, between: what lines of the audit have in front of what is theirs alone, and in between; ``None`` for the first
            if there are none.
        server, client: what spans have; empty if there are none.
    """

    kind: _Kind
    session: str | None
    before: bytes | None
    between: bytes
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
        self._kinds: Bounded[KindKey, _Kind] = Bounded(_MAX_KINDS, _MAX_KINDS_BYTES)
        self._known: Bounded[Key, _Known] = Bounded(_MAX_KNOWN, _MAX_KNOWN_BYTES)
        self._who = lru_cache(maxsize=4096)(self._new_who)
        self._client = lru_cache(maxsize=4096)(self._new_client)
        # Of known lines, until it is told, all at once.
        self._came: list[_Kind] = []
        self._lines: list[bytes] = []
        """Of the audit."""
        self._made: list[tuple[bytes, ...]] = []
        """Both spans of each, in pieces."""
        self._here: dict[str, int] = {}
        """Sessions, and when they were used."""
        self.unreadable = 0
        """Lines that were none, or of which a part is missing."""

    def take(self, chunk: bytes) -> int:
        """Take the lines that end in this chunk. Returns how many could be read."""
        for line in self._reader.lines(chunk):
            try:
                if self._reads_all or not self._take(line):
                    self._read(line)
            except UNREADABLE:
                self.unreadable += 1
        self._tell()
        return self._intake.settle()

    def _read(self, line: bytes) -> tuple[Exchange, Made]:
        """Take one that is not known, behind those before it."""
        exchange = self._reader.read(line)
        self._tell()
        return exchange, self._intake.add(exchange)

    def _take(self, line: bytes) -> bool:
        """Take one if it is a usual one; else nothing is done.

        Raises:
            UNREADABLE: it is none.
        """
        parts = line.split(FIELD, _FIELDS)
        if len(parts) <= _FIELDS or line.rfind(START_BYTE) != 0:
            return False
        numbers, outcome, client, request_id, _, _, kind, who, id, told, arguments, more, details = parts
        if more or (times := _times(numbers)) is None or (plain := _plain(id)) is None:
            return False
        start, duration, at, until = times
        key = outcome, kind, details, who, client, until > 0
        if (known := self._known.get(key)) is None:
            if len(who) > _MAX_WHO or len(client) > _MAX_CLIENT or len(details) > MAX_DETAILS:
                return False
            if (known := self._meet(key)) is None:
                self._learn(self._key_of(key), *self._read(line))
                return True
        of_kind, session, before, between, server, of_client = known
        ids: bytes | None = b""
        if not server:
            if not told.isascii():
                return False
        elif told != _LEFT_OUT and (not of_client or (ids := _ids(told)) is None):
            return False
        entry = b""
        if before is not None:
            entry = audit.known_line(start, duration, before, request_id, plain, between, arguments)
        shown = None if self._show is None else self._reader.read(line)
        # Nothing is raised from here on.
        durations = of_kind.durations
        if not durations:
            self._came.append(of_kind)
        durations.append(duration)
        if until:
            of_kind.at_server.append(until - at)
        if session is not None:
            self._here[session] = start
        if entry:
            self._lines.append(entry)
        if shown is not None and self._show is not None:
            self._show(shown)
        if ids and self._spans is not None:
            self._made.append(
                self._spans.of_both(ids, start, start + duration, start + at, start + until, server, of_client, plain)
            )
        return True

    def _tell(self) -> None:
        """Tell of the known lines that have come."""
        if not self._came:
            return
        for kind in self._came:
            self._intake.add_known(kind.listed, kind.cells, kind.durations, kind.at_server)
            kind.durations.clear()
            kind.at_server.clear()
        self._came.clear()
        self._intake.add_lines(self._lines, self._here)
        self._lines.clear()
        self._here.clear()
        if self._made and self._spans is not None:
            self._spans.send(b"".join(chain.from_iterable(self._made)), 2 * len(self._made))
            self._made.clear()

    def _meet(self, key: Key) -> _Known | None:
        """Lines of a session and a client, if they are of a kind that is known."""
        *_, who, client, _ = key
        if (kind := self._kinds.get(self._key_of(key))) is None:
            return None
        asks, peer, line = self._who(who), self._client(client), kind.line
        known = _Known(
            kind,
            asks.name,
            None if line is None else asks.asker + line.asked + line.decided,
            asks.session + peer.line,
            kind.server + asks.span + peer.span if kind.server else b"",
            kind.client + asks.span if kind.client else b"",
        )
        parts = (*key[:5], known.before or b"", known.between, known.server, known.client)
        self._known.keep(key, known, _KNOWN_BYTES + sum(map(len, parts)))
        return known

    def _key_of(self, key: Key) -> KindKey:
        outcome, kind, details, _, client, was_sent = key
        return outcome, kind, details, was_sent, self._client(client).has_port

    def _learn(self, key: KindKey, exchange: Exchange, made: Made) -> None:
        """A kind, by what was made of its first line."""
        name = exchange.tool or exchange.prompt
        if made.listed is None and name is not None and exchange.server is not None:
            return  # somebody may find out meanwhile that a server lists it
        server, client = (
            b"" if self._spans is None or shape is None else self._spans.shared(shape)
            for shape in ((None, None) if made.spans is None else (made.spans.server, made.spans.client))
        )
        size = sum(map(len, key[:3])) + len(server) + len(client)
        kind = _Kind(made.listed, made.cells, made.line, server, client, [], [])
        self._kinds.keep(key, kind, _KIND_BYTES + 4 * size)

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


_Number = Annotated[int, msgspec.Meta(ge=0)]
_read_numbers: Final = msgspec.json.Decoder(
    tuple[_Number, _Number, _Number, _Number | None, _Number | None, _Number, _Number, _Number]
).decode
"""All at once: one by one they take twice as long."""


def _times(numbers: bytes) -> tuple[int, int, int, int] | None:
    """Start and duration of a request, and when it was sent to a server, and was back; zeros if it was not. ``None`` where
    numbers are missing that are hardly ever, or are none.

    >>> [_times(b"\\x1d1000 50 1 %b 100 200 1" % at_server) for at_server in (b"10 40", b"10 ", b" ")]
    [(1000, 50, 10, 40), None, (1000, 50, 0, 0)]
    """
    try:
        start, duration, _, at, until, _, _, _ = _read_numbers(
            b"[" + numbers[1:].replace(b"   ", b" null null ").replace(b" ", b",") + b"]"
        )
    except msgspec.DecodeError:
        return None
    if at is None or until is None:
        return (start, duration, 0, 0) if until is None else None
    until = max(at, until)
    return (start, duration, at, until) if until else None


def _plain(id: bytes) -> bytes | None:
    """A JSON-RPC id as plain text, from its JSON text, if it is a word as most are; ``None`` of any other.

    >>> _plain(b"7"), _plain(b'"a-b"'), _plain(b""), _plain(b'"a"b'), _plain(b'""')
    (b'7', b'a-b', b'', None, None)
    """
    if (id.isdigit() and len(id) < _MAX_ID) or not id:
        return id
    inner = id[1:-1]
    return inner if id == b'"%b"' % inner and audit.is_plain(inner) else None


_MAX_ID: Final = 100
"""Digits."""


def _ids(told: bytes) -> bytes | None:
    """What a worker has told of spans that are kept: ids of the trace, of the request's own, of that towards the server, and
    of the parent if there is one. ``None`` if anything else is told, as a link."""
    shape = told.translate(_SHAPE)
    if shape == _THREE:
        return unhexlify(told)
    if shape not in _SHAPES:
        return None
    ids = unhexlify(told.translate(None, b"-,"))
    return None if ids[0] or ids[25] != _SAMPLED else ids[1:25] + ids[-8:] + ids[26:-8]


_SHAPE: Final = bytes(
    byte if chr(byte) in "-," else ord("x") if chr(byte) in "0123456789abcdef" else 0 for byte in range(256)
)
_SHAPES: Final = frozenset(b"xx-%b-%b-xx,%b,%b," % (b"x" * 32, b"x" * 16, b"x" * above, b"x" * 16) for above in (0, 16))
"""With an x for each digit."""
_THREE: Final = b"x" * (32 + 16 + 16)
"""The same of a trace that begins here."""
_SAMPLED: Final = 1
"""Flags."""
