"""From results to figures."""

from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from bench.report import as_json, caption, figures, memory_rows, print_report, title
from bench.rounds import Memory, Outcome, Plan, Scenario
from bench.slices import Result
from bench.stats import Quartiles


def result(calls: int, envoy: float, worker: float | None = None) -> Result:
    cpu = {"upstream": 0.5, "envoy": envoy} | ({} if worker is None else {"worker": worker})
    return Result(calls=calls, seconds=2.0, p50=0.001, p99=0.002, cpu=cpu, client_cpu=0.25)


def test_figures() -> None:
    rows = figures(
        {
            "plain": [result(1000, 0.1), result(500, 0.1)],
            "gateway": [result(100, 0.01, 0.03), result(50, 0.01, 0.03)],
        }
    )
    gateway = rows["gateway"]
    assert gateway.calls_per_second == Quartiles(25, 37.5, 50)
    assert gateway.p50_ms == Quartiles(1, 1, 1)
    assert gateway.p99_ms == Quartiles(2, 2, 2)
    assert {name: cpu.median for name, cpu in gateway.cpu_us.items()} == pytest.approx({"envoy": 150, "worker": 450})
    assert gateway.cpu_us["worker"].spread == pytest.approx(1 / 3)
    assert gateway.client_cpu_us.median == pytest.approx(3750.0)
    assert gateway.upstream_cpu_us.median == pytest.approx(7500.0)
    # Both rounds: a tenth of the calls; 400 against 100 µs of CPU, then 800 against 200. The upstream's is in neither.
    assert gateway.ratios["plain"].calls.median == pytest.approx(0.1)
    assert gateway.ratios["plain"].cpu.median == pytest.approx(4.0)
    assert gateway.ratios["plain"].cpu.spread == pytest.approx(0.0)
    # The worker alone: 300 against 100 µs, then 600 against 200. All latencies are the same.
    assert gateway.ratios["plain"].workers.median == pytest.approx(3.0)
    assert gateway.ratios["plain"].p50.median == pytest.approx(1.0)
    assert rows["plain"].ratios["plain"].cpu.median == 1.0
    assert rows["plain"].ratios["plain"].workers.median == 0
    assert "router" not in gateway.ratios


def test_several_workers_count_together() -> None:
    one = result(100, 0.01, 0.02)
    two = Result(calls=100, seconds=2.0, p50=0.002, p99=0.002, cpu=one.cpu | {"worker 2": 0.01}, client_cpu=0.25)
    compared = figures({"gateway": [one], "workers": [two]}, ["gateway"])["workers"].ratios["gateway"]
    assert compared.workers.median == pytest.approx(1.0)  # 300 µs, to 300 µs of the other's Envoy and worker together
    assert compared.cpu.median == pytest.approx(4 / 3)
    assert compared.p50.median == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (Scenario(0, 1), "tools/call, small, 1 connection"),
        (Scenario(65_536, 16), "tools/call, 65,536 characters of arguments, 16 connections"),
        (Scenario(0, 1, result=65_536), "tools/call, 65,536 characters of result, 1 connection"),
        (Scenario(0, 16, "event"), "tools/call, answered by one event, 16 connections"),
        (Scenario(0, 16, "events"), "tools/call, answered by 100 events, 16 connections"),
        (Scenario(0, 1, "list"), "tools/list over 2 servers with 50 tools each, 1 connection"),
    ],
)
def test_title(scenario: Scenario, words: str) -> None:
    plan = Plan(("router",), (scenario,), 1.0, 1, ("one", "two"), 50)
    assert title(plan, scenario) == words


def test_a_plan_with_a_subject_says_so() -> None:
    plan = Plan(("stdio",), (Scenario(0, 1),), 1.0, 1, ("one",), 2, subject=" of one server")
    assert title(plan, plan.scenarios[0]) == "tools/call of one server, small, 1 connection"


def test_the_table_has_what_matters() -> None:
    plan = Plan(("router", "gateway"), (Scenario(0, 1),), 1.0, 1, ("one",), 2)
    results = {"router": [result(1000, 0.1)], "gateway": [result(500, 0.05, 0.04)]}
    written = io.StringIO()
    print_report(Console(file=written, width=140), Outcome(plan, {plan.scenarios[0]: results}, {}))
    lines = written.getvalue().splitlines()
    row = next(number for number, line in enumerate(lines) if "this gateway" in line)
    cells, under = ([cell.strip() for cell in line.split("\u2502")[2:-1]] for line in lines[row : row + 2])
    # calls/s and its ratio, p50 and its ratio, p99, CPU of Envoy and worker, ratios of both together and of the worker.
    assert cells == ["250", "0.50", "1.00", "1.00", "2.00", "100", "80", "1.80", "0.80"]
    # Under each, its spread.
    steady = "±0%"
    assert under == [
        steady, "[0.50, 0.50]", steady, "[1.00, 1.00]", steady, steady, steady, "[1.80, 1.80]", "[0.80, 0.80]",
    ]  # fmt: skip


def test_the_json_has_figures_with_their_quartiles() -> None:
    plan = Plan(("router",), (Scenario(0, 1),), 1.0, 1, ("one",), 2)
    outcome = Outcome(plan, {plan.scenarios[0]: {"router": [result(1000, 0.1), result(500, 0.1)]}}, {})
    found = orjson.loads(orjson.dumps(as_json(outcome)))["scenarios"][0]
    assert found["systems"]["router"]["calls_per_second"] == {"q1": 250.0, "median": 375.0, "q3": 500.0}
    assert found["systems"]["router"]["ratios"]["router"]["cpu"] == {"q1": 1.0, "median": 1.0, "q3": 1.0}
    assert [each["calls"] for each in found["rounds"]["router"]] == [1000, 500]


def test_memory_says_over_how_many_requests_it_grew() -> None:
    plan = Plan(("router",), (Scenario(0, 16),), 1.0, 1, ("one",), 2)
    slices = [result(1000, 0.1), result(500, 0.1)]
    memory = {"router": {"envoy": Memory(25_000_000, 26_000_000)}}
    row = ("(c) Envoy's mcp + mcp_router", "envoy", "25", "26", "1,820")  # with 2 x 16 connections x 10 of the warm-up
    assert memory_rows(Outcome(plan, {plan.scenarios[0]: {"router": slices}}, memory)) == [row]


def test_a_ratio_has_its_quartiles() -> None:
    base = [result(1000, 0.1)] * 4
    own = [result(calls, 0.1) for calls in (800, 900, 1000, 1100)]
    compared = figures({"router": base, "gateway": own})["gateway"].ratios["router"]
    calls = compared.calls
    assert (calls.q1, calls.median, calls.q3) == pytest.approx((0.8, 0.95, 1.0))
    assert compared.p50 == Quartiles(1, 1, 1)


def test_a_p99_is_of_enough_calls_in_every_slice() -> None:
    few = Result(calls=999, seconds=2.0, p50=0.001, p99=None, cpu={"upstream": 0.5, "envoy": 0.1}, client_cpu=0.25)
    assert figures({"router": [result(1000, 0.1), few]})["router"].p99_ms is None
    assert figures({"router": [result(1000, 0.1)]})["router"].p99_ms == Quartiles(2, 2, 2)


def test_what_is_in_no_figure_and_how_far_to_trust_them() -> None:
    steady = {"router": [result(1000, 0.1)] * 4, "gateway": [result(500, 0.1)] * 4}
    assert caption(figures(steady)) == (
        "Half of all rounds lie within ±0% of a ratio. At least 500 calls a slice. "
        "In no figure, by system: 250 to 500 µs of CPU per call of the client, and 500 to 1,000 µs of the upstream."
    )
    shaken = steady | {"gateway": [result(calls, 0.1) for calls in (200, 400, 600, 800)]}
    assert caption(figures(shaken)).startswith("**Wide spread**: good for orders of magnitude only. Half of ")
    assert caption(figures({"gateway": steady["gateway"]})).startswith("At least 500 calls")
