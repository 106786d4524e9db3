"""Statistics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank percentile: the smallest value that at least `share` (0 to 1) of the values do not exceed.

    `ordered` is sorted and not empty.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """Median of the ratios within a round: values with the same index were measured side by side.

    A disturbance of a whole round (another process, thermal throttling) affects both and cancels out, which it does not in
    the ratio of two medians. Raises ValueError if the two differ in length.
    """
    return statistics.median(_ratios(values, reference))


def ratio_spread(values: Sequence[float], reference: Sequence[float]) -> float:
    """Spread of the ratios of the rounds: half their interquartile range, as a share of their median."""
    ratios = sorted(_ratios(values, reference))
    return (percentile(ratios, 0.75) - percentile(ratios, 0.25)) / 2 / statistics.median(ratios)


def _ratios(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [value / base for value, base in zip(values, reference, strict=True)]
