"""Extracts the cause of a failure from Envoy's log."""

from __future__ import annotations

import re
from pathlib import Path


def complaint(log: Path) -> str:
    """The last error in Envoy's log, without its prefix: what it could not do, or else the last configuration that it refused,
    which it only warns of."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "it wrote no log"
    if not lines:
        return "it wrote nothing to its log"
    severe = [line for line in lines if "[critical]" in line or "[error]" in line]
    refused = [line for line in lines if "rejected: " in line]
    return re.sub(r"^(\[[^\]]*\])+ ?(\[[^\]]*\] ?)*", "", (severe or refused or lines)[-1])
