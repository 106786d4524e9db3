"""From memory and time to figures for each way of sharing."""

from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from bench.crowds import Crowd, CrowdOutcome, Memory, Round, Sizes
from bench.report import crowd_rows, crowds_as_json, print_crowds
from bench.slices import Result
from bench.stats import Quartiles


def sizes(bridge: int, children: int, count: int) -> Sizes:
    return Sizes(Memory(bridge, bridge // 2), Memory(children, children // 4), count)


BEFORE = sizes(40_000_000, 20_000_000, 1)


def round_(seconds: float, calls: int, bridge: int) -> Round:
    result = Result(calls=calls, seconds=2.0, p50=0.004, p99=0.008, cpu={}, client_cpu=0.0)
    return Round(BEFORE, seconds, sizes(bridge, 1_010_000_000, 101), result)


SESSION = Crowd([round_(3.0, 2000, 45_120_000), round_(5.0, 4000, 46_144_000), round_(4.0, 3000, 47_168_000)])
OUTCOME = CrowdOutcome(100, {"session": SESSION})


def test_figures() -> None:
    assert SESSION.over_rounds(lambda each: each.seconds) == Quartiles(3, 4, 5)
    assert SESSION.rounds[0].growth(100) == pytest.approx(51_200)


def test_the_json_has_figures_and_rounds() -> None:
    found = orjson.loads(orjson.dumps(crowds_as_json(OUTCOME)))
    assert found["rows"][0]["calls/s"] == "1,500 ±33%"
    rounds = found["crowds"]["session"]["rounds"]
    assert [each["calls"]["calls"] for each in rounds] == [2000, 4000, 3000]
    assert rounds[0]["before"]["bridge"] == {"resident": 40_000_000, "proportional": 20_000_000}


def test_the_report_has_all_of_them() -> None:
    expected = (
        "session", "4.00 ±25%", "1,500 ±33%", "4.0 ±0%", "101 [101, 101]", "40.0 ±0%", "20.0 ±0%", "46.1 ±2%",
        "60 [50, 70]", "10.0 ±0%", "2.5 ±0%", "252.5 ±0%",
    )  # fmt: skip
    assert crowd_rows(OUTCOME) == [expected]
    written = io.StringIO()
    print_crowds(Console(file=written, width=200), OUTCOME)
    row = next(line for line in written.getvalue().splitlines() if "252.5" in line)
    assert tuple(cell.strip() for cell in row.split("\u2502")[1:-1]) == expected
