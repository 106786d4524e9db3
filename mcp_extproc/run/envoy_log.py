"""Extracts the cause of a failure from Envoy's log."""

from __future__ import annotations

import re
from pathlib import Path


def complaint(log: Path) -> str:
    """The last error in Envoy's log, without its prefix."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "it wrote no log"
    severe = [line for line in lines if "[critical]" in line or "[error]" in line] or lines
    return re.sub(r"^(\[[^\]]*\])+ ?", "", severe[-1]) if severe else "it wrote nothing to its log"
