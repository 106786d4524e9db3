"""Reads lines that an Envoy of ours has written (:mod:`.line_format`), as :class:`Exchange`. Whoever reads the pipe gives it
their bytes (:mod:`mcp_extproc.telemetry.collector.pipe_reader`).

Envoy writes a line in a seventh of the time that it takes for a message, and what repeats is the same bytes again, which are
read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE, SpanContext, context_of
from mcp_extproc.telemetry.exchange import MAX_DETAILS, Exchange, Peer, reason_of, times_at_server
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.telemetry.records.line_format import BEFORE, FIELDS, START, WORDS

MAX_LINE_BYTES: Final = 64 << 10
"""A longer one has no end: fields are bounded."""


START_BYTE: Final = START.encode()
FIELD: Final = FIELDS.encode()

UNREADABLE: Final = (ValueError, msgspec.DecodeError)
"""What is raised by a line that is none, or of which a part is missing."""


class LineReader:
    """Bytes in, exchanges out."""

    def __init__(self) -> None:
        self._rest = b""
        self._known: Bounded[tuple[bytes, bytes, bytes, bool], Exchange] = Bounded(_MAX_KINDS, _MAX_KINDS_BYTES)
        """What the records of a kind have in common, by the bytes that say it."""
        self._kinds = 0
        self.unreadable = 0
        """Lines that were none, or of which a part is missing."""

    def feed(self, chunk: bytes) -> Iterator[Exchange]:
        """The exchanges whose lines end in this chunk."""
        for line in self.lines(chunk):
            try:
                yield self.read(line)
            except UNREADABLE:
                self.unreadable += 1

    def lines(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= MAX_LINE_BYTES else b""
        return lines

    def read(self, line: bytes) -> Exchange:
        """One.

        Raises:
            UNREADABLE: it is none.
        """
        if line.rfind(START_BYTE) != 0:
            raise ValueError("a part of a line")
        numbers, outcome, client, request_id, parent, state, rest = line[1:].split(FIELD, BEFORE)
        if rest[:1] == FIELD:
            kind, who, id, told, arguments, more, details = b"", b"", b"", b"", b"", b"", rest[1:]
        else:
            kind, who, id, told, arguments, more, details = rest.split(FIELD, worker_note.PARTS)
        times = numbers.split(b" ")
        started, ended, milliseconds, begin, end, received, sent, attempts = times
        duration = int(ended) if ended else int(milliseconds or 0) * 1_000_000
        details = details[:MAX_DETAILS]
        found = self._known.get(key := (outcome, kind, details, was_sent := begin != b""))
        if found is None:
            found = self._new_kind(outcome, kind, details, was_sent=was_sent)
            self._known.keep(key, found, _KIND_BYTES + 4 * (len(outcome) + len(kind) + len(details)))
        asks = _who(who) if who else worker_note.NOBODY
        rarely = worker_note.more_of(more) if more else worker_note.NOTHING_MORE
        spans = told.decode()
        return msgspec.structs.replace(
            found,
            started=int(started),
            duration=duration,
            upstream=times_at_server(int(begin), int(end) if end else None, duration) if was_sent else None,
            attempts=int(attempts or 0),
            request_bytes=int(received or 0),
            response_bytes=int(sent or 0),
            request_id=request_id.decode("latin-1") or None,
            client=peer_of(client),
            id=worker_note.plain(id.decode()) if id else None,
            session=asks.session,
            principal=asks.principal,
            issuer=asks.issuer,
            asked_for=rarely.asked_for,
            uri=rarely.uri,
            arguments=arguments.decode() or None,
            session_seconds=rarely.session_seconds,
            spans=worker_note.spans_in(spans, rarely),
            is_left_out=spans == worker_note.LEFT_OUT,
            header=_context(parent, state) if parent and not spans else None,
        )

    def _new_kind(self, outcome: bytes, kind: bytes, details: bytes, *, was_sent: bool) -> Exchange:
        method, version, status, peer, word, reason, code, consent = outcome.decode("latin-1").split(WORDS)
        told = worker_note.kind_of(kind) if kind else worker_note.NO_KIND
        self._kinds += 1
        return Exchange(
            started=0,
            duration=0,
            http_method=method if method in _METHODS else "_OTHER",
            http_version=_VERSIONS.get(version),
            status=int(status or 0),
            upstream_peer=peer_of(peer.encode("latin-1")),
            method=told.method,
            protocol_version=told.protocol_version,
            endpoint=told.endpoint,
            server=told.server,
            tool=told.tool,
            prompt=told.prompt,
            listed=told.is_listed,
            batch=told.batch,
            consent=consent or None,
            code=_code(code) if code else None,
            reason=reason_of(reason or None, word or None, was_sent=was_sent),
            details=details.decode("latin-1") or None,
            decided_by=told.rule,
            has_another=told.has_another(consent or None, reason or None),
            kind=self._kinds,
        )


_MAX_KINDS: Final = 10_000
_MAX_KINDS_BYTES: Final = 32 * MIB
_KIND_BYTES: Final = 1024


def _code(text: str) -> int | None:
    """A number that a server chose, as Envoy writes it: with an exponent where that is shorter. It must not cost the line.

    >>> _code("-32602"), _code("1e+06"), _code("1.5"), _code("nan"), _code("1e+400")
    (-32602, 1000000, None, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_VERSIONS: Final = {"HTTP/1.0": "1.0", "HTTP/1.1": "1.1", "HTTP/2": "2", "HTTP/3": "3"}


def _context(parent: bytes, state: bytes) -> SpanContext | None:
    return context_of({TRACEPARENT: parent.decode("latin-1"), TRACESTATE: state.decode("latin-1")})


@lru_cache(maxsize=4096)
def peer_of(address: bytes) -> Peer | None:
    """An address as Envoy writes it: with a port, or the path of a Unix socket.

    >>> peer_of(b"[::1]:80"), peer_of(b"/run/a.sock"), peer_of(b"")
    (Peer(address='::1', port=80), Peer(address='/run/a.sock', port=None), None)
    """
    if not address:
        return None
    text = address.decode("latin-1")
    host, _, port = text.rpartition(":")
    return Peer(text) if text.startswith(("/", "@")) or not port.isdecimal() else Peer(host.strip("[]"), int(port))


_MAX_WHO_BYTES: Final = 1024


def _who(part: bytes) -> worker_note.Who:
    return _known_who(part) if len(part) <= _MAX_WHO_BYTES else worker_note.who_of(part)


_known_who = lru_cache(maxsize=4096)(worker_note.who_of)
