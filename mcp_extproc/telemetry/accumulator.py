"""The observer that tells the collector: it adds up what happens until that is sent."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final, TypeVar

from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry.attributes import OTHER, Attributes, known_method
from mcp_extproc.telemetry.instruments import (
    CACHE_LOOKUPS,
    CLIENT_DURATION,
    LEGS,
    LOOP_LAG,
    REPAIRS,
    TOKEN_EXCHANGE_DURATION,
    Instrument,
)
from mcp_extproc.telemetry.observer import Exchanged, Observer, Sent
from mcp_extproc.telemetry.recordings import Labels, labels_of
from mcp_extproc.telemetry.report import MAX_ITEMS, Count, Durations, Expired, Report, State
from mcp_extproc.telemetry.spans import Kind, NewId, Shared, Span, client_span
from mcp_extproc.telemetry.totals import Distribution

MAX_SPANS: Final = 4096
MAX_EXPIRED: Final = 4096
MAX_SERIES: Final = 4096
"""Until they are sent. Beyond it what went wrong is :data:`OTHER`: other labels are the configuration's, or fixed words."""

TOKEN_EXCHANGE: Final = "token_exchange"  # noqa: S105 - a span's name

_Series = tuple[str, Labels]
_T = TypeVar("_T")


class Accumulator(Observer):
    """Of a worker.

    Args:
        pid: its process id.
        new_id: of spans.
    """

    is_on = True

    def __init__(self, pid: int, new_id: NewId = secrets.token_hex) -> None:
        self._pid = pid
        self._new_id = new_id
        self._counts: Counter[_Series] = Counter()
        self._durations: dict[_Series, Distribution] = {}
        self._spans: list[Span] = []
        self._spans_lost = 0
        self._expired: list[Expired] = []

    # -- What happens -------------------------------------------------------------------------------------------------------

    def new_span(self) -> str:
        """See :class:`Observer`."""
        return self._new_id(8)

    def sent(self, sent: Sent) -> None:
        """See :class:`Observer`."""
        method = known_method(sent.method)
        found: Attributes = {names.METHOD: method, names.UPSTREAM: sent.server, names.PROTOCOL: "http"}
        if sent.version is not None:
            found[names.VERSION] = sent.version
        if sent.error_type is not None:
            found[names.ERROR_TYPE] = sent.error_type
            if is_code(sent.error_type):
                found[names.STATUS_CODE] = sent.error_type
        self._record(CLIENT_DURATION, found, (sent.end - sent.start) / 1e9)
        if sent.parent is not None:
            self._keep(method, sent.parent, sent.span, sent.start, sent.end, found)

    def leg(self, server: str, purpose: str, error_type: str | None) -> None:
        """See :class:`Observer`."""
        self._count(LEGS, {names.UPSTREAM: server, names.LEG: purpose, names.ERROR_TYPE: error_type})

    def repaired(self, server: str, error_type: str | None) -> None:
        """See :class:`Observer`."""
        self._count(REPAIRS, {names.UPSTREAM: server, names.ERROR_TYPE: error_type})

    def exchanged(self, exchanged: Exchanged) -> None:
        """See :class:`Observer`."""
        found: Attributes = {names.UPSTREAM: exchanged.server}
        if exchanged.error_type is not None:
            found[names.ERROR_TYPE] = exchanged.error_type
        self._record(TOKEN_EXCHANGE_DURATION, found, (exchanged.end - exchanged.start) / 1e9)
        if exchanged.parent is not None:
            (address, port), (host, number) = names.SERVER, exchanged.endpoint
            found |= {names.HTTP_METHOD: "POST", address: host} | ({} if number is None else {port: number})
            self._keep(TOKEN_EXCHANGE, exchanged.parent, self.new_span(), exchanged.start, exchanged.end, found)

    def expired(self, session: str, version: str | None, seconds: float) -> None:
        """See :class:`Observer`."""
        if len(self._expired) < MAX_EXPIRED:
            self._expired.append(Expired(session, version, seconds))

    def lagged(self, seconds: float) -> None:
        """A timer of the event loop's was so late."""
        self._record(LOOP_LAG, {}, seconds)

    def looked_up(self, cache: str, hits: int, misses: int) -> None:
        """Something was looked for in a cache."""
        for result, number in (("hit", hits), ("miss", misses)):
            if number:
                self._count(CACHE_LOOKUPS, {names.CACHE: cache, names.RESULT: result}, number)

    # -- What is told -------------------------------------------------------------------------------------------------------

    def take(self, state: State | None) -> Iterator[Report]:
        """All that is to be told, once; at least how the worker is, or that it ends, if that is ``None``."""
        counts = [Count(name, labels, number) for (name, labels), number in self._counts.items()]
        durations = [
            Durations(name, labels, each.counts, each.sum, each.least, each.most)
            for (name, labels), each in self._durations.items()
        ]
        rows = zip_longest(_parts(counts), _parts(durations), _parts(self._spans), _parts(self._expired), fillvalue=())
        reports = [
            Report(pid=self._pid, counts=some, durations=others, spans=spans, expired=expired)
            for some, others, spans, expired in rows
        ]
        yield from reports
        yield Report(pid=self._pid, state=state, is_last=state is None, spans_lost=self._spans_lost)
        self._counts, self._durations, self._spans_lost = Counter(), {}, 0
        self._spans, self._expired = [], []

    def _count(self, instrument: Instrument, found: Mapping[str, str | None], number: int = 1) -> None:
        self._counts[self._series(self._counts, instrument, found)] += number

    def _record(self, instrument: Instrument, found: Mapping[str, str | int | None], value: float) -> None:
        series = self._series(self._durations, instrument, found)
        self._durations.setdefault(series, Distribution()).record(value)

    def _series(
        self, known: Mapping[_Series, object], instrument: Instrument, found: Mapping[str, str | int | None]
    ) -> _Series:
        texts = {name: str(value) for name, value in found.items() if value not in (None, "")}
        series = instrument.name, labels_of(instrument, texts)
        if series in known or len(known) < MAX_SERIES or names.ERROR_TYPE not in texts:
            return series
        texts.pop(names.STATUS_CODE, None)
        return instrument.name, labels_of(instrument, texts | {names.ERROR_TYPE: OTHER})

    def _keep(self, name: str, parent: SpanContext, span: str, start: int, end: int, attributes: Attributes) -> None:
        if len(self._spans) >= MAX_SPANS:
            self._spans_lost += 1
            return
        shared = Shared(name, Kind.CLIENT, tuple(attributes.items()))
        self._spans.append(client_span(shared, parent, span, start, max(start, end)))


def is_code(error_type: str) -> bool:
    """Whether it is a JSON-RPC code. HTTP statuses are positive, and codes that have a meaning are not.

    >>> is_code("-32602"), is_code("503"), is_code("timeout")
    (True, False, False)
    """
    return error_type.startswith("-") and error_type[1:].isdecimal()


def _parts(items: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    return (tuple(items[start : start + MAX_ITEMS]) for start in range(0, len(items), MAX_ITEMS))
