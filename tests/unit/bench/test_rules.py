"""What rules cost is measured where they are at work."""

from __future__ import annotations

from bench import goals, rules
from bench.rules import RulesCost


def test_all_of_it_is_measured_and_printed() -> None:
    cost = rules.measure(1)
    assert [len(each) for each in (cost.calls, cost.condition, cost.lists, cost.first_lists)] == [1, 1, 1, 1]
    assert rules.table(cost).count("\n| a ") + rules.table(cost).count("\n| the same") == 4
    assert len(goals.rows({}, ruled=cost)) == 2


def test_what_misses_its_goal_is_said() -> None:
    calls, lists = goals.rows({}, ruled=RulesCost([2.5] * 3, [90.0], [1.05] * 3, [5.0]))
    assert ("missed" in calls[-1], "reached" in lists[-1]) == (True, True)
