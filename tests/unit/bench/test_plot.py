"""The picture: well-formed, and its bars as long as the figures say."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.blocks import Block
from bench.goals import table
from bench.page import on, tables
from bench.plot import Bar, Panel, draw, panels
from bench.rounds import Outcome, Plan, Scenario
from bench.slices import Result
from bench.start import table as start_table

SVG = "{http://www.w3.org/2000/svg}"


def result(envoy: float, **workers: float) -> Result:
    return Result(
        calls=100, seconds=1.0, p50=1e-3, p99=1e-3, cpu={"upstream": 1, "envoy": envoy, **workers}, client_cpu=1
    )


def test_panels() -> None:
    plan = Plan(("router", "workers"), (Scenario(0, 1), Scenario(0, 16)), 1.0, 1, ("one",), 2)
    results = {"router": [result(0.01)], "workers": [result(0.01, **{"worker": 0.002, "worker 2": 0.003})]}
    both = panels(tables({"workers": Outcome(plan, dict.fromkeys(plan.scenarios, results), {})}))
    assert [panel.heading for panel in both] == [
        "tools/call, small, 1 connection",
        "tools/call, small, 16 connections",
    ]
    router, workers = both[0].bars
    assert (router.parts["envoy"], router.parts["worker"], router.ratio) == (100, 0, "1.00 [1.00, 1.00]")
    assert (workers.parts["envoy"], workers.parts["worker"], workers.ratio) == (100, 50, "1.50 [1.50, 1.50]")


def test_a_stdio_server_and_its_bridge_are_parts() -> None:
    plan = Plan(("direct", "stdio"), (Scenario(0, 1),), 1.0, 1, ("one",), 2)
    direct = Result(calls=100, seconds=1.0, p50=1e-3, p99=1e-3, cpu={"upstream": 0, "server": 0.01}, client_cpu=1)
    results = {"direct": [direct], "stdio": [result(0.01, worker=0.01, bridge=0.02, server=0.01)]}
    (panel,) = panels(tables({"stdio": Outcome(plan, {plan.scenarios[0]: results}, {})}))
    none = dict.fromkeys(("envoy", "worker", "collector", "supervisor", "bridge", "server"), 0)
    assert panel.bars[0].parts == none | {"server": 100}
    assert panel.bars[1].parts == none | {"envoy": 100, "worker": 100, "bridge": 200, "server": 100}
    assert panel.bars[0].ratio == ""


def test_what_a_page_has_besides_loads_is_no_panel() -> None:
    assert panels([Block("goals", table([])), Block("start", start_table([])), Block("runs: now", "**Run**")]) == []


def test_every_process_of_a_large_slice_has_its_part() -> None:
    """Thousands of microseconds have a comma, and `run` has a collector."""
    plan = Plan(("telling",), (Scenario(0, 16),), 1.0, 1, ("one",), 2)
    results = {"telling": [result(0.25, worker=0.15, collector=0.01, supervisor=0.001)]}
    [panel] = panels(tables({"telemetry": Outcome(plan, {plan.scenarios[0]: results}, {})}))
    [bar] = panel.bars
    assert bar.name == "(d) metrics, traces of all, the audit"
    expected = {"envoy": 2500, "worker": 1500, "collector": 100, "supervisor": 10, "bridge": 0, "server": 0}
    assert bar.parts == expected


def test_the_documentation_s_chart_is_that_of_its_tables() -> None:
    docs = Path(__file__).parents[3] / "docs"
    page, chart = (docs / "performance.md").read_text(), (docs / "performance.svg").read_text()
    assert chart == draw(panels(on(page))), (
        "make it with: python -m bench.plot docs/performance.md docs/performance.svg"
    )


def test_bars_are_in_proportion() -> None:
    slow = Bar("slow", {"envoy": 100, "worker": 300}, ratio="4.00 [3.90, 4.20]")
    fast = Bar("a < b", {"envoy": 50, "worker": 0}, ratio="")
    root = ET.fromstring(draw([Panel("one", [slow, fast]), Panel("two", [fast])]))
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")][7:]  # after the background and the legend
    longest = widths[0] + widths[1]
    assert widths == pytest.approx([longest / 4, longest * 3 / 4, longest / 8, longest])
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a < b" in texts
    assert "400 \u00b5s, 4.00 [3.90, 4.20] x (c)" in texts
    assert "50 \u00b5s" in texts


def test_nothing_leaves_the_picture() -> None:
    root = ET.fromstring(draw([Panel("one", [Bar("b", {"envoy": 1, "worker": 2}, ratio="")] * 5)] * 3))
    for element in root:
        if "y" in element.attrib:
            assert 0 < float(element.attrib["y"]) < float(root.attrib["height"])
