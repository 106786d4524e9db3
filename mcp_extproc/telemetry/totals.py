"""All values that were recorded, added up. They are kept where records are read, so they never go back when a worker dies."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mcp_extproc.contract import TOOL_ERROR
from mcp_extproc.mcp.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry.attributes import OTHER
from mcp_extproc.telemetry.instruments import BUCKETS, Instrument, Kind
from mcp_extproc.telemetry.recordings import Labels, Recording

MAX_SERIES: Final = {Kind.COUNTER: 20_000, Kind.GAUGE: 20_000, Kind.HISTOGRAM: 2_000}
"""Of one instrument. Beyond it a series has :data:`OTHER` for each of its bounded labels. A histogram's has eighteen lines in
Prometheus, all of which are made again whenever it asks.

A server has no more of them than are left for all others, for its tools and its errors are as many as it likes: alone a half,
and where others have taken theirs, a half of the rest, so that there is something left for each. What it has beyond that is
one series."""

MAX_VALUE_CHARACTERS: Final = 128
"""Of a label's value. What is longer is cut, and ends with an ellipsis."""

_CODES: Final = frozenset(map(str, (
    PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR, RESOURCE_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
)))  # fmt: skip
_FIXED: Final = {names.ERROR_TYPE: _CODES | {TOOL_ERROR}, names.STATUS_CODE: _CODES}
"""Values that are always there, and take no room: a server that makes up codes does not hide what the gateway answers."""

_BOUNDED: Final = frozenset({
    names.TOOL, names.PROMPT, names.UPSTREAM, names.ENDPOINT, names.RULE, names.ERROR_TYPE, names.STATUS_CODE, names.VERSION,
    *names.SERVER,
})  # fmt: skip
"""Labels whose values come from the configuration, from servers or from clients; others are fixed words."""

_OF_SERVER: Final = frozenset({names.TOOL, names.PROMPT, names.ERROR_TYPE, names.STATUS_CODE, *names.SERVER})
"""Those whose values are a server's: each server has room of its own for them, so that none can take that of others."""


_BOUNDS: Final = tuple(round(bound * 1e9) for bound in BUCKETS)
"""Of buckets, in nanoseconds."""


@dataclass(slots=True)
class Distribution:
    """A histogram's series: how many values are in each bucket, the last of which has no bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def record(self, value: float) -> None:
        """Add a value. A bound is in its bucket."""
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.sum += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value

    def record_nanoseconds(self, values: Sequence[int]) -> None:
        """Add values of an instrument of seconds, of which there is at least one: in less time than one by one."""
        ordered, done = sorted(values), 0
        bucket = bisect_left(_BOUNDS, ordered[0])
        while done < len(ordered):
            end = bisect_right(ordered, _BOUNDS[bucket], done) if bucket < len(_BOUNDS) else len(ordered)
            self.counts[bucket] += end - done
            done, bucket = end, bucket + 1
        self.sum += sum(ordered) / 1e9
        self.least, self.most = min(self.least, ordered[0] / 1e9), max(self.most, ordered[-1] / 1e9)

    def add(self, other: Distribution) -> None:
        """Add all values of another one."""
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)


@dataclass(slots=True)
class Number:
    """A counter's series, or a gauge's."""

    value: float = 0

    def record(self, value: float) -> None:
        """Add a value."""
        self.value += value


Series = Distribution | Number


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its series, as they are now."""

    instrument: Instrument
    numbers: dict[Labels, float]
    distributions: dict[Labels, Distribution]


def merged(families: Iterable[Family]) -> list[Family]:
    """By name, each metric once: what several say of it is one family, as Prometheus asks for."""
    found: dict[Instrument, Family] = {}
    for each in families:
        before = found.get(each.instrument, Family(each.instrument, {}, {}))
        found[each.instrument] = Family(
            each.instrument, before.numbers | each.numbers, before.distributions | each.distributions
        )
    return sorted(found.values(), key=lambda family: family.instrument.name)


class Totals:
    """What has been recorded.

    Args:
        label_values: most values of one label, for each server where they are a server's; more become :data:`OTHER`.
    """

    def __init__(self, label_values: int) -> None:
        self._label_values = label_values
        self._values: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
        """By label, and by server where they are its own."""
        self._numbers: defaultdict[Instrument, dict[Labels, Number]] = defaultdict(dict)
        self._distributions: defaultdict[Instrument, dict[Labels, Distribution]] = defaultdict(dict)
        self._series: Counter[tuple[Instrument, str | None]] = Counter()
        """How many there are, by server; under ``None`` of all of them."""

    def add(self, recording: Recording) -> None:
        """Add one value; of a gauge it is the new one."""
        instrument, labels, value = recording
        if instrument.kind is Kind.GAUGE:
            self._number(instrument, labels).value = value
        else:
            self.series(instrument, labels).record(value)

    def series(self, instrument: Instrument, labels: Labels) -> Series:
        """Where values of these labels are added up, from now on. It is there without a value, too."""
        if instrument.kind is Kind.HISTOGRAM:
            return self._distribution(instrument, labels)
        return self._number(instrument, labels)

    def add_all(self, instrument: Instrument, labels: Labels, values: Distribution) -> None:
        """Add values of a histogram that were counted elsewhere."""
        self._distribution(instrument, labels).add(values)

    def families(self) -> Iterator[Family]:
        """All metrics that have a series. What was never recorded is not there: it is not zero."""
        for instrument in sorted({*self._numbers, *self._distributions}, key=lambda each: each.name):
            numbers = {labels: each.value for labels, each in self._numbers.get(instrument, {}).items()}
            yield Family(instrument, numbers, dict(self._distributions.get(instrument, {})))

    def _number(self, instrument: Instrument, labels: Labels) -> Number:
        series = self._numbers[instrument]
        if labels not in series:
            labels = self._admitted(instrument, labels, series)
        return series.setdefault(labels, Number())

    def _distribution(self, instrument: Instrument, labels: Labels) -> Distribution:
        series = self._distributions[instrument]
        if labels not in series:
            labels = self._admitted(instrument, labels, series)
        return series.setdefault(labels, Distribution())

    def _admitted(self, instrument: Instrument, labels: Labels, known: Container[Labels]) -> Labels:
        """The labels of a series that is not among the known ones as it is."""
        most = MAX_SERIES[instrument.kind]
        server = next((value for name, value in labels if name == names.UPSTREAM), None)
        left = most - self._series[instrument, None]
        if left <= 0:
            return tuple((name, OTHER if name in _BOUNDED else value) for name, value in labels)
        if server is not None and self._series[instrument, server] >= left:
            kept = names.UPSTREAM
            return tuple((name, OTHER if name in _BOUNDED and name != kept else value) for name, value in labels)
        labels = tuple((name, self._value(name, value, server)) for name, value in labels)
        if labels not in known:
            self._series.update({(instrument, None): 1} | ({} if server is None else {(instrument, server): 1}))
        return labels

    def _value(self, name: str, value: str, server: str | None) -> str:
        if name not in _BOUNDED or value in _FIXED.get(name, ()):
            return value
        if len(value) > MAX_VALUE_CHARACTERS:
            value = value[:MAX_VALUE_CHARACTERS] + "…"
        values = self._values[name, server if name in _OF_SERVER else None]
        if value not in values and value != OTHER:
            if len(values) >= self._label_values:
                return OTHER
            values.add(value)
        return value
