"""What is kept of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.kuadrant import Kuadrant
from bench.peers.measure import empty, plan
from bench.peers.records import NATIVE, OURS, PEER, megabytes, read, rows, write
from bench.rounds import Memory, Outcome
from bench.slices import Result


def result(calls: int, **cpu: float) -> Result:
    return Result(calls=calls, seconds=1.0, p50=1 / calls, p99=None, cpu={"upstream": 9.0, **cpu}, client_cpu=1.0)


def outcome() -> Outcome:
    planned = plan(1, 0.3)
    results = {
        NATIVE: [result(1000, envoy=0.1)],
        OURS: [result(500, envoy=0.05, worker=0.05)],
        PEER: [result(250, envoy=0.02, gateway=0.08)],
    }
    memory = {PEER: {"envoy": Memory(1_000_000, 20_000_000), "gateway": Memory(1_000_000, 30_000_000)}}
    return Outcome(planned, dict.fromkeys(planned.scenarios, results), memory)


def test_all_processes_of_a_system_count() -> None:
    found = rows(outcome(), plan(1, 0.3).scenarios[0])
    assert [found[system].cpu_us.median for system in (NATIVE, OURS, PEER)] == pytest.approx([100, 200, 400])
    assert [found[system].cpu.median for system in (NATIVE, OURS, PEER)] == pytest.approx([1, 2, 4])
    assert [found[system].calls.median for system in (NATIVE, OURS, PEER)] == pytest.approx([1, 0.5, 0.25])
    assert megabytes(outcome()) == {PEER: 50.0}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    peer = Kuadrant()
    assert read(peer.name, tmp_path) is None
    failed = empty(peer, "no go")
    write(failed, tmp_path / "results")
    assert read(peer.name, tmp_path / "results") == failed
    measured = rows(outcome(), plan(1, 0.3).scenarios[0])
    record = empty(peer)
    record = type(record)(**{name: getattr(record, name) for name in record.__slots__} | {"loads": {"calls": measured}})
    write(record, tmp_path / "results")
    assert read(peer.name, tmp_path / "results") == record


def test_a_record_of_another_format_is_none(tmp_path: Path) -> None:
    (tmp_path / "kuadrant.json").write_text('{"name": 1}')
    assert read("kuadrant", tmp_path) is None
