"""The sums, on numbers small enough to do by hand."""

from __future__ import annotations

import random
import statistics

import pytest

from bench.stats import Estimate, Quartiles, percentile, ratios


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], share) == expected


def test_percentile_of_a_hundred() -> None:
    assert percentile([*range(1, 101)], 0.99) == 99


def test_ratio_is_taken_within_the_round() -> None:
    # The second round ran on a machine ten times slower. The ratio of the medians would be 2.
    assert ratios([30, 4, 40], [10, 2, 20]) == Quartiles(2, 2, 3)
    assert ratios([30, 3, 60], [10, 1, 30]).median == 3


def test_ratio_needs_both_sides_of_each_round() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_quartiles() -> None:
    assert Quartiles.of([11, 8, 10, 9]) == Quartiles(8, 9.5, 10)
    assert Quartiles.of([3]) == Quartiles(3, 3, 3)
    assert str(Quartiles(0.5, 1, 1.234)) == "1.00 [0.50, 1.23]"
    assert Quartiles(900, 1000, 1100).between(",.0f") == "1,000 [900, 1,100]"
    assert Quartiles(900, 1000, 1100).within(",.0f") == "1,000 ±10%"
    with pytest.raises(ValueError, match="no values"):
        Quartiles.of([])


def test_spread_is_half_the_interquartile_range() -> None:
    assert Quartiles.of([8, 9, 10, 11]).spread == pytest.approx((10 - 8) / 2 / 9.5)
    assert Quartiles(-1.5, -1, -0.5).spread == 0.5
    assert Quartiles.of([5, 5, 5]).spread == 0
    assert Quartiles.of([0, 0, 1]).spread == 0


def test_an_estimate_is_surer_with_more_values() -> None:
    """Quartiles stay where they are. The same values are the same estimate, and few that are far out change little."""
    noise = random.Random(7)
    values = [noise.gauss(20, 100) for _ in range(900)]
    few, many = Estimate.of(values[:30]), Estimate.of(values)
    truth = statistics.fmean(sorted(values)[225:675])
    assert few.low < few.middle < few.high
    assert many.middle == pytest.approx(truth)
    assert many.low < truth < many.high
    assert (many.high - many.low) < (few.high - few.low) / 3
    assert Estimate.of(values) == many
    assert Estimate.of([*values, *[1e9] * 20]).middle < many.high
    assert Estimate.of([3, 3]) == Estimate(3, 3, 3)
    assert str(Estimate(0.5, 1, 1.234)) == "1.00 [0.50, 1.23]"
    with pytest.raises(ValueError, match="no values"):
        Estimate.of([])


def _disturbed(noise: random.Random) -> float:
    """A ratio of two slices as a shared machine has them: some 15 % up or down, now and then half as much or twice as much."""
    return noise.lognormvariate(0, 0.6 if noise.random() < 0.1 else 0.15)


@pytest.mark.parametrize("rounds", [10, 30])
def test_the_truth_lies_in_95_of_100_intervals(rounds: int) -> None:
    """Of 200: five are to begin above it, and five to end below it, but for chance."""
    noise = random.Random(rounds)
    many = sorted(_disturbed(noise) for _ in range(100_001))
    truth = statistics.fmean(many[25_000:75_000])
    found = [Estimate.of(_disturbed(noise) for _ in range(rounds)) for _ in range(200)]
    above, below = (sum(each) for each in zip(*((each.low > truth, each.high < truth) for each in found), strict=True))
    assert 1 <= above <= 10
    assert 1 <= below <= 10
