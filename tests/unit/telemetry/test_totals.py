"""Values, added up within bounds."""

from __future__ import annotations

import pytest

from mcp_extproc.telemetry.instruments import (
    AUDIT_LOST,
    BUCKETS,
    ERRORS,
    MEMORY,
    REQUESTS,
    SERVER_DURATION,
    SESSIONS_SEEN,
    Instrument,
)
from mcp_extproc.telemetry.recordings import Recording
from mcp_extproc.telemetry.totals import MAX_SERIES, MAX_VALUE_CHARACTERS, Family, Totals, merged


def family(totals: Totals, instrument: Instrument) -> Family:
    return next(family for family in totals.families() if family.instrument is instrument)


def tool(name: str, method: str = "m") -> Recording:
    return Recording(REQUESTS, (("mcp.method.name", method), ("gen_ai.tool.name", name)), 1)


def tools(totals: Totals) -> dict[str, float]:
    return {dict(labels)["gen_ai.tool.name"]: number for labels, number in family(totals, REQUESTS).numbers.items()}


def test_what_was_never_recorded_is_not_there() -> None:
    assert [*Totals(1).families()] == []


def test_counters_and_gauges() -> None:
    totals = Totals(10)
    for value in (1.0, 2.0):
        totals.add(Recording(REQUESTS, (), value))
        totals.add(Recording(SESSIONS_SEEN, (), value))
    assert family(totals, REQUESTS).numbers == {(): 3}
    assert family(totals, SESSIONS_SEEN).numbers == {(): 2}


def test_a_bound_is_in_its_bucket() -> None:
    totals = Totals(10)
    for value in (0.0, 0.01, 0.010001, 300, 301):
        totals.add(Recording(SERVER_DURATION, (), value))
    found = family(totals, SERVER_DURATION).distributions[()]
    assert found.counts == [2, 1, *[0] * (len(BUCKETS) - 3), 1, 1]
    assert found.count == 5
    assert found.sum == pytest.approx(601.020001)


def test_values_of_a_label_are_bounded() -> None:
    totals = Totals(3)
    for number in range(10):
        totals.add(tool(f"t{number}"))
        totals.add(tool("t1"))
    assert tools(totals) == {"t0": 1, "t1": 11, "t2": 1, "other": 7}


def test_other_takes_no_room() -> None:
    totals = Totals(1)
    for _ in range(2000):
        totals.add(tool("other"))
    totals.add(tool("real"))
    assert tools(totals) == {"other": 2000, "real": 1}


def test_fixed_words_are_not_bounded() -> None:
    totals = Totals(1)
    for method in ("a", "b", "c"):
        totals.add(tool("t", method))
    assert len(family(totals, REQUESTS).numbers) == 3


@pytest.mark.parametrize("instrument", [REQUESTS, SERVER_DURATION])
def test_series_are_bounded(instrument: Instrument) -> None:
    most = MAX_SERIES[instrument.kind]
    totals = Totals(most * 2)
    for number in range(most + 10):
        totals.add(Recording(instrument, (("gen_ai.tool.name", str(number)),), 1))
    found = family(totals, instrument)
    assert len(found.numbers) + len(found.distributions) == most + 1


def of_server(server: str, number: int) -> Recording:
    labels = (("gen_ai.tool.name", f"t{number % 100}"), ("mcp.server", server), ("error.type", str(number)))
    return Recording(SERVER_DURATION, labels, 1)


def test_attack_a_server_takes_no_room_of_others() -> None:
    """Not with its tools and errors, of which it may have as many as it likes."""
    most = MAX_SERIES[SERVER_DURATION.kind]
    totals = Totals(most * 2)
    for number in range(most + 10):
        totals.add(of_server("hostile", number))
    totals.add(of_server("good", 1))
    found = family(totals, SERVER_DURATION).distributions
    assert found[of_server("good", 1).labels].count == 1
    assert len(found) == most // 2 + 2
    rest = (("gen_ai.tool.name", "other"), ("mcp.server", "hostile"), ("error.type", "other"))
    assert found[rest].count == most + 10 - most // 2


def test_attack_neither_do_several_servers_together() -> None:
    most = MAX_SERIES[SERVER_DURATION.kind]
    totals = Totals(most * 2)
    for server in range(4):
        for number in range(most):
            totals.add(of_server(f"hostile{server}", number))
    for number in range(20):
        totals.add(of_server("good", number))
    found = family(totals, SERVER_DURATION).distributions
    assert {labels for labels in found if ("mcp.server", "good") in labels} == {
        of_server("good", number).labels for number in range(20)
    }
    assert len(found) < most


@pytest.mark.parametrize("label", ["gen_ai.tool.name", "gen_ai.prompt.name", "error.type", "server.address"])
def test_attack_a_server_takes_no_values_of_others(label: str) -> None:
    """It lists as many names as it likes, and all of them may be called."""
    totals = Totals(3)
    for server, number in ((server, number) for server in ("hostile", "good") for number in range(4)):
        totals.add(Recording(REQUESTS, ((label, f"{server}{number}"), ("mcp.server", server)), 1))
    found = [dict(labels) for labels in family(totals, REQUESTS).numbers]
    assert [each[label] for each in found if each["mcp.server"] == "good"] == ["good0", "good1", "good2", "other"]
    assert [each[label] for each in found if each["mcp.server"] == "hostile"][-1] == "other"


def test_attack_servers_are_bounded_themselves() -> None:
    totals = Totals(3)
    for number in range(10):
        totals.add(Recording(REQUESTS, (("gen_ai.tool.name", "t"), ("mcp.server", f"s{number}")), 1))
    assert {dict(labels)["mcp.server"] for labels in family(totals, REQUESTS).numbers} == {"s0", "s1", "s2", "other"}


def test_codes_that_a_server_makes_up_hide_none_of_the_gateways() -> None:
    totals = Totals(3)
    for code in (*range(-40_000, -39_990), -32602):
        totals.add(Recording(ERRORS, (("mcp.server", "s"), ("error.type", str(code))), 1))
    assert (("mcp.server", "s"), ("error.type", "-32602")) in family(totals, ERRORS).numbers


def test_a_long_value_is_cut() -> None:
    totals = Totals(3)
    for _ in range(2):
        totals.add(tool("n" * 1024))
    assert tools(totals) == {"n" * MAX_VALUE_CHARACTERS + "…": 2}


def test_what_several_say_of_a_metric_is_one_family() -> None:
    one, other = (("mcp.process", "worker"),), (("mcp.process", "collector"),)
    found = merged([Family(MEMORY, {one: 1}, {}), Family(AUDIT_LOST, {(): 0}, {}), Family(MEMORY, {other: 2}, {})])
    assert found == [Family(AUDIT_LOST, {(): 0}, {}), Family(MEMORY, {one: 1, other: 2}, {})]
