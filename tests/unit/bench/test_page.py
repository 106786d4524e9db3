"""The tables of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import goals
from bench.blocks import BEGIN, END, place
from bench.crowds import Crowd, CrowdOutcome, Sizes
from bench.crowds import Memory as Memory_
from bench.crowds import Round as Round_
from bench.errors import BenchError
from bench.page import on, tables, written
from bench.plot import panels
from bench.rounds import Memory, Outcome, Plan, Scenario, joined
from bench.rules import RulesCost
from bench.slices import Result
from bench.start import Start
from bench.streams import Round, StreamOutcome
from tests.unit.bench.test_where import COSTS

ABOUT = {
    "when": "2026-11-30 12:00", "commit": "abc+", "envoy": "Envoy 1", "python": "3", "cpu": "a CPU", "cores": 2, "rounds": 1,
    "restarts": 0, "seconds": 0.5, "load": 0.1, "load_at_end": 2.5, "stolen": 0.0123,
}  # fmt: skip
PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"


def run(
    page: str,
    about: Mapping[str, Any],
    outcomes: Mapping[str, Outcome],
    crowds: CrowdOutcome | None = None,
    held: Sequence[StreamOutcome] = (),
    **others: Any,
) -> str:
    """The page after a run that measured this."""
    reached = goals.rows(outcomes, held, others.get("starts", ()), others.get("ruled"))
    return written(page, about, tables(outcomes, crowds, held, **others), reached)


def result(calls: int, envoy: float, **worker: float) -> Result:
    cpu = {"upstream": 1.0, "envoy": envoy, **worker}
    return Result(calls=calls, seconds=1.0, p50=0.001, p99=0.002, cpu=cpu, client_cpu=1.0)


def outcome(*, worker: float) -> Outcome:
    plan = Plan(("router", "gateway"), (Scenario(0, 16),), 0.5, 1, ("one",), 2)
    results = {"router": [result(1000, 0.05)], "gateway": [result(700, 0.035, worker=worker)]}
    return Outcome(plan, {plan.scenarios[0]: results}, {"gateway": {"worker": Memory(1_000_000, 2_000_000)}})


def test_what_is_around_the_figures_stays() -> None:
    page = run(PAGE, ABOUT, {"calls": outcome(worker=0.007)})
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "old" not in page
    assert run(page, ABOUT, {"calls": outcome(worker=0.007)}) == page


def test_figures_and_goals() -> None:
    page = run(PAGE, ABOUT, {"calls": outcome(worker=0.007)})
    figures = (
        "700 ±0% | 0.70 [0.70, 0.70] | 1.00 ±0% | 1.00 [1.00, 1.00] | 2.00 ±0% | 50 ±0% | 10 ±0% | "
        "1.20 [1.20, 1.20] | 0.20 [0.20, 0.20]"
    )
    assert f"| (d) this gateway | {figures} |" in page
    measured = "1.20 [1.20, 1.20] |  | aim reached | 2026-11-30 12:00, abc+ |"
    assert f"| small calls, 16 connections, without: CPU | x (c) | \u2264 2.1 | \u2264 1.8 | {measured}" in page
    assert "Half of all rounds lie within \u00b10% of a ratio. At least 700 calls a slice." in page
    assert (
        "In no figure, by system: 1,000 to 1,429 µs of CPU per call of the client, and 1,000 to 1,429 µs of the upstream."
        in page
    )
    assert "**Run of 2026-11-30 12:00, abc+**: Envoy 1, CPython 3, a CPU, 2 cores; 1 rounds of 0.5 s. " in page
    assert "Load 0.1 before the run and 2.5 at its end, with its own; 1.2% of the processors' time was stolen." in page
    assert "| (d) this gateway | worker | 1 | 2 | 860 |" in page


def test_a_run_of_one_section_leaves_the_others_as_they_are() -> None:
    first = run(PAGE, ABOUT, {"calls": outcome(worker=0.007), "logged": outcome(worker=0.014)})
    later = ABOUT | {"when": "2026-12-01 12:00"}
    both = run(first, later, {"calls": outcome(worker=0.028)})
    calls, logged = both.split("<!-- table: logged: ")
    assert "1.80 [1.80, 1.80]" in calls
    assert "1.20 [1.20, 1.20]" not in both
    assert "1.40 [1.40, 1.40]" in logged
    assert "Run of 2026-11-30 12:00, abc+." in logged
    assert "**Run of 2026-11-30 12:00, abc+**" in both
    assert "**Run of 2026-12-01 12:00, abc+**" in both
    all_anew = run(both, later, {"calls": outcome(worker=0.007), "logged": outcome(worker=0.014)})
    assert "2026-11-30" not in all_anew
    assert all_anew.count("<!-- table: ") == 5


def test_a_goal_that_was_not_measured_again_keeps_its_figure_and_its_run() -> None:
    page = run(PAGE, ABOUT, {"calls": outcome(worker=0.007)})
    size = {"worker": 1_000_000}
    held = StreamOutcome(100, size, size, [Round(open=size, closed=size)], 1.0, {"worker": 0.05}, 1)
    page = run(page, ABOUT | {"when": "2026-12-01 12:00"}, {}, held=[held])
    rows = [line for line in page.splitlines() if line.endswith(", abc+ |")]
    assert [(row.split(" | ")[0], row.split(" | ")[-1]) for row in rows] == [
        ("| small calls, 16 connections, without: CPU", "2026-11-30 12:00, abc+ |"),
        ("| small calls, 16 connections, without: calls/s", "2026-11-30 12:00, abc+ |"),
        ("| an idle session", "2026-12-01 12:00, abc+ |"),
        ("| its open stream", "2026-12-01 12:00, abc+ |"),
    ]


def test_of_systems_that_were_started_anew_no_memory_is_told() -> None:
    whole = outcome(worker=0.007)
    page = run(PAGE, ABOUT | {"restarts": 3}, {"calls": joined(whole.plan, [whole, whole])})
    assert "1 rounds of 0.5 s, in 4 parts, each of other processes. Load" in page
    assert "memory (PSS)" not in page
    assert "memory (PSS)" in run(PAGE, ABOUT, {"calls": joined(whole.plan, [whole])})


def test_streams() -> None:
    sizes = {"worker": 1_000_000}
    rounds = [Round(open={"worker": 3_048_000}, closed={"worker": 2_000_000})]
    held = StreamOutcome(100, sizes, sizes, rounds, 10.0, {"worker": 0.05}, 100)
    page = run(PAGE, ABOUT, {}, held=[held, replace(held, idle_cpu={"worker": 0.1})])
    assert "| worker | 0.0 [0.0, 0.0] | 20.0 [20.0, 20.0] | 75.0 [50.0, 100.0] |" in page
    assert (
        "**100 sessions, then 100 streams in them, each from two servers, in 2 gateways; idle for 10 s with 100 to "
        in page
    )
    assert "| worker, open |  | 3 [3, 3] |" in page
    assert "| worker, closed | 1 [1, 1] | 2 [2, 2] |" in page


def test_many_sessions_of_a_stdio_server() -> None:
    sizes = Sizes(Memory_(40_000_000, 0), Memory_(20_000_000, 10_000_000), 2)
    calls = Result(calls=100, seconds=1.0, p50=0.001, p99=0.002, cpu={}, client_cpu=0.0)
    crowds = CrowdOutcome(7, {"shared": Crowd([Round_(sizes, 1.5, sizes, calls)])})
    page = run(PAGE, ABOUT, {}, crowds)
    assert "**7 sessions of one stdio server, over 1 gateways**" in page
    assert "| shared | 1.50 ±0% | 100 ±0% | 1.0 ±0% | 2 [2, 2] | 40.0 ±0% | 0.0 ±0% | 40.0 ±0% | 0 [0, 0] |" in page


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}\n{BEGIN}"])
def test_a_page_without_a_place(page: str) -> None:
    with pytest.raises(BenchError, match="no place"):
        place(page)


def test_the_documentation_has_a_place() -> None:
    page = Path(__file__).parents[3] / "docs" / "performance.md"
    place(page.read_text())


LATER = ABOUT | {"when": "2026-12-01 12:00"}
SIZES = Sizes(Memory_(40_000_000, 0), Memory_(20_000_000, 10_000_000), 2)
SIZE = {"worker": 1_000_000}

EACH: Mapping[str, Mapping[str, Any]] = {
    **{name: {"outcomes": {name: outcome(worker=0.007)}} for name in ("calls", "workers", "run", "stdio")},
    "where": {"costs": [COSTS] * 3},
    "stdio-sessions": {"crowds": CrowdOutcome(7, {"shared": Crowd([Round_(SIZES, 1.5, SIZES, result(100, 1.0))])})},
    "streams": {"held": [StreamOutcome(100, SIZE, SIZE, [Round(SIZE, SIZE)], 1.0, {"worker": 0.05}, 1)]},
    "start": {"starts": [Start(1, (1.0,), (2.4,), ({"a": 40.0},))]},
    "rules": {"ruled": RulesCost(*[(1.0,)] * 6)},
}
"""What a run of one section measures, in the order of the page."""


@pytest.mark.parametrize("section", EACH)
def test_each_section_can_be_measured_again_by_itself(section: str) -> None:
    """Its tables take the place of its older ones; all others, and the chart's panels, are there as they were."""
    page = PAGE
    for measured in EACH.values():
        page = run(page, ABOUT, **{"outcomes": {}} | dict(measured))
    again = run(page, LATER, **{"outcomes": {}} | dict(EACH[section]))
    before, after = ({each.key: each.text for each in on(text)} for text in (page, again))
    tables_of = [key for key in after if not key.startswith(("runs: ", "goals"))]
    assert tables_of == [key for key in before if not key.startswith(("runs: ", "goals"))]
    assert list(dict.fromkeys(key.partition(":")[0] for key in tables_of)) == list(EACH)
    changed = {key for key in tables_of if after[key] != before[key]}
    assert changed == {key for key in tables_of if key.partition(":")[0] == section}
    assert all(after[key] == before[key].replace("2026-11-30", "2026-12-01") for key in changed)
    assert panels(on(again)) == panels(on(page))
    assert len(panels(on(page))) == 4


def test_goals_alone_leave_all_tables_as_they_are() -> None:
    page = run(PAGE, ABOUT, {"calls": outcome(worker=0.007)})
    again = written(page, LATER, (), goals.rows({"calls": outcome(worker=0.028)}))
    assert "| 1.80 [1.80, 1.80] |  | aim reached | 2026-12-01 12:00, abc+ |" in again
    before, after = ({each.key: each.text for each in on(text)} for text in (page, again))
    assert {key for key in before if before[key] != after[key]} == {"goals"}
    assert sorted(after.keys() - before.keys()) == ["runs: 2026-12-01 12:00, abc+"]
