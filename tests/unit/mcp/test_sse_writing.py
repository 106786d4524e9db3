"""Events written, and what is left when a stream ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp.sse import COMMENT, EventTooLarge, SseEvent, SseParser, render

line = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
data = st.lists(line, max_size=4).map(lambda lines: "\n".join(lines).encode())
sse_events = st.builds(
    SseEvent,
    st.none() | data,
    st.just("message") | line.filter(bool),
    st.none() | line,
    st.none() | st.integers(0, 10**9),
).filter(lambda event: event != SseEvent(None))


@given(
    st.lists(sse_events, max_size=5),
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_written_is_read_however_cut(written: list[SseEvent], cuts: list[int], end: bytes) -> None:
    stream = (COMMENT + b"".join(map(render, written))).replace(b"\n", end)
    parser = SseParser(1 << 20)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(edges)]
    found = [event for piece in pieces for event in parser.feed(piece)]
    assert found == [SseEvent(None), *written]
    assert parser.finish() is None


@given(sse_events, st.integers(0, 2))
def test_the_end_gives_what_lacks_only_its_blank_line(written: SseEvent, missing: int) -> None:
    text = render(written)
    parser = SseParser(1 << 20)
    found = [*parser.feed(text[: len(text) - missing]), parser.finish()]
    assert [event for event in found if event is not None] == [written]


def test_written_out() -> None:
    assert render(SseEvent(b"a\n\nb", "odd", "7", 10)) == b"event: odd\nid: 7\nretry: 10\ndata: a\ndata:\ndata: b\n\n"
    assert render(SseEvent(b"", id="7")) == b"id: 7\ndata:\n\n"
    assert render(SseEvent(None)) == COMMENT == b":\n\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_before_one_that_is_too_large_are_given(size: int) -> None:
    """Also where they came in the same chunk; and the bound does not depend on chunks."""
    stream = b"data: a\n\ndata: b\n\ndata: " + b"x" * 50 + b"\n\ndata: c\n\n"
    parser = SseParser(40)
    found: list[bytes | None] = []

    def read() -> None:
        for start in range(0, len(stream), size):
            for event in parser.feed(stream[start : start + size]):
                found.append(event.data)

    with pytest.raises(EventTooLarge):
        read()
    assert found == [b"a", b"b"]
