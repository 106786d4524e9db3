"""The order of the slices."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from bench.errors import BenchError
from bench.rounds import Outcome, Plan, Scenario, check_reached, joined, turns
from bench.slices import Kind, Result
from bench.systems import SYSTEMS

PLAN = Plan(
    systems=("a", "b", "c"),
    scenarios=(Scenario(0, 1), Scenario(0, 16)),
    seconds=1,
    rounds=4,
    servers=("one",),
    tools=2,
)


def test_every_system_has_its_slice_in_every_round() -> None:
    assert PLAN.slices == 24
    assert Counter(turns(PLAN)) == Counter(
        (round_, scenario, system) for round_ in range(4) for scenario in PLAN.scenarios for system in PLAN.systems
    )


def test_no_system_mostly_follows_the_same_other_one() -> None:
    plan = replace(PLAN, systems=("a", "b", "c", "d"), rounds=60)
    order = [
        [system for at, where, system in turns(plan) if (at, where) == (round_, scenario)]
        for round_ in range(plan.rounds)
        for scenario in plan.scenarios
    ]
    pairs = Counter(pair for systems in order for pair in pairwise(systems))
    followed = {system: sum(count for (_, after), count in pairs.items() if after == system) for system in plan.systems}
    assert len(pairs) == 4 * 3
    assert all(count < followed[after] / 2 for (_, after), count in pairs.items())
    assert all(count < len(order) / 2 for count in Counter(systems[0] for systems in order).values())


def test_the_order_is_the_same_in_every_run() -> None:
    assert [*turns(PLAN)] == [*turns(PLAN)]


def test_a_plan_in_parts_is_the_same_together() -> None:
    parts = replace(PLAN, rounds=5).parts(3)
    assert [part.rounds for part in parts] == [1, 2, 2]
    assert [turn for part in parts for turn in turns(part)] == [*turns(replace(PLAN, rounds=5))]
    assert PLAN.parts(1) == [PLAN]
    assert [part.rounds for part in PLAN.parts(9)] == [1, 1, 1, 1]


def test_outcomes_of_parts_are_joined_in_their_order() -> None:
    outcomes = [
        Outcome(
            part,
            {scenario: {system: [result(part.before)] for system in PLAN.systems} for scenario in PLAN.scenarios},
            {},
        )
        for part in PLAN.parts(4)
    ]
    whole = joined(PLAN, outcomes)
    for scenario in PLAN.scenarios:
        for system in PLAN.systems:
            assert [each.calls for each in whole.results[scenario][system]] == [0, 1, 2, 3]


def result(calls: int) -> Result:
    return Result(calls=calls, seconds=1.0, p50=0.001, p99=None, cpu={}, client_cpu=0.0)


def test_calls_that_are_long_are_warmed_up_with_few() -> None:
    assert Scenario(0, 1).warm_up > Scenario(1_048_576, 1).warm_up > 0
    assert Scenario(0, 1).warm_up > Scenario(0, 1, "list").warm_up > 0
    assert Scenario(0, 1).warm_up > Scenario(0, 1, slow=True).warm_up > 0


@pytest.mark.parametrize(
    ("system", "kind", "method", "needed"),
    [
        ("gateway", "echo", "tools/call", 10),
        ("gateway", "list", "tools/list", 30),
        ("plain", "list", "tools/list", 10),
        ("events", "events", "tools/call", 10),
    ],
)
def test_what_did_not_reach_the_servers_ends_the_run(system: str, kind: Kind, method: str, needed: int) -> None:
    scenario = Scenario(0, 1, kind)
    check_reached(SYSTEMS[system], scenario, 10, {method: needed, "ping": 0}, 3)
    with pytest.raises(BenchError, match=f"10 requests, but the servers got {needed - 1} {method} instead of {needed}"):
        check_reached(SYSTEMS[system], scenario, 10, {method: needed - 1, "ping": 100}, 3)


def test_a_system_that_remembers_lists_need_not_ask() -> None:
    system = replace(SYSTEMS["gateway"], remembers_lists=True)
    check_reached(system, Scenario(0, 1, "list"), 10, {}, 3)
    with pytest.raises(BenchError, match="10 requests, but the servers got 0 tools/call instead of 10"):
        check_reached(system, Scenario(0, 1), 10, {}, 3)
