"""CPU and memory of other processes, as accounted by the kernel (Linux)."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of the processes so far, user and system, of all threads, including those that have ended.

    From the scheduler's clock: the value of /proc/PID/stat, in nanoseconds instead of ticks of 10 ms. Raises
    ProcessLookupError if a process has ended.
    """
    return sum(_process_clock(pid) for pid in pids)


def _process_clock(pid: int) -> float:
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error), str(pid))
    return time.clock_gettime(clock.value)


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory (VmRSS) of the processes together; shared pages count for each."""
    return sum(_resident(pid) for pid in pids)


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory: it has ended")


def family(pid: int) -> tuple[int, ...]:
    """The process and its descendants."""
    children = (
        int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
    )
    return (pid, *(member for child in children for member in family(child)))
