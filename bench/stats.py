"""Statistics."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank percentile: the smallest value that at least `share` (0 to 1) of the values do not exceed.

    `ordered` is sorted and not empty.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The middle of some values, and what half of them lie between."""

    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Raises ValueError if there are none."""
        ordered = sorted(values)
        if not ordered:
            raise ValueError("no values")
        return cls(percentile(ordered, 0.25), statistics.median(ordered), percentile(ordered, 0.75))

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a share of the median; 0 if that is 0."""
        return (self.q3 - self.q1) / 2 / abs(self.median) if self.median else 0.0

    def __str__(self) -> str:
        return self.between(".2f")

    def between(self, form: str) -> str:
        """The median, and the quartiles in brackets, each in this format."""
        return f"{self.median:{form}} [{self.q1:{form}}, {self.q3:{form}}]"

    def within(self, form: str) -> str:
        """The median in this format, and the spread: shorter, for tables with many columns."""
        return f"{self.median:{form}} ±{self.spread:.0%}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some values are about, and how sure that is: more of them make it surer, where quartiles stay as far apart."""

    low: float
    middle: float
    """Mean of the half in the middle, as few values far out are of something else. A median's interval is a tenth wider."""
    high: float
    """In 95 of 100 measurements like this one the truth lies between the two."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """By the bootstrap: what the same would be of values drawn from these. The same for the same values.

        One less is drawn than there are: of as many, what is drawn lies closer together than such measurements do. So an
        interval of 10 values or more has the truth in 95 of 100 measurements, and one of three in 75.

        Raises ValueError if there are none.
        """
        found = [*values]
        if not found:
            raise ValueError("no values")
        draw = random.Random(0)
        drawn = sorted(_middle_mean(draw.choices(found, k=max(1, len(found) - 1))) for _ in range(_DRAWS))
        return cls(percentile(drawn, 0.025), _middle_mean(found), percentile(drawn, 0.975))

    def __str__(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}, {self.high:.2f}]"


_DRAWS = 2000


def _middle_mean(values: Sequence[float]) -> float:
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def ratios(values: Sequence[float], reference: Sequence[float]) -> Quartiles:
    """Of the ratios within a round: values with the same index were measured side by side.

    A disturbance of a whole round (another process, thermal throttling) affects both and cancels out, which it does not in
    the ratio of two medians. Raises ValueError if the two differ in length, or have no values.
    """
    return Quartiles.of(value / base for value, base in zip(values, reference, strict=True))
