"""Where the CPU of a call goes."""

from __future__ import annotations

import orjson
import pytest

from bench.__main__ import as_text
from bench.steps import Steps
from bench.where import HEADINGS, Costs, table

STEPS = Steps(bytes=120, has_response=True, reading=1e-6, deciding=2e-6, answering=3e-6, relaying=4e-6)
COSTS = Costs(plain=60, router=100, floor_envoy=160, floor_worker=40, envoy=200, worker=140, steps=STEPS)


def test_the_parts_are_all_there_is() -> None:
    rows = dict(COSTS.rows())
    parts = list(rows.values())[:-3]
    assert sum(parts) == pytest.approx(rows["**all**"])
    assert rows["**all**"] == 340
    assert rows["of it the prototype"] == 200


def test_what_the_worker_adds_is_divided_as_its_steps_are() -> None:
    rows = dict(COSTS.rows())
    shares = [rows[f"worker, {name}"] for name in STEPS.parts()]
    assert shares == pytest.approx([10, 20, 30, 40])


def test_a_column_for_each_kind_of_call() -> None:
    heading, _, first, *_ = table([COSTS] * 3).splitlines()
    assert heading == f"| {' | '.join(HEADINGS)} |"
    assert first == "| Envoy, forwarding | 60 | 60 | 60 |"


def test_all_of_it_is_in_the_file_of_figures() -> None:
    [found] = orjson.loads(as_text({"where": [COSTS]}))["where"]
    assert found["worker"] == 140
    assert found["steps"]["relaying"] == 4e-6
