"""One fault under load, measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import Fault
from tests.chaos.load import Load, load
from tests.chaos.stage import stage


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    fault: Fault
    load: Load
    failing_seconds: float
    """From the beginning of the fault to the last call that failed."""
    recovery_seconds: float
    """From the end of the fault to the last call that failed; 0 where none failed any more."""


async def run(fault: Fault, folder: Path) -> Result:
    """Start everything, break something, and wait until all calls are answered again."""
    async with stage(folder) as (running, client):
        async with load(client) as calls:
            assert not calls.failed, calls.failed
            began = time.monotonic()
            await fault.happens(running, calls)
            over = time.monotonic()
            await calls.until_well()
        last = calls.last_failure
        return Result(fault, calls, max(0.0, last - began), max(0.0, last - over))
