"""What else the machine did."""

from __future__ import annotations

import pytest

from bench.machine import Ticks, Watch

STAT = "cpu  100 10 50 800 20 5 15 {} 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n"


def test_stolen_time_is_a_share_of_all() -> None:
    before, after = Ticks.parse(STAT.format(0)), Ticks.parse(STAT.format(250))
    assert before == (1000, 0)
    assert after.stolen_since(before) == pytest.approx(1.0)
    assert Ticks(2000, 10).stolen_since(before) == pytest.approx(0.01)
    assert before.stolen_since(before) == 0


def test_a_run_knows_its_machine_at_both_ends() -> None:
    about = Watch().about()
    assert {"cpu", "cores", "load", "load_at_end", "stolen"} == about.keys()
    assert 0 <= about["stolen"] <= 1
