"""Records and reports in; spans, values and lines out."""

from __future__ import annotations

import msgspec

from mcp_extproc.telemetry.collector.intake import Intake
from mcp_extproc.telemetry.instruments import LEGS, LOOP_LAG, REQUESTS, SESSION_DURATION, SESSIONS_EXPIRED, Instrument
from mcp_extproc.telemetry.report import Count, Durations, Expired, Report
from mcp_extproc.telemetry.spans import Span, Tracing, spans_of
from mcp_extproc.telemetry.totals import Family, Totals
from tests.unit.telemetry.support import CALL

TRACING = Tracing(1, parent_based=True)


def new_id(size: int) -> str:
    return "1" * (2 * size)


def family(intake: Intake, instrument: Instrument) -> Family:
    return next(each for each in intake.families(0.0) if each.instrument is instrument)


def test_a_name_that_one_worker_knows_is_known() -> None:
    """Until then it may be made up."""
    totals = Totals(10)
    intake = Intake(Tracing(1, parent_based=True), lambda size: "1" * (2 * size), totals=totals)
    known = msgspec.structs.replace(CALL, listed=True)
    intake.take(
        [CALL, known, CALL, msgspec.structs.replace(CALL, server="wiki"), msgspec.structs.replace(CALL, tool="x")]
    )
    [requests] = [family for family in intake.families(0.0) if family.instrument is REQUESTS]
    counted = {
        (dict(labels)["gen_ai.tool.name"], dict(labels)["mcp.server"]): n for labels, n in requests.numbers.items()
    }
    assert counted == {("other", "notes"): 2, ("add", "notes"): 2, ("other", "wiki"): 1}


def test_what_workers_report_is_added() -> None:
    """To what others have, and to what those have who are dead by now."""
    spans: list[Span] = []
    intake = Intake(TRACING, new_id, take_span=spans.append, totals=Totals(10))
    labels = (("mcp.server", "notes"), ("mcp.leg", "list"))
    lag = Durations(LOOP_LAG.name, (), [1, *[0] * 13, 1], 400.5, 0.5, 400.0)
    [made, _] = spans_of(CALL, TRACING, new_id)
    new = msgspec.structs.replace(lag, name="of a newer program")
    for pid in (1, 2):
        counts = (Count(LEGS.name, labels, 2), Count(new.name, (), 1))
        intake.take_report(Report(pid=pid, counts=counts, durations=(new, lag), spans=(made,)))
    assert family(intake, LEGS).numbers == {labels: 4}
    [added] = family(intake, LOOP_LAG).distributions.values()
    assert (added.count, added.sum, added.least, added.most) == (4, 801.0, 0.5, 400.0)
    assert spans == [made, made]


def test_without_metrics_only_spans_are_taken() -> None:
    spans: list[Span] = []
    intake = Intake(TRACING, new_id, take_span=spans.append)
    intake.take_report(Report(pid=1, counts=(Count(LEGS.name, (), 2),), spans=(*spans_of(CALL, TRACING, new_id),)))
    assert len(spans) == 2
    assert intake.families(0.0) == []


def test_a_session_ends_once() -> None:
    """Its client may end it at another worker than that where it began, which takes it for expired later."""
    intake = Intake(TRACING, new_id, totals=Totals(10))
    ended = msgspec.structs.replace(
        CALL, http_method="DELETE", method=None, tool=None, session="a", session_seconds=5.0
    )
    intake.take([ended])
    for _ in range(2):
        intake.take_report(Report(pid=1, expired=(Expired("a", "2025-11-25", 60.0), Expired("b", "2025-11-25", 60.0))))
    intake.take([msgspec.structs.replace(ended, session="b")])
    durations = family(intake, SESSION_DURATION).distributions
    assert sorted(each.sum for each in durations.values()) == [5.0, 60.0]
    assert family(intake, SESSIONS_EXPIRED).numbers == {(): 1}
    assert {dict(labels)["mcp.protocol.version"] for labels in durations} == {"2025-11-25"}
