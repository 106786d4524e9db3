"""Whatever is lost between two runs shows as a difference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.conformance.results import MISSING, Check, Difference, Key, Run, differences, report, rewritten

PING = Check("ping", "Ping", "SUCCESS", details={"result": {}})
LIST = Check("tools-list", "ToolsList", "SUCCESS", details={"tools": ["a", "b"]})
SCHEMA = Check("wire-schema-valid", "WireSchemaValid", "SUCCESS")


def run(*checks: Check, **scenarios: Sequence[Check]) -> Run:
    return Run({"s": checks, **scenarios})


def test_equal_runs_do_not_differ() -> None:
    assert differences(run(PING, LIST), run(LIST, PING)) == []


@pytest.mark.parametrize("status", ["INFO", "SKIPPED", "WARNING", "FAILURE"])
def test_a_check_with_another_status(status: str) -> None:
    found = differences(run(PING, LIST), run(Check("ping", "Ping", status, "why"), LIST))
    assert found == [Difference(Key("s", "ping", "Ping"), "SUCCESS", status, "why")]


def test_a_failure_that_passes_through_a_gateway_is_a_difference_too() -> None:
    failed = Check("ping", "Ping", "FAILURE", "no")
    assert differences(run(failed, LIST), run(PING, LIST)) == [
        Difference(Key("s", "ping", "Ping"), "FAILURE", "SUCCESS", "no")
    ]


def test_a_check_that_is_lost() -> None:
    assert differences(run(PING, LIST), run(LIST)) == [Difference(Key("s", "ping", "Ping"), "SUCCESS", MISSING)]


def test_a_check_that_appears() -> None:
    timeout = Check("scenario-timeout", "ScenarioTimeout", "FAILURE", "30 s")
    assert differences(run(PING), run(PING, timeout)) == [
        Difference(Key("s", "scenario-timeout", "ScenarioTimeout"), MISSING, "FAILURE", "30 s")
    ]


def test_one_of_several_checks_of_the_same_id_is_lost() -> None:
    assert differences(run(PING, SCHEMA, SCHEMA), run(PING, SCHEMA)) == [
        Difference(Key("s", "wire-schema-valid", "WireSchemaValid", 2), "SUCCESS", MISSING)
    ]


def test_one_of_several_checks_of_the_same_id_fails() -> None:
    failed = Check(SCHEMA.id, SCHEMA.name, "FAILURE", "bad")
    assert differences(run(SCHEMA, SCHEMA, SCHEMA), run(SCHEMA, failed, SCHEMA)) == [
        Difference(Key("s", "wire-schema-valid", "WireSchemaValid", 2), "SUCCESS", "FAILURE", "bad")
    ]


def test_the_same_id_under_another_name_is_another_check() -> None:
    renamed = Check("ping", "PingPong", "SUCCESS")
    assert len(differences(run(PING), run(renamed))) == 2


def test_the_same_check_of_another_scenario_is_another_check() -> None:
    assert differences(run(LIST, other=[PING]), run(LIST, PING, other=[])) == [
        Difference(Key("other", "ping", "Ping"), "SUCCESS", MISSING),
        Difference(Key("s", "ping", "Ping"), MISSING, "SUCCESS"),
    ]


@pytest.mark.parametrize("lost", [[PING], []])
def test_a_scenario_that_left_no_file(lost: Sequence[Check]) -> None:
    """Also one without a single check."""
    assert differences(run(LIST, other=lost), run(LIST)) == [Difference(Key("other"), "(present)", MISSING)]
    assert differences(run(LIST), run(LIST, other=lost)) == [Difference(Key("other"), MISSING, "(present)")]


def test_mere_trace_is_left_out() -> None:
    trace = Check("incoming-sse-event", "IncomingSseEvent", "INFO")
    assert differences(run(PING, trace, trace), run(PING, trace)) == []
    assert run(PING, trace).totals() == {"SUCCESS": 1}


def test_trace_that_is_no_info_counts() -> None:
    assert differences(run(PING), run(PING, Check("incoming-response", "IncomingResponse", "FAILURE")))


def test_info_that_is_no_trace_counts() -> None:
    info = Check("server-sse-streams-functional", "Streams", "INFO")
    assert differences(run(PING, info), run(PING))
    assert run(PING, info).totals() == {"SUCCESS": 1, "INFO": 1}


@pytest.mark.parametrize(
    "empty",
    [Run({}), run(), run(Check("a", "A", "INFO")), run(Check("a", "A", "SKIPPED"))],
    ids=["no scenario", "no check", "INFO only", "SKIPPED only"],
)
def test_runs_that_checked_nothing_differ_even_when_equal(empty: Run) -> None:
    assert differences(empty, empty) == [Difference(Key("(any check)"), MISSING, MISSING)]
    assert Difference(Key("(any check)"), "(present)", MISSING) in differences(run(PING), empty)


def test_the_report_names_scenario_check_both_statuses_and_the_error() -> None:
    failed = Check(SCHEMA.id, SCHEMA.name, "FAILURE", "2 violations")
    assert report(differences(run(SCHEMA, SCHEMA), run(SCHEMA, failed))).splitlines() == [
        "1 differences",
        "s: wire-schema-valid (2): direct SUCCESS, gateway FAILURE: 2 violations",
    ]


def test_details_that_were_rewritten() -> None:
    prefixed = Check("tools-list", "ToolsList", "SUCCESS", details={"tools": ["x__a", "x__b"]})
    [found] = rewritten(run(PING, LIST), run(PING, prefixed))
    assert found == Difference(LIST_KEY, "{'tools': ['a', 'b']}", "{'tools': ['x__a', 'x__b']}")


def test_details_that_always_vary_are_left_out() -> None:
    def seen(session: str, port: int) -> Check:
        details = {"results": [{"sessionId": session, "ok": True}], "serverUrl": f"http://127.0.0.1:{port}/mcp"}
        return Check("server-initialize", "ServerInitialize", "SUCCESS", details=details)

    assert rewritten(run(seen("a", 1)), run(seen("b", 2))) == []


LIST_KEY = Key("s", "tools-list", "ToolsList")
