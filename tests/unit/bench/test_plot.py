"""The picture: well-formed, and its bars as long as the figures say."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench.plot import Bar, Panel, draw, panels
from bench.rounds import Outcome, Plan, Scenario
from bench.slices import Result
from bench.stats import Quartiles

SVG = "{http://www.w3.org/2000/svg}"


def result(envoy: float, **workers: float) -> Result:
    return Result(
        calls=100, seconds=1.0, p50=1e-3, p99=1e-3, cpu={"upstream": 1, "envoy": envoy, **workers}, client_cpu=1
    )


def test_panels() -> None:
    plan = Plan(("router", "workers"), (Scenario(0, 1), Scenario(0, 16)), 1.0, 1, ("one",), 2)
    results = {"router": [result(0.01)], "workers": [result(0.01, **{"worker": 0.002, "worker 2": 0.003})]}
    both = panels(Outcome(plan, dict.fromkeys(plan.scenarios, results), {}))
    assert [panel.heading for panel in both] == [
        "tools/call, small, 1 connection",
        "tools/call, small, 16 connections",
    ]
    router, workers = both[0].bars
    assert router.ratio is not None
    assert workers.ratio is not None
    assert (router.parts["envoy"], router.parts["worker"], router.ratio.median) == pytest.approx((100, 0, 1))
    assert (workers.parts["envoy"], workers.parts["worker"], workers.ratio.median) == pytest.approx((100, 50, 1.5))


def test_a_stdio_server_and_its_bridge_are_parts() -> None:
    plan = Plan(("direct", "stdio"), (Scenario(0, 1),), 1.0, 1, ("one",), 2)
    direct = Result(calls=100, seconds=1.0, p50=1e-3, p99=1e-3, cpu={"upstream": 0, "server": 0.01}, client_cpu=1)
    results = {"direct": [direct], "stdio": [result(0.01, worker=0.01, bridge=0.02, server=0.01)]}
    (panel,) = panels(Outcome(plan, {plan.scenarios[0]: results}, {}))
    assert panel.bars[0].parts == pytest.approx({"envoy": 0, "worker": 0, "supervisor": 0, "bridge": 0, "server": 100})
    assert panel.bars[1].parts == pytest.approx(
        {"envoy": 100, "worker": 100, "supervisor": 0, "bridge": 200, "server": 100}
    )
    assert panel.bars[0].ratio is None


def test_bars_are_in_proportion() -> None:
    slow = Bar("slow", {"envoy": 100, "worker": 300}, ratio=Quartiles(3.9, 4, 4.2))
    fast = Bar("a < b", {"envoy": 50, "worker": 0}, ratio=None)
    root = ET.fromstring(draw([Panel("one", [slow, fast]), Panel("two", [fast])]))
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")][6:]  # after the background and the legend
    longest = widths[0] + widths[1]
    assert widths == pytest.approx([longest / 4, longest * 3 / 4, longest / 8, longest])
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a < b" in texts
    assert "400 \u00b5s, 4.00 [3.90, 4.20] x (c)" in texts
    assert "50 \u00b5s" in texts


def test_nothing_leaves_the_picture() -> None:
    root = ET.fromstring(draw([Panel("one", [Bar("b", {"envoy": 1, "worker": 2}, ratio=None)] * 5)] * 3))
    for element in root:
        if "y" in element.attrib:
            assert 0 < float(element.attrib["y"]) < float(root.attrib["height"])
