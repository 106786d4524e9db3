"""Spans, metrics and log records in the terms of opentelemetry-sdk, whose exporters send them.

Only its data types and exporters are used. Its instruments would know neither ``other`` nor times in the past, and its tracer
would choose ids that the server has been told of already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from mcp_extproc import __version__
from mcp_extproc.mcp import trace_context
from mcp_extproc.telemetry.collector.spec import Export
from mcp_extproc.telemetry.instruments import BUCKETS, Instrument, Kind
from mcp_extproc.telemetry.spans import Kind as SpanSide
from mcp_extproc.telemetry.spans import Span
from mcp_extproc.telemetry.totals import Family

TIMEOUT: float = 5.0
"""Seconds for one export, all attempts together."""

_SCOPE = InstrumentationScope("mcp_extproc", __version__)
_KINDS = {SpanSide.SERVER: SpanKind.SERVER, SpanSide.CLIENT: SpanKind.CLIENT}
_CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """The resource, with the version of the gateway and of the SDK."""
    return Resource.create({"service.version": __version__, **attributes})


# -- Exporters ------------------------------------------------------------------------------------------------------------


def spans_to(export: Export) -> Callable[[Sequence[ReadableSpan]], bool]:
    """Sends spans."""
    if export.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return _succeeds(Grpc(**_over_grpc(export)).export)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return _succeeds(Http(**_over_http(export)).export)


def logs_to(export: Export) -> Callable[[Sequence[ReadableLogRecord]], bool]:
    """Sends log records."""
    if export.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc

        return _succeeds(Grpc(**_over_grpc(export)).export)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http

    return _succeeds(Http(**_over_http(export)).export)


def metrics_to(export: Export) -> Callable[[sdk.MetricsData], bool]:
    """Sends metrics."""
    if export.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        return _succeeds(Grpc(**_over_grpc(export)).export)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

    return _succeeds(Http(**_over_http(export)).export)


def _succeeds(export: Callable[[Any], Any]) -> Callable[[Any], bool]:
    return lambda batch: export(batch).name == "SUCCESS"


def _over_grpc(export: Export) -> dict[str, Any]:
    return {
        "endpoint": export.url,
        "insecure": export.url.startswith("http://"),
        "headers": tuple(export.headers.items()),
        "timeout": TIMEOUT,
    }


def _over_http(export: Export) -> dict[str, Any]:
    from mcp_extproc.telemetry.collector.otlp_http import Bounded

    return {"endpoint": export.url, "headers": dict(export.headers), "timeout": TIMEOUT, "session": Bounded()}


# -- What is sent ---------------------------------------------------------------------------------------------------------


def span(found: Span, resource: Resource) -> ReadableSpan:
    """A span."""
    context = _context(found.context, is_remote=False)
    parent = None
    if found.parent is not None:
        parent = SpanContext(context.trace_id, int(found.parent, 16), found.parent_is_remote, context.trace_flags)
    return ReadableSpan(
        name=found.name,
        context=context,
        parent=parent,
        resource=resource,
        attributes=found.attributes,
        links=() if found.link is None else (Link(_context(found.link, is_remote=True)),),
        kind=_KINDS[found.kind],
        status=Status(StatusCode.ERROR) if found.failed else Status(),
        start_time=found.start,
        end_time=found.end,
        instrumentation_scope=_SCOPE,
    )


def _context(found: trace_context.SpanContext, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(found.trace, 16),
        int(found.span, 16),
        is_remote,
        TraceFlags(TraceFlags.SAMPLED if found.sampled else TraceFlags.DEFAULT),
        TraceState.from_header([found.state]) if found.state else TraceState(),
    )


def record(
    name: str,
    started: int,
    attributes: Mapping[str, Any],
    context: trace_context.SpanContext | None,
    resource: Resource,
) -> ReadableLogRecord:
    """A log record about a request.

    Args:
        name: of the event.
        started: nanoseconds since the epoch.
        attributes: all that it says.
        context: of the request's span.
        resource: who says so.
    """
    within = Context() if context is None else set_span_in_context(NonRecordingSpan(_context(context, is_remote=False)))
    told = LogRecord(
        timestamp=started,
        observed_timestamp=time.time_ns(),
        severity_number=SeverityNumber.INFO,
        severity_text="INFO",
        attributes=dict(attributes),
        event_name=name,
        context=within,
    )
    return ReadableLogRecord(told, resource, _SCOPE)


def metrics(families: Sequence[Family], resource: Resource, since: int, now: int) -> sdk.MetricsData:
    """All metrics, as they add up since a time in nanoseconds."""
    found = [_metric(family, since, now) for family in families]
    scope = sdk.ScopeMetrics(_SCOPE, found, "")
    return sdk.MetricsData([sdk.ResourceMetrics(resource, [scope], "")])


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
