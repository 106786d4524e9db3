"""What failed, written down, and run once more alone.

The slow suites run real processes side by side, on machines that others use, too. A test that fails there and passes by
itself is a fault of the test or of the machine: CI names it loudly, and goes on. One that fails twice fails CI.
"""

from __future__ import annotations

from pathlib import Path

import pytest

MOST = 5
"""More tests than these did not fail by chance; they are not tried again."""


def options(parser: pytest.Parser) -> None:
    """``--failed-to FILE`` and ``--only-of FILE``."""
    group = parser.getgroup("once more")
    group.addoption(
        "--failed-to", type=Path, help="write what failed into this file, if it is little: a test on each line"
    )
    group.addoption("--only-of", type=Path, help="run only the tests that stand in this file")


class Failed:
    """Notes which tests fail, in the process that sees all reports."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._names: dict[str, None] = {}
        self._others = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._names[report.nodeid] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._others |= report.failed

    def pytest_sessionfinish(self, exitstatus: int | pytest.ExitCode) -> None:
        """A run that ended in another way than by tests that fail leaves nothing to be tried again."""
        few = exitstatus == pytest.ExitCode.TESTS_FAILED and not self._others and len(self._names) <= MOST
        self._file.write_text("".join(f"{name}\n" for name in self._names) if few else "")


def only(items: list[pytest.Item], file: Path, config: pytest.Config) -> None:
    """Leave out all items but those of the file.

    Raises:
        UsageError: one of them does not exist here.
    """
    wanted = set(file.read_text().splitlines())
    if missing := wanted - {item.nodeid for item in items}:
        raise pytest.UsageError(f"{file} names tests that were not found: {', '.join(sorted(missing))}")
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
    items[:] = [item for item in items if item.nodeid in wanted]
