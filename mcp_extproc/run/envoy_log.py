"""Extracts the cause of a failure from Envoy's log, and keeps the log where that may not say all."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Final

from mcp_extproc.processes import ending

_REJECTED: Final = "rejected: "
"""In what Envoy writes about a configuration that it refuses and goes on without, which is only a warning."""

_BEGINS = re.compile(r"\n(?=\[\d{4}-\d\d-\d\d )")
_PREFIX = re.compile(r"(\[[^\]]*\])+ ?(\[[^\]]*\] ?)*")
_DUMP = re.compile(r"goo\.gle/debug.*?\n: ", re.DOTALL)
"""The message that is wrong, which may hold anything, in front of what is wrong with it."""


_READ_BYTES: Final = 1 << 20
"""Of the log's end. What Envoy dumps when it crashes has some kilobytes."""

_TOLD_BYTES: Final = 2000
_TOLD_AT_END_BYTES: Final = 500
"""Of these, where there is more: a message may begin or end with the cause, and have what is wrong in between."""

_WORDS_BYTES: Final = 600
"""Of each of the first things that Envoy says when it crashes."""

_WORDS: Final = 3
"""How many of them are told."""

_CAUGHT: Final = "Caught "
"""How Envoy begins to say which signal ends it. A stack follows, and a dump."""

_MAYBE_MEMORY: Final = ". The system ends processes so when memory runs out: see dmesg(1)"


def complaint(log: Path) -> str:
    """The last error in Envoy's log, without its prefix: what it could not do, or else the last configuration that it
    refused. In its middle, what is too long is left out."""
    return _bounded(_complaint(_entries(log)), _TOLD_BYTES, _TOLD_AT_END_BYTES)


def ended(code: int, log: Path) -> str:
    """How Envoy ended, and why. What it says before it ends by itself is the whole cause. Of a crash, it is what it says
    first, an assertion for example. What it dumps behind that, of connections and requests, may have credentials in it: that
    is only in the log, which is kept.

    Args:
        code: its exit code, or the negative number of the signal that ended it.
        log: which is about to be removed.
    """
    words = _last_words(log)
    # A script around it has an exit code where Envoy had a signal.
    if code >= 0 and not any(word.startswith(_CAUGHT) for word in words):
        return f"{ending(code)}: {complaint(log)}"
    said = "; ".join(words[:_WORDS]) or "its log does not say why"
    return f"{ending(code)}: {said}{_MAYBE_MEMORY if code == -signal.SIGKILL else ''}{kept(log)}"


def kept(log: Path) -> str:
    """Where a copy of the log's end stays, to be put behind an error. Only its owner may read it: it may have credentials in
    it."""
    try:
        end = _end(log)
        descriptor, path = tempfile.mkstemp(prefix="mcp-extproc-envoy-", suffix=".log")
        with os.fdopen(descriptor, "wb") as file:
            file.write(end)
    except OSError as error:
        return f" (Envoy's log can't be kept: {error.strerror})"
    return f" (Envoy's log: {path})"


def rejection(log: Path) -> str:
    """Why Envoy refused a configuration the last time; without that, its last error. Whole, with secrets that are in it."""
    entries = _entries(log)
    refused = _rejections(entries)
    return _told(refused).partition(_REJECTED)[2] if refused else _complaint(entries)


def _complaint(entries: list[str]) -> str:
    severe = [entry for entry in entries if "[critical]" in entry or "[error]" in entry]
    return _told(severe or _rejections(entries) or entries)


def _last_words(log: Path) -> list[str]:
    """The first line of each critical entry, without its prefix; none of a frame of the stack, which are critical, too."""
    words = []
    for entry in _entries(log):
        line = entry.lstrip().partition("\n")[0]
        prefix = _PREFIX.match(line)
        if prefix is not None and "[critical]" in prefix[0]:
            text = line[prefix.end() :].strip()
            if "[backtrace]" not in prefix[0] or text.startswith(_CAUGHT):
                words.append(_bounded(text, _WORDS_BYTES, 0))
    return words


def _end(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _READ_BYTES))
        return file.read(_READ_BYTES)


def _entries(log: Path) -> list[str]:
    """Each of one line, or of several."""
    try:
        text = _end(log).decode(errors="replace")
    except OSError:
        return ["it wrote no log"]
    return [entry for entry in _BEGINS.split(text) if entry.strip()] or ["it wrote nothing to its log"]


def _rejections(entries: list[str]) -> list[str]:
    return [entry for entry in entries if _REJECTED in entry]


def _told(entries: list[str]) -> str:
    entry = entries[-1].lstrip()
    prefix = _PREFIX.match(entry)
    return " ".join(_DUMP.sub("", entry[prefix.end() :] if prefix is not None else entry).split())


def _bounded(text: str, most: int, at_end: int) -> str:
    """A text of at most so many bytes, and a mark where some are left out; the last of them are its end."""
    whole = text.encode()
    if len(whole) <= most:
        return text
    end = whole[len(whole) - at_end :]
    return f"{whole[: most - at_end].decode(errors='ignore')} … {end.decode(errors='ignore')}".rstrip()
