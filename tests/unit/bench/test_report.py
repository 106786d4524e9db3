"""From results to figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.report import figures, print_report, title
from bench.rounds import Outcome, Plan, Scenario
from bench.slices import Result


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
    assert gateway.calls_per_second == pytest.approx(37.5)
    assert (gateway.p50_ms, gateway.p99_ms) == pytest.approx((1.0, 2.0))
    assert gateway.cpu_us == pytest.approx({"envoy": 150.0, "worker": 450.0})
    assert gateway.client_cpu_us == pytest.approx(3750.0)
    assert gateway.upstream_cpu_us == pytest.approx(7500.0)
    # Both rounds: a tenth of the calls; 400 against 100 µs of CPU, then 800 against 200. The upstream's is in neither.
    assert gateway.ratios["plain"].calls == pytest.approx(0.1)
    assert gateway.ratios["plain"].cpu == pytest.approx(4.0)
    assert gateway.ratios["plain"].cpu_spread == pytest.approx(0.0)
    # The worker alone: 300 against 100 µs, then 600 against 200. All latencies are the same.
    assert gateway.ratios["plain"].workers == pytest.approx(3.0)
    assert gateway.ratios["plain"].p50 == pytest.approx(1.0)
    assert rows["plain"].ratios["plain"].cpu == 1.0
    assert rows["plain"].ratios["plain"].workers == 0
    assert "router" not in gateway.ratios


def test_several_workers_count_together() -> None:
    one = result(100, 0.01, 0.02)
    two = Result(calls=100, seconds=2.0, p50=0.002, p99=0.002, cpu=one.cpu | {"worker 2": 0.01}, client_cpu=0.25)
    compared = figures({"gateway": [one], "workers": [two]}, ["gateway"])["workers"].ratios["gateway"]
    assert compared.workers == pytest.approx(1.0)  # 300 µs, to 300 µs of the other's Envoy and worker together
    assert compared.cpu == pytest.approx(4 / 3)
    assert compared.p50 == pytest.approx(2.0)


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
    row = next(line for line in written.getvalue().splitlines() if "this gateway" in line)
    cells = [cell.strip() for cell in row.split("\u2502")[2:-1]]
    # calls/s and its ratio, p50 and its ratio, p99, CPU of Envoy and worker, ratios of both together and of the worker.
    assert cells == ["250", "0.50", "1.00", "1.00", "2.00", "100", "80", "1.80", "0.80"]
