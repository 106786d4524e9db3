"""Text for Prometheus, read by its own parser."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcp_extproc.telemetry.instruments import ALL, BUCKETS, REQUESTS, SERVER_DURATION, SESSIONS_SEEN, Kind
from mcp_extproc.telemetry.prometheus import exposition, name_of
from mcp_extproc.telemetry.recordings import Recording
from mcp_extproc.telemetry.totals import Totals


def text(*recordings: Recording) -> str:
    totals = Totals(100)
    for recording in recordings:
        totals.add(recording)
    return exposition(totals.families())


def test_nothing() -> None:
    assert text() == ""


@pytest.mark.parametrize("name", ["add", 'a"b', "a\\b", "a\nb", "ü\U0001f600", "a{b=c}", ""])
def test_a_counter(name: str) -> None:
    [family] = text_string_to_metric_families(text(Recording(REQUESTS, (("gen_ai.tool.name", name),), 2)))
    assert (family.name, family.type, family.documentation) == ("mcp_gateway_requests", "counter", REQUESTS.meaning)
    [sample] = family.samples
    assert (sample.name, sample.labels, sample.value) == ("mcp_gateway_requests_total", {"gen_ai_tool_name": name}, 2)


def test_a_gauge() -> None:
    [family] = text_string_to_metric_families(text(Recording(SESSIONS_SEEN, (), 7)))
    assert (family.name, family.type, family.samples[0].value) == ("mcp_gateway_sessions_seen_in_5m", "gauge", 7)


def test_a_histogram() -> None:
    labels = (("mcp.method.name", "tools/call"),)
    values = (0.01, 0.015, 7.25, 1000)
    [family] = text_string_to_metric_families(text(*(Recording(SERVER_DURATION, labels, value) for value in values)))
    assert (family.name, family.type) == ("mcp_server_operation_duration_seconds", "histogram")
    assert all(sample.labels["mcp_method_name"] == "tools/call" for sample in family.samples)
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert [float(bound) for bound in buckets] == [*BUCKETS, float("inf")]
    assert (buckets["0.01"], buckets["0.02"], buckets["5"], buckets["10"], buckets["+Inf"]) == (1, 2, 2, 3, 4)
    others = {sample.name: sample.value for sample in family.samples if not sample.name.endswith("_bucket")}
    assert others == {f"{family.name}_sum": pytest.approx(1007.275), f"{family.name}_count": 4}


def test_names_are_distinct() -> None:
    names = [name_of(instrument) for instrument in ALL]
    assert len({*names}) == len(names)
    assert all(name.endswith("_total") == (each.kind is Kind.COUNTER) for name, each in zip(names, ALL, strict=True))
