"""The order of the slices."""

from __future__ import annotations

from collections import Counter

from bench.rounds import Plan, Scenario, turns

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


def test_who_goes_first_changes() -> None:
    first = [
        [system for at, scenario, system in turns(PLAN) if at == round_ and scenario.connections == 1]
        for round_ in range(4)
    ]
    assert first == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_calls_that_are_long_are_warmed_up_with_few() -> None:
    assert Scenario(0, 1).warm_up > Scenario(1_048_576, 1).warm_up > 0
    assert Scenario(0, 1).warm_up > Scenario(0, 1, "list").warm_up > 0
