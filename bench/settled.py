"""CPU of whole rounds, of systems that still work on calls when these are answered. The clocks of a slice would have what is
left of the one before, or nothing yet of its own calls."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bench.slices import Result

IDLE_SECONDS = 8.0
"""Before the first round, twice, to know what each process takes without calls: timers, and reports once a second."""

Clocks = Mapping[str, Mapping[str, float]]
"""Seconds of CPU, by system and process."""


class Slice(NamedTuple):
    """A slice of a round."""

    system: str
    requests: int
    """Of the warm-up, too."""
    result: Result


class WholeRounds:
    """Charges rounds to their requests. Make it when all systems are there, and no call is in progress.

    Args:
        read: reads the clocks.
        settle: seconds after the last call until all is done.
        wait: for so many seconds.
        now: in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Clocks],
        settle: float,
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read, self._settle, self._wait, self._now = read, settle, wait, now
        wait(settle)
        first, second = self._without_calls(), self._without_calls()
        # What a process still does because it has just started is in the first one alone, and not done again in each round.
        self._idle = {
            system: {name: min(rate, second[system][name]) for name, rate in rates.items()}
            for system, rates in first.items()
        }
        self._before, self._since = read(), now()

    def _without_calls(self) -> Clocks:
        """Seconds of CPU a second."""
        before, since = self._read(), self._now()
        self._wait(IDLE_SECONDS)
        took = self._now() - since
        return {
            system: {name: (clock - before[system][name]) / took for name, clock in clocks.items()}
            for system, clocks in self._read().items()
        }

    def settled(self, slices: Sequence[Slice]) -> list[Result]:
        """The results of the round that is over, with CPU that is its calls' alone. The next one begins.

        Clocks that are not of one system, as the upstream's, stay as they are.
        """
        self._wait(self._settle)
        after, at = self._read(), self._now()
        requests: Counter[str] = Counter()
        for each in slices:
            requests[each.system] += each.requests
        took = at - self._since
        spent = {
            system: {
                name: (clock - self._before[system][name] - self._idle[system][name] * took) / requests[system]
                for name, clock in after[system].items()
            }
            for system in requests
        }
        self._before, self._since = after, at
        return [
            msgspec.structs.replace(
                result,
                cpu=result.cpu | {name: each * result.calls for name, each in spent[system].items()},
            )
            for system, _, result in slices
        ]
