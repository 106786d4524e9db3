"""Metrics as text that Prometheus reads.

Source: Prometheus text exposition format 0.0.4; names by OpenTelemetry's compatibility/prometheus_and_openmetrics: dots become
underscores, the unit is appended, counters end with ``_total``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from mcp_extproc.telemetry.instruments import BUCKETS, Instrument, Kind
from mcp_extproc.telemetry.recordings import Labels
from mcp_extproc.telemetry.totals import Distribution, Family

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_NO_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_UNITS: Final = {"s": "_seconds", "By": "_bytes"}


def exposition(families: Iterable[Family]) -> str:
    """The whole text."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def name_of(instrument: Instrument) -> str:
    """A metric's name.

    >>> from mcp_extproc.telemetry.instruments import REQUESTS, SERVER_DURATION
    >>> name_of(SERVER_DURATION), name_of(REQUESTS)
    ('mcp_server_operation_duration_seconds', 'mcp_gateway_requests_total')
    """
    unit = _UNITS.get(instrument.unit, "")
    return _plain(instrument.name) + unit + ("_total" if instrument.kind is Kind.COUNTER else "")


def _lines(family: Family) -> Iterator[str]:
    name = name_of(family.instrument)
    yield f"# HELP {name} {family.instrument.meaning}"
    yield f"# TYPE {name} {family.instrument.kind.value}"
    for labels, number in family.numbers.items():
        yield f"{name}{_labelled(labels)} {_number(number)}"
    for labels, distribution in family.distributions.items():
        yield from _histogram(name, labels, distribution)


_BOUNDS: Final = tuple(f'le="{bound}"' for bound in (*(f"{bound:g}" for bound in BUCKETS), "+Inf"))


def _histogram(name: str, labels: Labels, distribution: Distribution) -> Iterator[str]:
    count, inner = 0, _inner(labels)
    start = f"{name}_bucket{{{inner}{',' if inner else ''}"
    for bound, within in zip(_BOUNDS, distribution.counts, strict=True):
        count += within
        yield f"{start}{bound}}} {count}"
    yield f"{name}_sum{_labelled(labels)} {_number(distribution.sum)}"
    yield f"{name}_count{_labelled(labels)} {count}"


def _labelled(labels: Labels) -> str:
    return f"{{{_inner(labels)}}}" if labels else ""


def _inner(labels: Labels) -> str:
    return ",".join(f'{_plain(name)}="{value.translate(_ESCAPES)}"' for name, value in labels)


@cache
def _plain(name: str) -> str:
    return _NO_NAME.sub("_", name)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
