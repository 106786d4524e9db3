"""Extracts the cause of a failure from Envoy's log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_REJECTED: Final = "rejected: "
"""In what Envoy writes about a configuration that it refuses and goes on without, which is only a warning."""

_BEGINS = re.compile(r"\n(?=\[\d{4}-\d\d-\d\d )")
_PREFIX = re.compile(r"(\[[^\]]*\])+ ?(\[[^\]]*\] ?)*")
_DUMP = re.compile(r"goo\.gle/debug.*?\n: ", re.DOTALL)
"""The message that is wrong, which may hold anything, in front of what is wrong with it."""


def complaint(log: Path) -> str:
    """The last error in Envoy's log, without its prefix: what it could not do, or else the last configuration that it
    refused."""
    entries = _entries(log)
    severe = [entry for entry in entries if "[critical]" in entry or "[error]" in entry]
    return _told(severe or _rejections(entries) or entries)


def rejection(log: Path) -> str:
    """Why Envoy refused a configuration the last time; without that, :func:`complaint`."""
    refused = _rejections(_entries(log))
    return _told(refused).partition(_REJECTED)[2] if refused else complaint(log)


def _entries(log: Path) -> list[str]:
    """Each of one line, or of several."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ["it wrote no log"]
    return [entry for entry in _BEGINS.split(text) if entry.strip()] or ["it wrote nothing to its log"]


def _rejections(entries: list[str]) -> list[str]:
    return [entry for entry in entries if _REJECTED in entry]


def _told(entries: list[str]) -> str:
    entry = entries[-1].lstrip()
    prefix = _PREFIX.match(entry)
    return " ".join(_DUMP.sub("", entry[prefix.end() :] if prefix is not None else entry).split())
