"""What systems wrote to their access logs: as much, or the comparison is none."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BenchError

_CALL = b'"mcp.method.name":"tools/call"'

_DIFFERENCE = 0.1
"""Most by which the lines of two systems may differ in length."""


def compare(logs: Mapping[str, Path]) -> None:
    """Compares the lines of calls.

    Args:
        logs: the files by their systems' titles, all of them written out.

    Raises:
        BenchError: one has no call in it, or the mean length of a line differs by more than a tenth.
    """
    sizes = {title: _mean(title, log) for title, log in logs.items()}
    if sizes and max(sizes.values()) > min(sizes.values()) * (1 + _DIFFERENCE):
        means = ", ".join(f"{title}: {size:.0f}" for title, size in sizes.items())
        raise BenchError(f"the access logs have lines of different lengths, in bytes on average: {means}")


def _mean(title: str, log: Path) -> float:
    calls = [len(line) for line in log.read_bytes().splitlines() if _CALL in line]
    if not calls:
        raise BenchError(f"{title}: no tools/call is in its access log, {log.name}")
    return statistics.fmean(calls)
