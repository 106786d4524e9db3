"""Records and reports in; spans, values and lines out. No I/O here: what takes them is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry import audit, seen
from mcp_extproc.telemetry.attributes import HTTP_METHOD, HTTP_STATUS, of_operation
from mcp_extproc.telemetry.collector.cells import Cells
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.instruments import BY_NAME, RECORDS, SESSION_DURATION, SESSIONS_EXPIRED, SESSIONS_SEEN
from mcp_extproc.telemetry.recordings import Recording, labels_of, series_key
from mcp_extproc.telemetry.report import Expired, Report
from mcp_extproc.telemetry.seen import Seen
from mcp_extproc.telemetry.spans import NewId, Shapes, Span, Tracing, shapes_of, spans_of
from mcp_extproc.telemetry.totals import Distribution, Family, Series, Totals, merged

MAX_NAMES: Final = 100_000
MAX_NAMES_BYTES: Final = 64 * MIB
"""Of names that servers list."""
_NAME_BYTES: Final = 256

MAX_ENDED: Final = 100_000
MAX_ENDED_BYTES: Final = 32 * MIB
_ENDED_BYTES: Final = 256

MAX_KINDS: Final = 10_000
MAX_KINDS_BYTES: Final = 16 * MIB
"""Of kinds of exchanges."""
_CELL_BYTES: Final = 1024
_KNOWN_BYTES: Final = 4096

Listed = tuple[str, str]
"""A name that a server lists: that of the server, and of a tool or a prompt."""


class Known(NamedTuple):
    """What exchanges of a kind have in common: what of it is in lines of the audit, if anything, and in spans."""

    line: audit.LineShape | None
    spans: Shapes


class Made(NamedTuple):
    """What was made of an exchange, as of others of its kind."""

    listed: Listed | None
    """The name that it is about, if a server lists that."""
    cells: Cells | None = None
    """Where metrics of it are added up, if there are any."""
    line: audit.LineShape | None = None
    """Of its line in a file, if it has one."""
    spans: Shapes | None = None
    """Of its spans, if there are traces."""


AUDIT_EVENT: Final = "mcp.audit"
ACCESS_EVENT: Final = "mcp.request"


class TakesEvents(Protocol):
    """Takes what a log record is made of."""

    def __call__(self, name: str, started: int, attributes: dict[str, Any], context: SpanContext | None) -> None:
        """Have it sent."""


class Intake:
    """What is done with records. What is ``None`` is off.

    Args:
        tracing: how requests are sampled that no worker saw.
        new_id: a random id.
        take_span: of spans.
        totals: of metrics.
        take_lines: of lines of the audit.
        take_audit: of the audit as log records.
        take_access: of the access log as log records.
        show: shows people what comes.
    """

    def __init__(
        self,
        tracing: Tracing,
        new_id: NewId,
        *,
        take_span: Callable[[Span], None] | None = None,
        totals: Totals | None = None,
        take_lines: Callable[[list[bytes]], None] | None = None,
        take_audit: TakesEvents | None = None,
        take_access: TakesEvents | None = None,
        show: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._tracing = tracing
        self._new_id = new_id
        self._take_span = take_span
        self._totals = totals
        self._take_lines = take_lines
        self._take_audit = take_audit
        self._take_access = take_access
        self._show = show
        self._tells = any((take_lines, take_span, take_audit, take_access))
        self._records: Series | None = None
        # Since the last time that it was settled.
        self._came = 0
        self._lines: list[bytes] = []
        self._touched: list[Cells] = []
        self._here: dict[str, int] = {}
        """Sessions, and when they were used."""
        self._seen = Seen(seen.SECONDS)
        self._listed: Bounded[Listed, bool] = Bounded(MAX_NAMES, MAX_NAMES_BYTES)
        self._ended: Bounded[str, bool] = Bounded(MAX_ENDED, MAX_ENDED_BYTES)
        """Sessions whose end is counted."""
        self._cells: Bounded[tuple[object, ...], Cells] = Bounded(MAX_KINDS, MAX_KINDS_BYTES)
        self._known: Bounded[tuple[object, ...], Known] = Bounded(MAX_KINDS, MAX_KINDS_BYTES)

    def take(self, exchanges: Iterable[Exchange]) -> int:
        """Records that came together. Returns how many."""
        for exchange in exchanges:
            self.add(exchange)
        return self.settle()

    def add(self, exchange: Exchange) -> Made:
        """One of those that came together. :meth:`settle` follows behind all of them."""
        exchange, listed = self._with_names(exchange)
        self._came += 1
        cells = None if self._totals is None else self._count(exchange, self._totals)
        if self._show is not None:
            self._show(exchange)
        if not self._tells:
            return Made(listed, cells)
        known = self._known_of(exchange)
        if self._take_lines is not None and known.line is not None:
            self._lines.append(audit.line(exchange, known.line))
        self._tell(exchange, known)
        line, shapes = known
        return Made(
            listed, cells, None if self._take_lines is None else line, None if self._take_span is None else shapes
        )

    def add_known(
        self, listed: Listed | None, cells: Cells | None, durations: Sequence[int], at_server: Sequence[int]
    ) -> None:
        """Some more of a kind of which one was added before, but for what is shown, and sent; :meth:`add_lines` follows.

        Args:
            listed, cells: of that one.
            durations: of the exchanges, at least one.
            at_server: nanoseconds that they were with a server, of those that were.
        """
        self._came += len(durations)
        if listed is not None and listed not in self._listed:
            self._listed.keep(listed, value=True, size=_NAME_BYTES + 4 * len(listed[1]))
        if cells is not None and cells.add_all(durations, at_server):
            self._touched.append(cells)

    def add_lines(self, lines: Sequence[bytes], here: Mapping[str, int]) -> None:
        """Lines of the audit of such exchanges, and their sessions and when they began."""
        self._lines += lines
        if self._totals is not None:
            self._here.update(here)

    def settle(self) -> int:
        """What was added is complete. Returns how many records that was."""
        came, self._came = self._came, 0
        if self._totals is not None and came:
            self._records = self._records or self._totals.series(RECORDS, ())
            self._records.record(came)
        for cells in self._touched:
            cells.settle()
        self._touched.clear()
        for session, started in self._here.items():
            self._seen.see(session, started / 1e9)
        self._here.clear()
        if self._take_lines is not None:
            lines, self._lines = self._lines, []
            self._take_lines(lines)
        return came

    def _known_of(self, exchange: Exchange) -> Known:
        if exchange.kind is None:
            return Known(audit.shape_of(exchange), shapes_of(exchange))
        known = self._known.get(kind := (exchange.kind, exchange.listed))
        if known is None:
            known = Known(audit.shape_of(exchange), shapes_of(exchange))
            size = 0 if known.line is None else len(known.line.asked) + len(known.line.decided)
            self._known.keep(kind, known, _KNOWN_BYTES + 8 * size)
        return known

    def _with_names(self, exchange: Exchange) -> tuple[Exchange, Listed | None]:
        """Of several workers one may not have seen the list yet in which another found the name."""
        name = exchange.tool or exchange.prompt
        if name is None or exchange.server is None:
            return exchange, None
        key = (exchange.server, name)
        if not exchange.listed:
            return (msgspec.structs.replace(exchange, listed=True) if key in self._listed else exchange), None
        if key not in self._listed:
            self._listed.keep(key, value=True, size=_NAME_BYTES + 4 * len(name))
        return exchange, key

    def _tell(self, exchange: Exchange, known: Known) -> None:
        if self._take_span is not None:
            for span in spans_of(exchange, self._tracing, self._new_id, known.spans):
                self._take_span(span)
        if self._take_audit is None and self._take_access is None:
            return
        context = None if exchange.spans is None else exchange.spans.own
        if self._take_audit is not None and known.line is not None:
            self._take_audit(AUDIT_EVENT, exchange.started, audit.fields(exchange), context)
        if self._take_access is not None:
            self._take_access(ACCESS_EVENT, exchange.started, access(exchange), context)

    def take_report(self, report: Report) -> None:
        """What a worker did itself. One that runs a newer program may have metrics that are not known here."""
        if self._take_span is not None:
            for span in report.spans:
                self._take_span(span)
        if self._totals is None:
            return
        for count in report.counts:
            if (instrument := BY_NAME.get(count.name)) is not None:
                self._totals.add(Recording(instrument, count.labels, count.number))
        for each in report.durations:
            if (instrument := BY_NAME.get(each.name)) is not None:
                values = Distribution(each.counts, each.sum, each.least, each.most)
                self._totals.add_all(instrument, each.labels, values)
        for expired in report.expired:
            self._count_expired(expired, self._totals)

    def _count_expired(self, expired: Expired, totals: Totals) -> None:
        """The worker where a session began does not know of its end at another one."""
        if self._is_new_end(expired.session):
            found = {names.PROTOCOL: "http"} | ({} if expired.version is None else {names.VERSION: expired.version})
            totals.add(Recording(SESSION_DURATION, labels_of(SESSION_DURATION, found), expired.seconds))
            totals.add(Recording(SESSIONS_EXPIRED, (), 1))

    def _is_new_end(self, session: str) -> bool:
        if session in self._ended:
            return False
        self._ended.keep(session, value=True, size=_ENDED_BYTES)
        return True

    def _count(self, exchange: Exchange, totals: Totals) -> Cells:
        ends = exchange.session_seconds is not None and exchange.session is not None
        if ends and not self._is_new_end(exchange.session or ""):
            exchange = msgspec.structs.replace(exchange, session_seconds=None)
        key = _cells_key(exchange)
        cells = self._cells.get(key)
        if cells is None:
            cells = Cells(totals, exchange)
            self._cells.keep(key, cells, size=_CELL_BYTES * (1 + len(cells)) + 4 * len(str(key)))
        at_server = None if exchange.upstream is None else exchange.upstream[1] - exchange.upstream[0]
        if cells.add(exchange.duration, at_server):
            self._touched.append(cells)
        if exchange.session_seconds is not None:
            cells.end_session(exchange.session_seconds)
        if exchange.session is not None:
            self._here[exchange.session] = exchange.started
        return cells

    def families(self, now: float, others: Iterable[Family] = ()) -> list[Family]:
        """All metrics as they are now.

        Args:
            now: seconds since the epoch.
            others: what somebody else keeps.
        """
        if self._totals is None:
            return []
        self._totals.add(Recording(SESSIONS_SEEN, (), self._seen.count(now)))
        return merged([*self._totals.families(), *others])


def _cells_key(exchange: Exchange) -> tuple[object, ...]:
    """Of the cells to which it adds: short where the number of its kind stands for most of :func:`series_key`."""
    if exchange.kind is None or exchange.session_seconds is not None:
        return series_key(exchange)
    client = exchange.client
    return exchange.kind, exchange.listed, None if client is None else client.port is None


def access(exchange: Exchange) -> dict[str, Any]:
    """A record of the access log: whatever came, streams and responses of clients too."""
    found: dict[str, Any] = {
        HTTP_METHOD: exchange.http_method,
        HTTP_STATUS: exchange.status,
        **of_operation(exchange),
        **{name: value for name, value in audit.fields(exchange).items() if name not in ("method", "tool", "server")},
        "bytes_received": exchange.request_bytes,
        "bytes_sent": exchange.response_bytes,
        "upstream_attempts": exchange.attempts,
    }
    return found | ({} if exchange.details is None else {"response_code_details": exchange.details})
