"""From results to figures."""

from __future__ import annotations

import pytest

from bench.report import figures
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
    assert rows["plain"].ratios["plain"].cpu == 1.0
    assert "router" not in gateway.ratios
