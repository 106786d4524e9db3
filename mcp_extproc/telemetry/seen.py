"""Who was there lately: sessions, for the metric of them (:mod:`.collector.intake`) and for the status page
(:mod:`mcp_extproc.status.board`), which are about the same time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

SECONDS: Final = 300.0
"""For which a session counts as there, after its last request. The metric has it in its name."""


class Seen:
    """Who was there lately.

    Args:
        seconds: how long ago that may be.
        most: that are kept; beyond it the earliest are forgotten.
    """

    def __init__(self, seconds: float, most: int = 100_000) -> None:
        self._seconds = seconds
        self._most = most
        self._last: OrderedDict[str, float] = OrderedDict()

    def see(self, name: str, now: float) -> None:
        """Somebody is there, at a time in seconds."""
        self._last[name] = now
        self._last.move_to_end(name)
        if len(self._last) > self._most:
            self._last.popitem(last=False)

    def leave(self, name: str) -> None:
        """Somebody is there no longer."""
        self._last.pop(name, None)

    def count(self, now: float) -> int:
        """How many there were."""
        while self._last and next(iter(self._last.values())) < now - self._seconds:
            self._last.popitem(last=False)
        return len(self._last)
