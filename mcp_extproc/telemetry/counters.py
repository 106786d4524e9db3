"""Counters of one worker, by name and labels. Used by tests, and logged when the worker ends."""

from __future__ import annotations

from collections import Counter

_MAX_SERIES = 10_000


class Counters:
    """Monotonic counters. Labels come from the configuration and fixed words, never from clients; the number of series
    is bounded nevertheless."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def add(self, name: str, **labels: str) -> None:
        """Increment a counter."""
        key = (name, tuple(labels.items()) if len(labels) < 2 else tuple(sorted(labels.items())))
        if key in self._counts or len(self._counts) < _MAX_SERIES:
            self._counts[key] += 1

    def value(self, name: str, **labels: str) -> int:
        """The value of one series."""
        return self._counts[name, tuple(sorted(labels.items()))]

    def snapshot(self) -> dict[str, int]:
        """All values, as ``name{label=value}``."""
        return {
            name + ("{" + ",".join(f"{key}={value}" for key, value in labels) + "}" if labels else ""): count
            for (name, labels), count in sorted(self._counts.items())
        }
