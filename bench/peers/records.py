"""What was measured of each peer, or why nothing was: kept in the cache, so that peers can be measured one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.report import UNCOUNTED, figures
from bench.rounds import Outcome, Scenario
from bench.slices import Result
from bench.stats import Quartiles

NATIVE, OURS, PEER = "router", "gateway", "peer"
"""The systems of each run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system under one load."""

    cpu_us: Quartiles
    """CPU per request of all its processes, in microseconds."""
    calls_per_second: Quartiles
    p50_ms: Quartiles
    cpu: Quartiles
    """This and the following are ratios to `NATIVE` within a round."""
    calls: Quartiles
    p50: Quartiles


@dataclass(frozen=True, slots=True)
class Record:
    """Of one peer."""

    name: str
    title: str
    version: str
    released: str
    remark: str
    day: str
    """Of the measurement, or of its failure."""
    failure: str = ""
    """Why nothing was measured."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """The machine and this gateway's code."""
    loads: Mapping[str, Mapping[str, Row]] = field(default_factory=dict)
    """By load and system."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """MB of all processes of each system after the loads (PSS)."""


def rows(outcome: Outcome, load: Scenario) -> dict[str, Row]:
    """By system."""
    results = outcome.results[load]
    return {
        system: Row(
            cpu_us=Quartiles.of(_cost(each) * 1e6 for each in results[system]),
            calls_per_second=row.calls_per_second,
            p50_ms=row.p50_ms,
            cpu=row.ratios[NATIVE].cpu,
            calls=row.ratios[NATIVE].calls,
            p50=row.ratios[NATIVE].p50,
        )
        for system, row in figures(results, (NATIVE,)).items()
    }


def _cost(result: Result) -> float:
    return sum(seconds for name, seconds in result.cpu.items() if name != UNCOUNTED) / result.calls


def megabytes(outcome: Outcome) -> dict[str, float]:
    """Memory of each system after all loads."""
    return {system: sum(each.after for each in found.values()) / 1e6 for system, found in outcome.memory.items()}


def write(record: Record, folder: Path) -> None:
    """Keeps it, in place of an earlier one of the same peer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))


def read(name: str, folder: Path) -> Record | None:
    """The last one, if there is one in this format."""
    try:
        return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
