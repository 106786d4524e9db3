"""Whose turn it is."""

from __future__ import annotations

from itertools import pairwise

from bench.order import alternated, rotated, shuffled


def test_forwards_and_backwards() -> None:
    """So that neither of two always follows the other."""
    turns = [each for turn in range(4) for each in alternated(["session", "shared"], turn)]
    assert {*pairwise(turns)} == {
        ("session", "shared"), ("shared", "shared"), ("shared", "session"), ("session", "session"),
    }  # fmt: skip


def test_everyone_has_a_turn_in_an_order_that_differs() -> None:
    orders = [shuffled("abcd", turn, 0) for turn in range(10)]
    assert all(sorted(order) == ["a", "b", "c", "d"] for order in orders)
    assert len({*map(tuple, orders)}) > 5
    assert orders == [shuffled("abcd", turn, 0) for turn in range(10)]


def test_what_is_used_in_a_circle_goes_on_after_the_last_one() -> None:
    assert rotated("abc", 0) == ("a", "b", "c")
    assert rotated("abc", 4) == ("b", "c", "a")
    assert rotated("", 4) == ()
