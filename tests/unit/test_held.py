"""Bytes that a worker holds: for all together, for each holder, and who waits for them."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc import held as held_module
from mcp_extproc.held import HeldBytes

MOST = 1 << 20
SHARE = MOST // 4


def test_a_holder_gets_a_quarter_and_no_more() -> None:
    held = HeldBytes(MOST)
    first, second = held.holding("a"), held.holding("a")
    assert first.part().keep(SHARE - 10)
    part = second.part()
    assert not part.keep(11)
    assert part.keep(10)
    assert held.of("a") == held.total == SHARE
    first.release()
    assert held.of("a") == 10


def test_those_who_hold_little_find_room_while_others_have_all_they_may() -> None:
    held = HeldBytes(MOST)
    for name in ("a", "b", "c"):
        assert held.holding(name).part().keep(SHARE)
    little, more = held.holding("d").part(), held.holding("e").part()
    assert little.keep(MOST // 256)
    assert not little.keep(MOST // 256 + 1)
    assert not more.keep(MOST // 8)
    assert held.total == 3 * SHARE + MOST // 256


def test_all_together_never_have_more_than_there_is() -> None:
    held = HeldBytes(MOST)
    taken = sum(held.holding(str(index)).part().keep(MOST // 256) for index in range(300))
    assert taken == 256
    assert held.total == MOST


def test_parts_change_their_size() -> None:
    held = HeldBytes(MOST)
    with held.holding("a") as holding:
        one, other = holding.part(), holding.part()
        assert one.keep(1000)
        assert other.keep(500)
        assert one.keep(200)
        assert held.total == 700
        assert other.keep(0)
        assert held.total == 200
    assert held.total == held.of("a") == 0


def test_what_is_reserved_is_used_first() -> None:
    held = HeldBytes(MOST)
    with held.holding("a") as holding:
        assert holding.reserve(1000)
        part = holding.part()
        assert part.keep(900)
        assert held.total == 1000
        assert part.keep(1200)
        assert held.total == 1200
        assert part.keep(100)
        assert held.total == 1000
    assert held.total == 0


def test_what_is_refused_changes_nothing() -> None:
    held = HeldBytes(MOST)
    with held.holding("a") as holding:
        part = holding.part()
        assert part.keep(100)
        assert not part.keep(SHARE + 1)
        assert not holding.reserve(SHARE + 1)
        assert held.total == 100
        assert part.keep(50)
        assert held.total == 50


def test_first_come_first_served() -> None:
    held, got = HeldBytes(MOST), list[str]()
    full = held.holding("a")
    full.part().keep(SHARE)
    waiting = {name: held.holding("a") for name in ("first", "second", "third")}
    for name, holding in waiting.items():
        holding.wait(SHARE // 2, partial(got.append, name))
    assert got == []
    full.release()
    assert got == ["first", "second"]
    waiting["second"].release()
    assert got == ["first", "second", "third"]
    assert held.total == SHARE


def test_nobody_waits_behind_who_has_to_wait_for_its_own_share() -> None:
    held, got = HeldBytes(MOST), list[str]()
    fulls = [held.holding(name) for name in ("a", "b", "c")]
    for full in fulls:
        full.part().keep(SHARE)
    held.holding("a").wait(SHARE, lambda: got.append("a"))
    held.holding("d").wait(SHARE, lambda: got.append("d"))
    fulls[1].release()
    assert got == ["d"]


def test_who_waits_no_more_gets_nothing() -> None:
    held, got = HeldBytes(MOST), list[str]()
    full = held.holding("a")
    full.part().keep(SHARE)
    waiting = held.holding("a").wait(SHARE, lambda: got.append("a"))
    assert waiting is not None
    waiting.leave()
    full.release()
    assert got == []
    assert held.total == 0


def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "MAX_WAITING", 2)
    held, got = HeldBytes(MOST), list[int]()
    full = held.holding("a")
    full.part().keep(SHARE)
    waiting = [held.holding("a").wait(1, partial(got.append, number)) for number in range(3)]
    assert waiting[2] is None
    full.release()
    assert got == [0, 1]


def test_who_holds_something_may_wait_where_it_gives_up_after_a_while() -> None:
    held, got = HeldBytes(MOST), list[bool]()
    full, part = held.holding("a"), held.holding("a").part()
    full.part().keep(SHARE - 10)
    assert part.keep(10)
    part.wait(100, lambda: got.append(True))
    full.release()
    assert got == [True]
    assert held.total == 100


def test_what_is_taken_over_is_nobody_elses_in_between() -> None:
    """The one who waits would have it otherwise."""
    held, got = HeldBytes(MOST), list[bool]()
    for name in ("a", "b"):
        held.holding(name).part().keep(SHARE)
    reader, stream = held.holding("c").part(), held.holding("d").part()
    reader.keep(SHARE)
    held.holding("e").wait(SHARE // 2, lambda: got.append(True))
    assert stream.take_over(reader, SHARE)
    assert (held.of("c"), held.of("d"), got) == (0, SHARE, [])
    assert not reader.take_over(stream, SHARE + 1)
    assert (held.of("c"), held.of("d"), got) == (0, SHARE, [])
    stream.keep(0)
    assert got == [True]


def full(held: HeldBytes) -> None:
    """Those who hold little have the last quarter, too."""
    number = 0
    while held.holding(f"little {number}").part().keep(MOST // 256):
        number += 1
    assert held.total == MOST


def test_what_is_handed_over_within_a_request_stays_counted_where_all_is_full() -> None:
    """It is no more than before."""
    held = HeldBytes(MOST)
    holding = held.holding("a")
    reader, stream = holding.part(), holding.part()
    reader.keep(SHARE)
    full(held)
    assert stream.take_over(reader, SHARE // 2)
    assert (held.of("a"), held.total) == (SHARE, MOST)
    stream.keep(0)
    assert held.of("a") == SHARE // 2
    reader.keep(0)
    assert held.of("a") == 0


def test_what_is_not_taken_over_where_all_is_full_stays_with_who_had_it() -> None:
    held = HeldBytes(MOST)
    reader, stream = held.holding("a").part(), held.holding("b").part()
    reader.keep(SHARE)
    full(held)
    assert not stream.take_over(reader, SHARE)
    assert (held.of("a"), held.of("b"), held.total) == (SHARE, 0, MOST)
    reader.keep(0)
    assert (held.of("a"), held.total) == (0, MOST - SHARE)


_steps = st.tuples(st.sampled_from("abcdef"), st.sampled_from([0, 100, SHARE // 3, SHARE, SHARE + 1, -1]))


@given(st.lists(_steps, max_size=60))
def test_the_sums_are_right_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Six holders whose parts change their size; -1 gives everything back."""
    held = HeldBytes(MOST)
    holdings = {name: held.holding(name) for name in "abcdef"}
    parts = {name: holding.part() for name, holding in holdings.items()}
    sizes = dict.fromkeys(holdings, 0)
    for name, size in steps:
        if size < 0:
            holdings[name].release()
            parts[name], sizes[name] = holdings[name].part(), 0
        elif parts[name].keep(size):
            sizes[name] = size
        assert {name: held.of(name) for name in sizes} == sizes
        assert held.total == sum(sizes.values()) <= MOST
        assert max(sizes.values()) <= SHARE
