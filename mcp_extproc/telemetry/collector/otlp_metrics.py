"""Metrics as OTLP has them, by opentelemetry-sdk's types and encoder.

Its instruments would know neither ``other`` nor times in the past.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from mcp_extproc import __version__
from mcp_extproc.telemetry.collector.otlp import SCOPE
from mcp_extproc.telemetry.instruments import BUCKETS, Instrument, Kind
from mcp_extproc.telemetry.totals import Family

_SCOPE = InstrumentationScope(SCOPE, __version__)
_CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE


def metrics(families: Sequence[Family], resource: Resource, since: int, now: int) -> bytes:
    """An ``ExportMetricsServiceRequest`` of all metrics, as they add up since a time in nanoseconds."""
    found = [_metric(family, since, now) for family in families]
    scope = sdk.ScopeMetrics(_SCOPE, found, "")
    data = sdk.MetricsData([sdk.ResourceMetrics(resource, [scope], "")])
    sent: bytes = encode_metrics(data).SerializeToString()
    return sent


def _metric(family: Family, since: int, now: int) -> sdk.Metric:
    instrument: Instrument = family.instrument
    points = [sdk.NumberDataPoint(dict(labels), since, now, value) for labels, value in family.numbers.items()]
    data: sdk.Sum | sdk.Gauge | sdk.Histogram
    match instrument.kind:
        case Kind.COUNTER:
            data = sdk.Sum(points, _CUMULATIVE, is_monotonic=True)
        case Kind.GAUGE:
            data = sdk.Gauge(points)
        case Kind.HISTOGRAM:
            data = sdk.Histogram(_distributions(family, since, now), _CUMULATIVE)
    return sdk.Metric(instrument.name, instrument.meaning, instrument.unit, data)


def _distributions(family: Family, since: int, now: int) -> list[sdk.HistogramDataPoint]:
    return [
        sdk.HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=each.count,
            sum=each.sum,
            bucket_counts=tuple(each.counts),
            explicit_bounds=BUCKETS,
            min=each.least,
            max=each.most,
        )
        for labels, each in family.distributions.items()
    ]
