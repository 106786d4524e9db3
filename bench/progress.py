"""How far a run is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def at_work(console: Console, what: str, total: int) -> Iterator[tuple[Path, Callable[[int, str], None]]]:
    """A directory, and a bar that is told how many of its steps are done and what the next one is."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        tempfile.TemporaryDirectory(prefix="mcp-bench-") as directory,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task(what, total=total)
        yield Path(directory), lambda done, what: progress.update(task, completed=done, description=what)
