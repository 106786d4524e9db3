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
    return sum(_field(Path(f"/proc/{pid}/status"), "VmRSS:") for pid in pids)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes together (PSS): of a page that n processes share, each has an n-th."""
    return sum(_field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids)


def _field(file: Path, name: str) -> int:
    """A size in bytes."""
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"{file} has no {name}: the process has ended")


def command_of(pid: int) -> list[bytes]:
    """Program and arguments of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def name_of(pid: int) -> str:
    """What the kernel calls a process, which it may have chosen itself; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def family(pid: int) -> tuple[int, ...]:
    """The process and its descendants."""
    children = (
        int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
    )
    return (pid, *(member for child in children for member in family(child)))
