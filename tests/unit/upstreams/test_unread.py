"""What Envoy may have unread: shared by sessions, bounded for all, and counted until it can't be there any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack

from mcp_extproc.upstreams.unread import LEAST_BYTES, Given, Unread

MOST = 64 * LEAST_BYTES
SECONDS = 60.0


class Bench:
    def __init__(self, stream_bytes: int = MOST) -> None:
        self.now = 0.0
        self.unread = Unread(MOST, stream_bytes, SECONDS, lambda: self.now)


async def _chunks(sizes: tuple[int, ...]) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def give(given: Given, *sizes: int) -> None:
    """Give a stream chunks, the last of which is not its end."""
    chunks = given.counted(_chunks((*sizes, 0)))
    for _ in sizes:
        await anext(chunks)


async def end(given: Given) -> None:
    """Let it end by itself."""
    assert [chunk async for chunk in given.counted(_chunks(()))] == []


async def test_what_a_client_leaves_is_gone_with_it() -> None:
    bench = Bench()
    with bench.unread.stream("s") as given:
        await give(given, 100, 200)
        assert bench.unread.bytes == 300
    assert bench.unread.bytes == 0


async def test_what_ended_may_still_be_there_for_a_while() -> None:
    bench = Bench()
    with bench.unread.stream("s") as given:
        await give(given, 300)
        await end(given)
    bench.now = SECONDS - 1
    assert bench.unread.bytes == 300
    bench.now = SECONDS
    assert bench.unread.bytes == 0
    assert not bench.unread._sessions


async def test_a_stream_that_was_given_nothing_leaves_nothing() -> None:
    """Its session may be forgotten, or have come back, by the time at which its bytes would be."""
    bench = Bench()
    with bench.unread.stream("s") as given:
        await end(given)
    assert not bench.unread._sessions
    bench.now = SECONDS
    assert bench.unread.bytes == 0


async def test_a_stream_ends_after_so_many_bytes() -> None:
    bench = Bench(stream_bytes=1000)
    with bench.unread.stream("s") as given:
        await give(given, 999)
        assert not given.is_full
        await give(given, 1)
        assert given.is_full
        assert given.has_room


async def test_a_session_gets_a_part_of_what_is_free() -> None:
    """And the next one of what is left then, over however many streams."""
    bench = Bench()
    with ExitStack() as stack:
        first = [stack.enter_context(bench.unread.stream("greedy")) for _ in range(4)]
        for given in first:
            while given.has_room:
                await give(given, LEAST_BYTES)
            assert given.is_full
        greedy = bench.unread.bytes
        assert MOST // 8 < greedy <= MOST // 4
        other = stack.enter_context(bench.unread.stream("other"))
        assert other.has_room
        assert not other.is_full
        assert bench.unread.share > LEAST_BYTES


async def test_streams_that_ended_leave_no_room_to_those_that_follow() -> None:
    """A client that opens one after the other and reads none is given its share, once; then its servers wait."""
    bench = Bench(stream_bytes=4 * LEAST_BYTES)
    for _ in range(100):
        with bench.unread.stream("s") as given:
            while given.has_room and not given.is_full:
                await give(given, LEAST_BYTES)
            await end(given)
    assert bench.unread.bytes <= MOST // 4
    bench.now = SECONDS
    with bench.unread.stream("s") as given:
        assert given.has_room


async def test_however_many_there_are_everybody_gets_something() -> None:
    bench = Bench()
    with ExitStack() as stack:
        for number in range(1000):
            given = stack.enter_context(bench.unread.stream(str(number)))
            assert given.has_room
            while given.has_room:
                await give(given, 16 * 1024)
        assert bench.unread.bytes <= MOST + 1000 * LEAST_BYTES
        assert bench.unread.share == LEAST_BYTES


async def test_a_stream_never_waits_for_itself() -> None:
    """What only it has, it can be rid of by ending."""
    bench = Bench()
    with bench.unread.stream("s") as mine, bench.unread.stream("t") as other:
        await give(mine, 8 * LEAST_BYTES)
        assert mine.has_room
        while other.has_room:
            await give(other, LEAST_BYTES)
        with bench.unread.stream("u") as third:
            await give(third, MOST)
            assert not mine.has_room
            assert mine.is_full
