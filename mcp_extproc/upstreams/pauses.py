"""Time between two attempts to open a stream."""

from __future__ import annotations

import random

DEFAULT_RETRY = 1.0
"""Seconds before a stream is opened again, where the server named no time."""

SHORTEST_RETRY = 0.5
"""Seconds that a server gets at least, whatever it names: each of its clients' streams would come back at once."""

LONGEST = 30.0
"""Most seconds, but for some chance."""

STEADY_SECONDS = 5.0
"""A stream that was open for longer was of use, even if nothing came: some servers have it end and come back."""


class Pause:
    """It grows from one attempt to the next until one was of use, with some chance in it so that not all come at once. That a
    stream opens proves nothing: some servers accept each and close it."""

    def __init__(self) -> None:
        self._shortest = DEFAULT_RETRY
        self._next = 0.0

    def ask_for(self, milliseconds: int) -> None:
        """What the server's ``retry`` names (WHATWG HTML, Server-sent events). It waits no shorter, within our bounds."""
        self._shortest = min(max(milliseconds / 1000, SHORTEST_RETRY), LONGEST)

    def reset(self) -> None:
        """Something came, or the stream was open for a while."""
        self._next = 0.0

    def was_open(self, seconds: float) -> None:
        """A stream ended after so long."""
        if seconds > STEADY_SECONDS:
            self.reset()

    def next(self) -> float:
        """Seconds to wait now."""
        seconds = max(self._next, self._shortest)
        self._next = min(seconds * 2, LONGEST)
        return seconds * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
