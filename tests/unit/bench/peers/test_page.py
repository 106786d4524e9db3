"""The tables of the documentation, and which peers they name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.peers.page import BEGIN, END, place, written
from bench.peers.records import NATIVE, OURS, PEER, Record, Row
from bench.stats import Quartiles

PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"

ABOUT = {
    "commit": "abc+", "envoy": "Envoy 1", "python": "3", "cpu": "a CPU", "cores": 2, "rounds": 7, "seconds": 0.5, "load": 0.1,
    "load_at_end": 2.5, "stolen": 0.0123,
}  # fmt: skip


def exactly(value: float) -> Quartiles:
    return Quartiles(value, value, value)


def row(ratio: float, calls: float) -> Row:
    return Row(
        exactly(100 * ratio), exactly(1000 * calls), exactly(ratio), exactly(ratio), exactly(calls), exactly(ratio)
    )


LOADS = {
    "calls, 16 connections": {NATIVE: row(1, 1), OURS: row(2, 0.5), PEER: row(3.123, 0.001234)},
    "calls, 1 connection": {NATIVE: row(1, 1), OURS: row(2, 0.5), PEER: row(1.5, 0.75)},
}

MEASURED = Record(
    "one", "Gateway One", "1.2", "2026-01-02", "In Go.", "2026-03-04", about=ABOUT, loads=LOADS,
    memory={NATIVE: 10.4, OURS: 70.6, PEER: 50},
)  # fmt: skip
FAILED = Record("two", "Gateway Two", "2", "2026-01-02", "In Rust.", "2026-03-04", failure="no cargo\nend of a log")


def test_what_is_around_the_figures_stays() -> None:
    page = written(PAGE, [MEASURED])
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "old" not in page
    assert written(page, [MEASURED]) == page


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(BenchError, match="has no place for figures of other gateways"):
        place(f"{END}{BEGIN}")


def test_the_overview_shows_where_this_gateway_loses() -> None:
    page = written(PAGE, [MEASURED])
    assert (
        "| gateway | calls, 16 connections: CPU | calls, 16 connections: calls/s | calls, 1 connection: CPU | "
        "calls, 1 connection: p50 | MB |" in page
    )
    assert "| Gateway One 1.2 | 3.12 (2.00) | 0.0012 (0.50) | **1.50** (2.00) | **1.50** (2.00) | **50** (71) |" in page


def test_every_system_has_a_row_under_every_load() -> None:
    page = written(PAGE, [MEASURED])
    assert "| calls, 16 connections | (c) Envoy's mcp + mcp_router | 100 ±0% | 1.00 [1.00, 1.00] |" in page
    assert "|  | (d) this gateway | 200 ±0% | 2.00 [2.00, 2.00] | 500 ±0% | 0.50 [0.50, 0.50] |" in page
    assert "|  | Gateway One 1.2 | 312 ±0% | 3.12 [3.12, 3.12] | 1 ±0% | 0.0012 [0.0012, 0.0012] |" in page
    assert "**Gateway One 1.2**, released 2026-01-02. In Go." in page
    assert "(c) Envoy's mcp + mcp_router 10, (d) this gateway 71, Gateway One 1.2 50. Measured 2026-03-04." in page
    assert "Commit abc+; Envoy 1, CPython 3, a CPU, 2 cores; 7 rounds of 0.5 s. Load 0.1 before and 2.5" in page


def test_a_wide_spread_is_marked() -> None:
    assert "Wide spread" not in written(PAGE, [MEASURED])
    wide = replace(row(1.5, 0.5), p50=Quartiles(1.0, 1.5, 1.9))
    page = written(
        PAGE, [replace(MEASURED, loads={"calls, 1 connection": {**LOADS["calls, 1 connection"], PEER: wide}})]
    )
    assert "**Wide spread**: good for orders of magnitude only. Memory afterwards" in page


def test_one_that_was_not_measured_is_named_with_the_reason() -> None:
    assert "- Gateway Two 2: not measured: no cargo\n" in written(PAGE, [MEASURED, FAILED])
    page = written(PAGE, [FAILED, replace(FAILED, title="Gateway Three", failure="not tried yet")])
    assert "- Gateway Two 2: not measured: no cargo\n- Gateway Three 2: not measured: not tried yet\n" in page
    assert "| gateway |" not in page
