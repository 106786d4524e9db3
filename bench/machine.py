"""The machine and the code of a run, and what else the machine did meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple


class Ticks(NamedTuple):
    """Of all processors since the start of the system, of 10 ms each."""

    all: int
    stolen: int
    """In which the hypervisor let others run, although this machine had work (proc(5), `steal`)."""

    @classmethod
    def parse(cls, stat: str) -> Ticks:
        """From the text of /proc/stat. Guests' time is part of the user's."""
        user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(int, stat.split("\n", 1)[0].split()[1:])
        return cls(user + nice + system + idle + iowait + irq + softirq + steal, steal)

    def stolen_since(self, before: Ticks) -> float:
        """Share of the time of all processors since then."""
        return (self.stolen - before.stolen) / max(1, self.all - before.all)


class Watch:
    """Watches the machine from now on."""

    def __init__(self) -> None:
        self._ticks = _ticks()
        self._load = os.getloadavg()[0]

    def about(self) -> dict[str, Any]:
        """What to write beside the figures: the processors, the load of the minute before the run and of its last one (with
        that of the run itself), and the stolen time as a share."""
        return {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "load": self._load,
            "load_at_end": os.getloadavg()[0],
            "stolen": _ticks().stolen_since(self._ticks),
        }


def code(seconds: float, rounds: int, envoy: Path) -> dict[str, Any]:
    """What else to write beside the figures: when it began (UTC), versions, and how it was planned."""
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "mcp_extproc": metadata.version("mcp-extproc"),
        "commit": commit(Path(__file__).resolve().parent),
        "envoy": f"Envoy {envoy_version(envoy)}",
        "python": platform.python_version(),
        "seconds": seconds,
        "rounds": rounds,
    }


def envoy_version(envoy: Path) -> str:
    """Such as 1.40.0."""
    said = subprocess.run([envoy, "--version"], capture_output=True, text=True, check=True).stdout
    return said.rpartition("version:")[2].strip().split("/")[1]


def commit(repository: Path) -> str:
    """Of the code, with a plus if it was changed since then, but for `docs`; empty outside of a Git repository."""
    git = ["git", "-C", str(repository)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", ":/", ":(exclude,top)docs"], check=False
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.strip() + "+" * bool(changed)


def _ticks() -> Ticks:
    return Ticks.parse(Path("/proc/stat").read_text())


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
