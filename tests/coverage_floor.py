"""What the last measured run covered, for each package, held to a floor. ``make coverage`` calls this.

python -m tests.coverage_floor
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

FLOOR = 90.0
"""Percent of the statements and branches."""

GUARDED = ("mcp", "gateway", "extproc")
"""The packages that have to reach it: what decides, and what Envoy speaks to."""


@dataclass(frozen=True)
class Coverage:
    """Statements and branches of one package."""

    statements: float
    branches: float
    percent: float
    """Both together, as coverage.py counts."""

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Coverage:
        """From the sums of coverage.py's summaries."""
        return cls(
            _percent(counts["covered_lines"], counts["num_statements"]),
            _percent(counts["covered_branches"], counts["num_branches"]),
            _percent(
                counts["covered_lines"] + counts["covered_branches"], counts["num_statements"] + counts["num_branches"]
            ),
        )


def by_package(report: Mapping[str, Any]) -> dict[str, Coverage]:
    """The packages directly below mcp_extproc, from the report of ``coverage json``; its own modules are ``(top)``."""
    sums: dict[str, Counter[str]] = {}
    for name, file in report["files"].items():
        inside = PurePath(name).parts
        inside = inside[inside.index("mcp_extproc") + 1 :]
        package = inside[0] if len(inside) > 1 else "(top)"
        numbers = {key: value for key, value in file["summary"].items() if isinstance(value, int)}
        sums.setdefault(package, Counter()).update(numbers)
    return {package: Coverage.of(counts) for package, counts in sorted(sums.items())}


def problems(packages: Mapping[str, Coverage]) -> list[str]:
    """Which guarded packages are below the floor, or were not measured at all."""
    found = []
    for name in GUARDED:
        if name not in packages:
            found.append(f"mcp_extproc/{name} was not measured")
        elif packages[name].percent < FLOOR:
            found.append(f"mcp_extproc/{name} is covered to {packages[name].percent:.1f} %, the floor is {FLOOR:.0f} %")
    return found


def main() -> None:
    command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", "-"]
    packages = by_package(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    print(f"{'package':<12} {'statements':>10} {'branches':>10} {'both':>10}")
    for name, covered in packages.items():
        floor = f"  floor {FLOOR:.0f} %" if name in GUARDED else ""
        print(f"{name:<12} {covered.statements:>8.1f} % {covered.branches:>8.1f} % {covered.percent:>8.1f} %{floor}")
    if found := problems(packages):
        sys.exit("\n".join(f"error: {problem}. `coverage html` shows the lines" for problem in found))


def _percent(covered: int, of: int) -> float:
    return 100.0 * covered / of if of else 100.0


if __name__ == "__main__":
    main()
