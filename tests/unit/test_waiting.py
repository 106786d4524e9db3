"""The helper that tests wait with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually, stays


def counting() -> Iterator[int]:
    yield from range(1 << 30)


async def test_what_was_seen_is_returned() -> None:
    numbers = counting()
    assert await eventually(lambda: next(numbers), "a number that is true") == 1
    assert await eventually(lambda: next(numbers), "a larger number", until=lambda number: number > 3) == 4


async def test_who_looks_may_have_to_wait() -> None:
    numbers = counting()

    async def look() -> int:
        await asyncio.sleep(0)
        return next(numbers)

    assert await eventually(look, "a larger number", until=lambda number: number > 3) == 4


async def test_in_vain_it_says_what_was_waited_for_and_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"in vain: a good word; last seen: 'a bad word'"):
        await eventually(lambda: "a bad word", "a good word", until=lambda word: word == "a good word", seconds=0.01)


async def test_a_look_that_never_ends_does_not_hang() -> None:
    with pytest.raises(AssertionError, match="in vain: an answer; last seen: 'nothing yet'"):
        await eventually(asyncio.Event().wait, "an answer", seconds=0.01)


@pytest.mark.parametrize("error", [OSError, TimeoutError, AssertionError])
async def test_an_error_ends_the_waiting(error: type[Exception]) -> None:
    def look() -> bool:
        raise error("there is nothing to wait for")

    with pytest.raises(error, match="there is nothing to wait for"):
        await eventually(look, "something")


async def test_what_stays_is_returned_once_it_does() -> None:
    seen = [3, 2, 1]
    assert await stays(lambda: seen.pop() if len(seen) > 1 else seen[0], seconds=0.01) == 3
