"""The chaos table, measured and written into docs/resilience.md: ``python -m tests.chaos.table``."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import FAULTS
from tests.chaos.load import SERVERS, SESSIONS
from tests.chaos.run import Result, run

PAGE = Path(__file__).parents[2] / "docs" / "resilience.md"
BEGIN = "<!-- chaos: written by python -m tests.chaos.table -->\n"
END = "<!-- end of chaos -->\n"

COLUMNS = ("what happens", "answered", "failed", "lost", "calls fail for", "after it is over")


def row(result: Result) -> tuple[str, ...]:
    """A row of the table."""
    load = result.load
    failed: Counter[str] = load.failed
    lost = len(load.lost) + sum(load.of[server].refused for server in SERVERS)
    return (
        result.fault.name,
        f"{sum(load.of[server].answered for server in SERVERS):,}",
        ", ".join(f"{count} ({error})" for error, count in sorted(failed.items())) or "0",
        str(lost),
        f"{result.failing_seconds:.1f} s",
        f"{result.recovery_seconds:.1f} s",
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


async def main() -> int:
    """Run all, and write the page. Returns the exit code: 1 where a call was lost."""
    console = Console(stderr=True)
    rows, lost = [], 0
    for fault in FAULTS:
        with console.status(fault.name), tempfile.TemporaryDirectory(prefix="mcp-chaos-") as folder:
            result = await run(fault, Path(folder))
        rows.append(row(result))
        lost += len(result.load.lost)
        console.print(" | ".join(rows[-1]), highlight=False)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    said = f"{SESSIONS} sessions, {len(os.sched_getaffinity(0))} cores.\n\n"
    PAGE.write_text(before + BEGIN + "\n" + said + table(rows) + "\n" + END + after)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
