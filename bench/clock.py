"""CPU and memory of other processes, by the kernel's own accounts (Linux)."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU that the processes have used so far, user and system, all threads, also those that have ended.

    The scheduler's clock: what /proc/PID/stat shows, in nanoseconds instead of ticks of 10 ms. Raises ProcessLookupError
    if a process is gone.
    """
    return sum(_process_clock(pid) for pid in pids)


def _process_clock(pid: int) -> float:
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error), str(pid))
    return time.clock_gettime(clock.value)


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory (VmRSS) of the processes together; pages they share count for each."""
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
