"""When a server whose children fail may be started again."""

from __future__ import annotations

_FIRST = 0.5
"""Seconds after the first failure. Doubled at each: five starts in the first ten seconds."""

LONGEST = 30.0
"""Most seconds between two starts."""


class Backoff:
    """Counts failures in a row: children that ended before they had answered ``initialize``.

    Args:
        longest: most seconds between two starts.
    """

    def __init__(self, longest: float = LONGEST) -> None:
        self._longest = longest
        self._failures = 0
        self._until = 0.0
        self.why = ""
        """How the last one failed."""

    def failed(self, now: float, why: str) -> None:
        """A start failed.

        Args:
            now: seconds.
            why: one clause.
        """
        self._until = now + min(_FIRST * 2.0**self._failures, self._longest)
        self._failures = min(self._failures + 1, 10)
        self.why = why

    def worked(self) -> None:
        """A child answered."""
        self._failures = 0
        self._until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next start."""
        return max(0.0, self._until - now)
