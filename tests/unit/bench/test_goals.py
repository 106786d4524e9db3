"""Goals, and which of them a run misses."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bench.__main__ import main
from bench.goals import GOALS, HEADINGS, MORE_US, Bounds, Goal, needed, renewed, rows, table
from bench.rounds import Outcome, Plan, Scenario
from bench.sections import COMPARED, PLANNED, Wishes, plans
from bench.slices import Result
from bench.start import Start
from bench.stats import Estimate
from bench.streams import Round, StreamOutcome
from bench.systems import SYSTEMS


def result(calls: int, cpu: float, p50: float = 0.001) -> Result:
    return Result(
        calls=calls, seconds=1.0, p50=p50, p99=1.0, cpu={"upstream": 1.0, "envoy": cpu / 2, "worker": cpu / 2},
        client_cpu=1.0,
    )  # fmt: skip


def measured(goal: Goal, base: Result, own: Result) -> Sequence[tuple[str, ...]]:
    """The row of a goal, as if nothing else had been measured."""
    plan = Plan((goal.against, goal.system), (goal.scenario,), 1.0, 1, ("one",), 2)
    results = {goal.against: [base], goal.above: [base], goal.system: [own], goal.prototype: [own]}
    del results[""]
    outcome = Outcome(plan, {goal.scenario: results}, {})
    return [row for row in rows({goal.section: outcome}) if row[0] == goal.what]


@pytest.mark.parametrize(
    ("bounds", "value", "verdict"),
    [
        (Bounds(2.1, 1.8), 2.11, "**missed**"),
        (Bounds(2.1, 1.8), 2.1, "must reached"),
        (Bounds(2.1, 1.8), 1.81, "must reached"),
        (Bounds(2.1, 1.8), 1.8, "aim reached"),
        (Bounds(0.55, 0.65, at_least=True), 0.54, "**missed**"),
        (Bounds(0.55, 0.65, at_least=True), 0.55, "must reached"),
        (Bounds(0.55, 0.65, at_least=True), 0.65, "aim reached"),
    ],
)
def test_what_a_value_reaches(bounds: Bounds, value: float, verdict: str) -> None:
    assert bounds.verdict(Estimate.of([value])) == verdict


@pytest.mark.parametrize(
    ("bounds", "value", "verdict"),
    [
        (Bounds(2.1, 1.8), Estimate(2.0, 2.2, 2.3), "undecided"),
        (Bounds(2.1, 1.8), Estimate(1.7, 1.9, 2.2), "undecided"),
        (Bounds(2.1, 1.8), Estimate(2.1, 2.2, 2.3), "**missed**"),
        (Bounds(2.1, 1.8), Estimate(1.7, 1.9, 2.1), "must reached, aim undecided"),
        (Bounds(2.1, 1.8), Estimate(1.7, 1.7, 1.8), "aim reached"),
        (Bounds(0.55, 0.65, at_least=True), Estimate(0.54, 0.6, 0.62), "undecided"),
        (Bounds(0.55, 0.65, at_least=True), Estimate(0.56, 0.6, 0.66), "must reached, aim undecided"),
    ],
)
def test_a_bound_within_the_interval_is_undecided(bounds: Bounds, value: Estimate, verdict: str) -> None:
    assert bounds.verdict(value) == verdict


@pytest.mark.parametrize(
    ("bounds", "least", "verdict"),
    [
        (Bounds(2.1, 1.8), Estimate(2.2, 2.3, 2.4), "**missed**; (p) misses it, too"),
        (Bounds(2.1, 1.8), Estimate(2.0, 2.1, 2.2), "**missed**; (p): undecided"),
        (Bounds(2.1, 1.8), Estimate(1.9, 2.0, 2.1), "**missed**; (p) reaches it"),
        (Bounds(9, 10, at_least=True), Estimate(7, 8, 8.9), "**missed**; (p) misses it, too"),
        (Bounds(9, 10, at_least=True), Estimate(9, 10, 11), "**missed**; (p) reaches it"),
        (Bounds(2.1, 1.8, at_least=True), Estimate(1, 1, 1), "aim reached"),
    ],
)
def test_of_a_must_that_is_missed_the_prototype_says_whether_it_can_be_reached(
    bounds: Bounds, least: Estimate, verdict: str
) -> None:
    row = bounds.row("what", "x (c)", Estimate.of([3 if bounds.must < 3 else 8]), least)
    assert row[-2:] == (str(least), verdict)


def test_a_verdict_is_of_all_rounds_together() -> None:
    """Single rounds may lie anywhere."""
    noise = random.Random(1)
    rounds = [2.2 * noise.lognormvariate(0, 0.2) for _ in range(200)]
    assert sum(each < 2.1 for each in rounds) > 50
    assert Bounds(2.1, 1.8).verdict(Estimate.of(rounds[:10])) == "undecided"
    assert Bounds(2.1, 1.8).verdict(Estimate.of(rounds)) == "**missed**"


@pytest.mark.parametrize("figure", [MORE_US, "cpu"])
def test_what_is_above_is_above_both_that_are_alike(figure: str) -> None:
    [goal] = [each for each in GOALS if each.like_against and each.figure == figure]
    plan = Plan((goal.against, goal.like_against, goal.system), (goal.scenario,), 1.0, 2, ("one",), 2)
    results = {
        goal.against: [result(100, 0.010), result(100, 0.030)],
        goal.like_against: [result(100, 0.020), result(100, 0.040)],
        goal.system: [result(100, 0.017), result(100, 0.037)],
    }
    found = goal.value({goal.section: Outcome(plan, {goal.scenario: results}, {})})
    assert found is not None
    expected = (20, 20, 20) if figure == MORE_US else (37 / 35, (17 / 15 + 37 / 35) / 2, 17 / 15)
    assert (found.low, found.middle, found.high) == pytest.approx(expected)


def test_what_a_gateway_adds_is_above_both_that_are_alike_as_a_share_of_the_round() -> None:
    [goal, *_] = [each for each in GOALS if each.like_above]
    plan = Plan((goal.against, goal.above, goal.like_above, goal.system), (goal.scenario,), 1.0, 2, ("one",), 2)
    results = {
        goal.against: [result(100, 0.010), result(100, 0.020)],  # a slow round: all of it takes twice as long
        goal.above: [result(100, 0.030), result(100, 0.060)],
        goal.like_above: [result(100, 0.034), result(100, 0.068)],
        goal.system: [result(100, 0.036), result(100, 0.072)],
    }
    found = goal.value({goal.section: Outcome(plan, {goal.scenario: results}, {})})
    assert isinstance(found, Estimate)
    assert (found.low, found.middle, found.high) == pytest.approx((0.4, 0.4, 0.4))


every_goal = pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.what)


@every_goal
def test_an_aim_is_harder_to_reach_than_a_must(goal: Goal) -> None:
    bounds = goal.bounds
    assert bounds.aim > bounds.must if bounds.at_least else bounds.aim < bounds.must


@every_goal
def test_a_figure_is_the_systems_own_relative_to_the_other_one(goal: Goal) -> None:
    [[*_, cheap, alone, _]] = measured(goal, result(100, 1.0), result(50, 0.25, 0.0005))
    assert alone == (cheap if goal.prototype else "")
    [[*_, dear, _, _]] = measured(goal, result(50, 0.25, 0.0005), result(100, 1.0))
    of_ratio = ("0.50 [0.50, 0.50]", "2.00 [2.00, 2.00]")
    of_difference = ("-5000.00 [-5000.00, -5000.00]", "5000.00 [5000.00, 5000.00]")  # 10 ms of CPU a call, and 5 ms
    of_share = ("-0.50 [-0.50, -0.50]", "1.00 [1.00, 1.00]")
    assert (cheap, dear) == (of_share if goal.above else of_difference if goal.figure == MORE_US else of_ratio)


@every_goal
def test_every_goal_is_measured_by_a_run_without_options(goal: Goal) -> None:
    defaults = {each.name: each.default for each in main.params}
    connections, content = (
        tuple(int(word) for word in str(defaults[name]).split(",")) for name in ("connections", "content")
    )
    plan = plans(Wishes(PLANNED, COMPARED, ("http2",), connections, content, 1.0, 1))[goal.section]
    assert goal.scenario in plan.scenarios
    assert goal.systems <= set(plan.systems) <= SYSTEMS.keys()
    alone = needed({goal.section: plan})[goal.section]
    assert goal.scenario in alone.scenarios
    assert goal.systems <= set(alone.systems)


def test_what_no_goal_is_about_is_not_needed() -> None:
    found = needed(plans(Wishes(PLANNED, COMPARED, ("http2",), (1, 16), (0, 65_536), 0.1, 40)))
    assert {name: plan.systems for name, plan in found.items()} == {
        "calls": ("router", "gateway", "floor"),
        "logged": ("router-logged", "gateway-logged", "floor-logged"),
        "events": ("router", "events", "stateless", "floor-events", "floor-stateless"),
        "large": ("router", "floor", "gateway"),
        "lists of 3": ("router", "gateway"),
        "policy": ("gateway", "again", "policy"),
        "authentication": ("gateway", "again", "token", "methods"),
        "telemetry": ("router", "quiet", "quiet-again", "metrics", "telling"),
    }
    assert found["calls"].scenarios == (Scenario(0, 1), Scenario(0, 16))
    assert found["authentication"].scenarios == (Scenario(0, 16),)
    assert found["policy"].rounds == 80, "as many as without --goals"


def test_what_was_not_measured_has_no_row() -> None:
    plan = Plan(("gateway",), (Scenario(0, 16),), 1.0, 1, ("one",), 2)
    assert rows({"calls": Outcome(plan, {Scenario(0, 16): {"gateway": [result(1, 1.0)]}}, {})}) == []


def test_starts_and_memory() -> None:
    starts = [Start(1, (1.0,), (2.4,), ({"a": 40.0, "b": 10.0},)), Start(2, (1.0,), (3.1,), ({"a": 96.0},))]
    assert rows({}, (), starts) == [
        ("start of `run` with 1 worker", "x imports", "≤ 3", "≤ 2", "2.40 [2.40, 2.40]", "", "must reached"),
        ("memory of `run` with 1 worker", "MB (PSS)", "≤ 70", "≤ 50", "50.00 [50.00, 50.00]", "", "aim reached"),
        ("start of `run` with 2 workers", "x imports", "≤ 3", "≤ 2", "3.10 [3.10, 3.10]", "", "**missed**"),
        ("memory of `run` with 2 workers", "MB (PSS)", "≤ 95", "≤ 65", "96.00 [96.00, 96.00]", "", "**missed**"),
    ]


def test_sessions_and_streams_are_those_of_envoy_and_the_worker_together() -> None:
    sizes = {"worker": 1_000_000, "envoy": 2_000_000}
    before = {"worker": 1_512_000, "envoy": 2_000_000}
    first = {"worker": 1_614_400, "envoy": 32_720_000}
    held = StreamOutcome(100, sizes, before, [Round(first, sizes)], 10.0, {"worker": 0.0}, 0)
    assert rows({}, [held]) == [
        ("an idle session", "KiB", "≤ 7", "≤ 3.5", "5.00 [5.00, 5.00]", "", "must reached"),
        ("its open stream", "KiB", "≤ 205", "≤ 102.5", "301.00 [301.00, 301.00]", "", "**missed**"),
    ]


def test_a_table() -> None:
    lines = table([("what", "x (c)", "≤ 2", "≤ 1", "3.00", "1.50", "**missed**")]).splitlines()
    assert lines == [
        f"| {' | '.join(HEADINGS)} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| what | x (c) | ≤ 2 | ≤ 1 | 3.00 | 1.50 | **missed** |",
    ]


def test_rows_of_an_older_table_keep_their_columns() -> None:
    """Though it has no column for the prototype yet."""
    kept, measured_again, gone = GOALS[0].what, GOALS[1].what, "what is no goal any more"
    old = table(
        [(name, "x (c)", "3.00", "**missed**", "a run") for name in (gone, measured_again, kept)],
        ("goal", "unit", "measured", "", "run"),
    )
    new = (measured_again, "x (c)", "≤ 2", "≤ 1", "1.00", "0.50", "aim reached")
    assert renewed(old, [new], "another").splitlines()[2:] == [
        f"| {kept} | x (c) |  |  | 3.00 |  | **missed** | a run |",
        f"| {measured_again} | x (c) | ≤ 2 | ≤ 1 | 1.00 | 0.50 | aim reached | another |",
    ]
