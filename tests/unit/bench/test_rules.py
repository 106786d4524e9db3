"""What rules cost is measured where they are at work."""

from __future__ import annotations

from bench import goals, rules
from bench.rules import RulesCost


def test_all_of_it_is_measured_and_printed() -> None:
    cost = rules.measure(1)
    measured = (cost.calls, cost.condition, cost.lists, cost.first_lists, cost.calls_again, cost.lists_again)
    assert [len(each) for each in measured] == [1] * 6
    assert rules.table(cost).count("\n| a ") + rules.table(cost).count("\n| the same") == 6
    assert len(goals.rows({}, ruled=cost)) == 2


def test_what_misses_its_goal_is_said() -> None:
    calls, lists = goals.rows({}, ruled=RulesCost([2.5] * 3, [90.0], [1.05] * 3, [5.0], [0.1], [1.0]))
    assert ("missed" in calls[-1], "reached" in lists[-1]) == (True, True)
