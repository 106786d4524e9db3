"""The floor of ``make coverage``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.coverage_floor import FLOOR, GUARDED, Coverage, by_package, problems


def measured(**files: tuple[int, int, int, int]) -> dict[str, Any]:
    """A report of ``coverage json``: covered and all statements, covered and all branches of a file in each package."""
    keys = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {
        "files": {
            f"mcp_extproc/{package}/deep/a.py": {
                "summary": {**dict(zip(keys, numbers, strict=True)), "percent_covered": 1.0}
            }
            for package, numbers in files.items()
        }
    }


def test_statements_and_branches_are_counted_together() -> None:
    assert by_package(measured(mcp=(9, 10, 3, 10))) == {"mcp": Coverage(90.0, 30.0, 60.0)}


def test_files_are_summed_up_by_package() -> None:
    report = measured(mcp=(1, 2, 0, 0))
    report["files"]["/elsewhere/mcp_extproc/mcp/b.py"] = report["files"]["mcp_extproc/mcp/deep/a.py"]
    report["files"]["mcp_extproc/contract.py"] = measured(x=(4, 4, 0, 0))["files"]["mcp_extproc/x/deep/a.py"]
    assert by_package(report) == {"(top)": Coverage(100.0, 100.0, 100.0), "mcp": Coverage(50.0, 100.0, 50.0)}


@pytest.mark.parametrize("low", GUARDED)
def test_a_package_below_the_floor_fails(low: str) -> None:
    enough = (90, 100, 0, 0)
    assert problems(by_package(measured(mcp=enough, gateway=enough, extproc=enough))) == []
    [problem] = problems(
        by_package(measured(**{"mcp": enough, "gateway": enough, "extproc": enough, low: (89, 100, 0, 0)}))
    )
    assert f"mcp_extproc/{low} is covered to 89.0 %, the floor is {FLOOR:.0f} %" in problem


def test_a_package_that_was_not_measured_fails() -> None:
    assert problems({}) == [f"mcp_extproc/{name} was not measured" for name in GUARDED]
