"""Time between attempts: it grows until one was of use, never below a floor and never beyond a bound."""

from __future__ import annotations

import pytest

from mcp_extproc.upstreams.pauses import DEFAULT_RETRY, LONGEST, SHORTEST_RETRY, STEADY_SECONDS, Pause

CHANCE = 1.25


def in_order(pause: Pause, count: int) -> list[float]:
    return [pause.next() for _ in range(count)]


def test_it_grows_to_a_bound() -> None:
    found = in_order(Pause(), 7)
    for seconds, least in zip(found, (DEFAULT_RETRY, 2.0, 4.0, 8.0, 16.0, LONGEST, LONGEST), strict=True):
        assert least <= seconds <= CHANCE * least


@pytest.mark.parametrize(("milliseconds", "least"), [(0, SHORTEST_RETRY), (700, 0.7), (3000, 3.0), (10**12, LONGEST)])
def test_a_server_names_the_time_within_bounds(milliseconds: int, least: float) -> None:
    pause = Pause()
    pause.ask_for(milliseconds)
    assert least <= pause.next() <= CHANCE * least


def test_what_was_of_use_begins_anew() -> None:
    pause = Pause()
    for useful in (pause.reset, lambda: pause.was_open(STEADY_SECONDS + 1)):
        in_order(pause, 4)
        useful()
        assert pause.next() <= CHANCE * DEFAULT_RETRY


def test_a_stream_that_ends_at_once_was_of_no_use() -> None:
    pause = Pause()
    in_order(pause, 4)
    pause.was_open(0.01)
    assert pause.next() >= 16.0


def test_there_is_chance_in_it() -> None:
    assert len({Pause().next() for _ in range(20)}) > 1
