"""The sums, on numbers small enough to do by hand."""

from __future__ import annotations

import pytest

from bench.stats import Quartiles, percentile, ratios


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
