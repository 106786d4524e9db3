"""The chaos tables, measured and written into docs/resilience.md.

python -m tests.chaos.table [faults] [attacks] [records]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.machine import Watch, commit
from tests.chaos import attacks, records, run
from tests.chaos.attacks import ATTACKS
from tests.chaos.faults import FAULTS
from tests.chaos.load import SESSIONS, Load

PAGE = Path(__file__).parents[2] / "docs" / "resilience.md"

Row = tuple[str, ...]


async def of_fault(fault: Any, folder: Path) -> tuple[Row, Load]:
    """A row of the first table."""
    result = await run.run(fault, folder)
    load = result.load
    lost = len(load.lost) + load.refused
    times = (f"{seconds:.1f} s" for seconds in (result.failing_seconds, result.recovery_seconds))
    return (fault.name, f"{load.answered:,}", _failed(load), str(lost), *times), load


async def of_attack(attack: Any, folder: Path) -> tuple[Row, Load]:
    """A row of the second table."""
    result = await attacks.run(attack, folder)
    load = result.load
    times = (f"{1000 * attacks.p99(seconds):.0f} ms" for seconds in (result.before, result.during))
    failed = load.failed.total() + len(load.lost) + load.refused
    return (attack.name, f"{load.answered:,}", str(failed), *times), load


async def of_trouble(trouble: Any, folder: Path) -> tuple[Row, Load]:
    """A row of the third table."""
    told = await records.run(trouble, folder)
    failed = told.load.failed.total() + len(told.load.lost) + told.load.refused
    counts = (told.lines, told.audit_lost, told.records_lost, told.spans_lost)
    return (trouble.name, f"{told.requests:,}", str(failed), *(f"{count:,}" for count in counts)), told.load


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the page.

    Attributes:
        columns: their names.
        each: what each row is about.
        row: measures one.
        sessions: that make calls.
    """

    columns: Row
    each: Sequence[Any]
    row: Callable[[Any, Path], Awaitable[tuple[Row, Load]]]
    sessions: int

    async def measured(self, console: Console) -> tuple[str, int]:
        """In Markdown, and how many calls were lost."""
        watch = Watch()
        rows, lost = [self.columns, tuple("---" for _ in self.columns)], 0
        for one in self.each:
            with console.status(one.name), tempfile.TemporaryDirectory(prefix="mcp-chaos-") as folder:
                row, load = await self.row(one, Path(folder))
            rows.append(row)
            lost += len(load.lost)
            console.print(" | ".join(row), highlight=False)
        return f"{self._said(watch.about())}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows), lost

    def _said(self, about: Mapping[str, Any]) -> str:
        """What was measured, and where."""
        return (
            f"Commit {commit(PAGE.parent) or 'unknown'}; {about['cpu']}, {about['cores']} cores; {self.sessions} sessions, "
            f"each row once. Load {about['load']:.1f} before the run; {about['stolen']:.1%} of the processors' time was "
            "stolen."
        )


TABLES: Mapping[str, Table] = {
    "faults": Table(
        ("what happens", "answered", "failed", "lost", "calls fail for", "after it is over"), FAULTS, of_fault, SESSIONS
    ),
    "attacks": Table(
        ("attack", "answered", "failed", "p99 before", "p99 meanwhile"), ATTACKS, of_attack, attacks.SESSIONS
    ),
    "records": Table(
        ("what happens", "requests", "failed", "lines of the audit", "lines lost", "records lost", "spans lost"),
        records.TROUBLES,
        of_trouble,
        SESSIONS,
    ),
}


def _failed(load: Load) -> str:
    return ", ".join(f"{count} ({error})" for error, count in sorted(load.failed.items())) or "0"


def write(name: str, table: str) -> None:
    """Put a table between its marks on the page."""
    begin, end = f"<!-- {name}: written by python -m tests.chaos.table -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = PAGE.read_text().partition(begin)
    _, also_found, after = rest.partition(end)
    assert found, f"{PAGE} has no {begin!r}"
    assert also_found, f"{PAGE} has no {end!r}"
    PAGE.write_text(f"{before}{begin}\n{table}\n{end}{after}")


async def main(names: Sequence[str]) -> int:
    """Measure, and write the page. Returns the exit code: 1 where a call was lost."""
    console, lost = Console(stderr=True), 0
    for name in names or TABLES:
        table, lost_here = await TABLES[name].measured(console)
        write(name, table)
        lost += lost_here
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
