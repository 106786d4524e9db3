"""A store keeps to its bounds whatever strangers put into it, and forgets little at a time."""

from __future__ import annotations

import random

from mcp_extproc.bounded import Alike, Bounded


def test_the_oldest_are_forgotten_one_by_one() -> None:
    store: Bounded[str, int] = Bounded(2, 1 << 20)
    for number, key in enumerate("abac"):
        store.keep(key, number, 1)
    assert [store.get(key) for key in "abc"] == [2, None, 3]
    assert [*store] == ["a", "c"]


def test_bytes_are_bounded_too() -> None:
    store: Bounded[int, bytes] = Bounded(1000, 160)
    for number in range(100):
        store.keep(number, b"x" * 10, 10)
    assert [*store] == [*range(84, 100)]
    assert store.size == 160


def test_what_is_too_large_drives_nothing_out() -> None:
    """And what it should replace is no longer true."""
    store: Bounded[str, str] = Bounded(10, 160)
    store.keep("a", "old", 5)
    store.keep("b", "b", 5)
    store.keep("a", "new", 11)
    assert [*store] == ["b"]
    assert store.size == 5


def test_what_is_replaced_or_taken_out_counts_no_more() -> None:
    store: Bounded[str, str] = Bounded(10, 160)
    store.keep("a", "1", 10)
    store.keep("a", "2", 4)
    assert (len(store), store.size) == (1, 4)
    assert (store.pop("a"), store.pop("a")) == ("2", None)
    assert (len(store), store.size, "a" in store) == (0, 0, False)


def test_a_few_more_than_it_holds_cost_a_few_misses() -> None:
    """Four sessions for three places: about three in four are found."""
    store: Bounded[int, bool] = Bounded(300, 1 << 20)
    chance, hits = random.Random(1), 0
    for _ in range(10_000):
        key = chance.randrange(400)
        hits += store.get(key) is not None
        if key not in store:
            store.keep(key, value=True, size=1)
    assert hits > 6_500


def _made(text: str) -> str:
    """An equal text that is another object."""
    return "".join([*text])


def test_equal_texts_are_held_once() -> None:
    alike, first = Alike(), _made("application/json")
    assert alike.one(first) is first
    assert alike.one(_made("application/json")) is first


def test_texts_that_are_long_or_many_are_not_held() -> None:
    alike, long = Alike(texts=2), "x" * (Alike.MAX_CHARS + 1)
    alike.one(long)
    assert alike.one(other := _made(long)) is other
    for text in ("first", "second", "third"):
        alike.one(text)
    assert alike.one(other := _made("first")) is other
