"""Spans and metrics as they are sent, held against the table of the OpenTelemetry conventions for MCP.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/mcp.md (status: development). What is not in there is ours and
named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from mcp_extproc import __version__
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry.collector import otlp, otlp_metrics
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.recordings import recordings_of
from mcp_extproc.telemetry.spans import Tracing, spans_of
from mcp_extproc.telemetry.totals import Totals
from tests.support.otlp_receiver import plain
from tests.unit.telemetry.support import CALL, OTHER, PARENT, SPAN, TRACE

SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


@dataclass(frozen=True)
class Row:
    """An attribute.

    Attributes:
        type: of its values.
        kinds: of spans that may have it.
        metrics: how the names of metrics that may have it end.
    """

    type: type
    kinds: frozenset[int] = frozenset({SERVER, CLIENT})
    metrics: tuple[str, ...] = ("operation.duration",)


ALL_METRICS = ("operation.duration", "session.duration")
CONVENTIONS: Mapping[str, Row] = {
    "mcp.method.name": Row(str),
    "gen_ai.tool.name": Row(str),
    "gen_ai.prompt.name": Row(str),
    "gen_ai.operation.name": Row(str),
    "mcp.resource.uri": Row(str, metrics=()),
    "jsonrpc.request.id": Row(str, metrics=()),
    "rpc.response.status_code": Row(str),
    "error.type": Row(str, metrics=ALL_METRICS),
    "mcp.protocol.version": Row(str, metrics=ALL_METRICS),
    "mcp.session.id": Row(str, metrics=()),
    "network.transport": Row(str, metrics=ALL_METRICS),
    "network.protocol.name": Row(str, metrics=ALL_METRICS),
    "network.protocol.version": Row(str, metrics=ALL_METRICS),
    "client.address": Row(str, frozenset({SERVER}), ()),
    "client.port": Row(int, frozenset({SERVER}), ()),
    "server.address": Row(str, frozenset({CLIENT}), ("client.operation.duration",)),
    "server.port": Row(int, frozenset({CLIENT}), ("client.operation.duration",)),
}
OURS = {
    "mcp.server": Row(str),
    "mcp.endpoint": Row(str, metrics=()),
    # By the conventions for HTTP, where nobody could read which method it was.
    "http.request.method": Row(str, frozenset({SERVER}), ()),
    "http.response.status_code": Row(int, frozenset({SERVER}), ()),
}
TABLE = {**CONVENTIONS, **OURS}

BUCKETS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]


def changed(**changes: Any) -> Exchange:
    return msgspec.structs.replace(CALL, **{"listed": True, **changes})


EXCHANGES = {
    "a call": changed(),
    "a notification": changed(method="notifications/cancelled", tool=None, id=None),
    "a prompt": changed(method="prompts/get", tool=None, prompt="summary"),
    "a resource": changed(method="resources/read", tool=None, uri="file:///notes"),
    "a tool's error": changed(reason="tool_error"),
    "a server's error": changed(reason="server_error", code=-32042),
    "a server's failure": changed(status=502),
    "what could not be read": changed(method=None, tool=None, id=None, reason="parse_error", code=-32700, upstream=None),
    "the end of a session": changed(http_method="DELETE", method=None, tool=None, id=None, session_seconds=90.0),
}  # fmt: skip


def spans(exchange: Exchange) -> Iterator[Span]:
    """As they are sent."""
    numbers, resource = count(1), otlp.resource_of({})
    made = spans_of(exchange, Tracing(1, parent_based=True), lambda size: f"{next(numbers):0{size * 2}x}")
    sent = ExportTraceServiceRequest.FromString(
        otlp.request_of(resource, [otlp.item(otlp.span(each)) for each in made])
    )
    for resources in sent.resource_spans:
        for scope in resources.scope_spans:
            yield from scope.spans


def metrics(*exchanges: Exchange) -> dict[str, Metric]:
    """As they are sent, by name."""
    totals = Totals(100)
    for exchange in exchanges:
        for recording in recordings_of(exchange):
            totals.add(recording)
    request = otlp_metrics.metrics([*totals.families()], otlp.resource_of({}), 1, 2)
    sent = ExportMetricsServiceRequest.FromString(request)
    [scope] = [scope for resource in sent.resource_metrics for scope in resource.scope_metrics]
    return {metric.name: metric for metric in scope.metrics}


# -- Spans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
def test_attributes_of_spans_are_those_of_the_table(exchange: Exchange) -> None:
    for span in spans(exchange):
        for name, value in plain(span.attributes).items():
            assert type(value) is TABLE[name].type, name
            assert span.kind in TABLE[name].kinds, name


def test_what_the_conventions_ask_for_is_there() -> None:
    server, client = (plain(span.attributes) for span in spans(EXCHANGES["a call"]))
    missing = {"gen_ai.prompt.name", "mcp.resource.uri", "rpc.response.status_code", "error.type"}
    assert CONVENTIONS.keys() - server.keys() == missing | {"server.address", "server.port"}
    # How Envoy speaks to a server is not in the record.
    assert CONVENTIONS.keys() - client.keys() == missing | {"client.address", "client.port", "network.protocol.version"}


@pytest.mark.parametrize(
    ("what", "name", "has"),
    [
        ("a call", "tools/call add", {"gen_ai.tool.name": "add", "gen_ai.operation.name": "execute_tool"}),
        ("a prompt", "prompts/get summary", {"gen_ai.prompt.name": "summary", "gen_ai.operation.name": None}),
        ("a resource", "resources/read", {"mcp.resource.uri": "file:///notes"}),
        ("a notification", "notifications/cancelled", {"jsonrpc.request.id": None}),
        ("a tool's error", "tools/call add", {"error.type": "tool_error", "rpc.response.status_code": None}),
        ("a server's error", "tools/call add", {"error.type": "-32042", "rpc.response.status_code": "-32042"}),
        ("a server's failure", "tools/call add", {"error.type": "502", "rpc.response.status_code": None}),
        ("what could not be read", "POST", {"error.type": "-32700", "mcp.method.name": None}),
    ],
)
def test_names_and_conditional_attributes(what: str, name: str, has: dict[str, str | None]) -> None:
    for span in spans(EXCHANGES[what]):
        attributes = plain(span.attributes)
        assert span.name == name
        assert {key: attributes.get(key) for key in has} == has
        assert (span.status.code == Status.STATUS_CODE_ERROR) == ("error.type" in attributes)


def test_all_of_a_span() -> None:
    server, client = spans(EXCHANGES["a call"])
    assert (server.parent_span_id.hex(), client.parent_span_id) == (PARENT, server.span_id)
    assert (server.trace_state, server.links[0].trace_id.hex(), server.links[0].flags) == ("v=1", OTHER, 0x300)
    assert (server.flags, client.flags) == (0x300, 0x100)
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (CALL.started, CALL.started + CALL.duration)


def test_half_a_character_is_replaced() -> None:
    [server, _] = spans(changed(id="\ud800"))
    assert plain(server.attributes)["jsonrpc.request.id"] == "?"


@pytest.mark.parametrize("value", ["", "ü" * 200, 0, -1, 1 << 40, True, False, 1.5])
def test_values_of_log_records(value: Any) -> None:
    context = SpanContext(TRACE, SPAN, sampled=True)
    sent = otlp.request_of(
        otlp.resource_of({"service.name": "x"}), [otlp.item(otlp.record("e", 5, {"a": value}, context))]
    )
    [resource] = ExportLogsServiceRequest.FromString(sent).resource_logs
    [scope] = resource.scope_logs
    [record] = scope.log_records
    assert plain(resource.resource.attributes)["service.name"] == "x"
    assert (scope.scope.name, scope.scope.version) == ("mcp_extproc", __version__)
    assert plain(record.attributes) == {"a": value}
    assert type(plain(record.attributes)["a"]) is type(value)
    assert (record.event_name, record.time_unix_nano, record.severity_text) == ("e", 5, "INFO")
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (TRACE, SPAN, 1)


# -- Metrics --------------------------------------------------------------------------------------------------------------


def test_histograms_are_those_of_the_table() -> None:
    found = metrics(*EXCHANGES.values())
    named = [name for name in found if not name.startswith("mcp.gateway.")]
    assert named == ["mcp.client.operation.duration", "mcp.server.operation.duration", "mcp.server.session.duration"]
    for name in named:
        metric = found[name]
        assert metric.unit == "s"
        assert metric.histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        for point in metric.histogram.data_points:
            assert [*point.explicit_bounds] == BUCKETS
            assert sum(point.bucket_counts) == point.count
            for label in plain(point.attributes):
                assert name.endswith(TABLE[label].metrics), label


def test_histograms_have_what_the_table_asks_for() -> None:
    found = metrics(*EXCHANGES.values())
    for name in ("mcp.client.operation.duration", "mcp.server.operation.duration"):
        labels = {label for point in found[name].histogram.data_points for label in plain(point.attributes)}
        asked = {label for label, row in CONVENTIONS.items() if name.endswith(row.metrics or "-")}
        # How Envoy speaks to a server is not in the record.
        assert asked - labels == ({"network.protocol.version"} if name.startswith("mcp.client") else set())
    [ended] = found["mcp.server.session.duration"].histogram.data_points
    assert (ended.count, ended.sum) == (1, 90)


def test_what_is_ours_says_what_it_counts() -> None:
    """No unit of the conventions fits, so it is an annotation of UCUM; what only grows is monotonic."""
    for name, metric in metrics(*EXCHANGES.values()).items():
        if name.startswith("mcp.gateway."):
            assert metric.unit in {"{request}", "{session}"}
            assert metric.sum.is_monotonic
