"""How many streams there may be: of a session, of a principal, of all."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import pytest

from mcp_extproc.upstreams.open_streams import OpenStreams, TooManyStreams


class Bench:
    def __init__(self, most: int, of_session: int) -> None:
        self.streams = OpenStreams(most, of_session)
        self.ended: list[str] = []

    def open(self, name: str, session: str = "s", principal: str = "") -> AbstractContextManager[None]:
        return self.streams.one_more(session, principal, lambda: self.ended.append(name))


def test_one_too_many_of_a_session_ends_the_oldest() -> None:
    bench = Bench(most=100, of_session=2)
    with bench.open("a"), bench.open("b"), bench.open("of another", "t"):
        with bench.open("c"):
            assert bench.ended == ["a"]
        with bench.open("d"), bench.open("e"):
            assert bench.ended == ["a", "b"]
    assert len(bench.streams) == 0
    assert not bench.streams._sessions
    assert not bench.streams._principals


def test_one_too_many_of_all_is_refused() -> None:
    """Unless its session can give one back: a client that comes again is let in."""
    bench = Bench(most=2, of_session=2)
    with bench.open("a", "s"), bench.open("b", "t"):
        with pytest.raises(TooManyStreams), bench.open("c", "u"):
            raise AssertionError
        with bench.open("d", "s"):
            assert bench.ended == ["a"]
    with bench.open("e", "u"):
        assert len(bench.streams) == 1


def test_a_principal_gets_a_quarter() -> None:
    bench = Bench(most=8, of_session=4)
    with ExitStack() as stack:
        for number in range(2):
            stack.enter_context(bench.open("mine", f"s{number}", "me"))
        with pytest.raises(TooManyStreams), bench.open("third", "s2", "me"):
            raise AssertionError
        for number in range(6):
            stack.enter_context(bench.open("nobody's", f"t{number}"))
    assert len(bench.streams) == 0
