"""From memory and time to figures for each way of sharing."""

from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from bench.crowds import Crowd, CrowdOutcome, Memory, Round, Sizes
from bench.report import crowd_rows, crowds_as_json, print_crowds
from bench.slices import Result


def sizes(bridge: int, children: int, count: int) -> Sizes:
    return Sizes(Memory(bridge, bridge // 2), Memory(children, children // 4), count)


def round_(seconds: float, calls: int, at: Sizes) -> Round:
    result = Result(calls=calls, seconds=2.0, p50=0.004, p99=0.008, cpu={}, client_cpu=0.0)
    return Round(seconds, at, result)


SESSION = Crowd(
    before=sizes(40_000_000, 20_000_000, 1),
    rounds=[
        round_(3.0, 2000, sizes(45_120_000, 1_010_000_000, 101)),
        round_(5.0, 4000, sizes(46_000_000, 1_010_000_000, 101)),
        round_(4.0, 3000, sizes(47_000_000, 1_010_000_000, 101)),
    ],
)
OUTCOME = CrowdOutcome(100, {"session": SESSION})


def test_figures() -> None:
    """Times are medians; memory is of the first round, as later ones use it again."""
    assert SESSION.seconds == 4.0
    assert SESSION.calls_per_second == 1500
    assert SESSION.p50 == 0.004
    assert SESSION.growth(100) == pytest.approx(51_200)
    assert SESSION.child == Memory(10_000_000, 2_500_000)


def test_the_json_has_figures_and_rounds() -> None:
    found = orjson.loads(orjson.dumps(crowds_as_json(OUTCOME)))
    assert found["rows"][0]["calls/s"] == "1,500"
    assert [each["calls"]["calls"] for each in found["crowds"]["session"]["rounds"]] == [2000, 4000, 3000]
    assert found["crowds"]["session"]["before"]["bridge"] == {"resident": 40_000_000, "proportional": 20_000_000}


def test_the_report_has_all_of_them() -> None:
    expected = ("session", "4.00", "1,500", "4.0", "101", "40.0", "20.0", "45.1", "50", "10.0", "2.5", "252.5")
    assert crowd_rows(OUTCOME) == [expected]
    written = io.StringIO()
    print_crowds(Console(file=written, width=140), OUTCOME)
    row = next(line for line in written.getvalue().splitlines() if "252.5" in line)
    assert tuple(cell.strip() for cell in row.split("\u2502")[1:-1]) == expected
