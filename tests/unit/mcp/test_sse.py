"""Streams of events mean the same however they are cut."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp.sse import COMMENT, EventTooLarge, SseEvent, SseParser, render

BOM = b"\xef\xbb\xbf"
UNBOUNDED = 1 << 20


def read(*chunks: bytes, bound: int = UNBOUNDED) -> list[SseEvent]:
    parser = SseParser(bound)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def bytewise(stream: bytes, bound: int = UNBOUNDED) -> list[SseEvent]:
    return read(*(stream[i : i + 1] for i in range(len(stream))), bound=bound)


def event(data: bytes | None, **more: object) -> SseEvent:
    return SseEvent(data, **more)  # type: ignore[arg-type]


NOTHING = SseEvent(None)
"""What a comment between two blocks gives: no message, but a sign of life."""

# Each with LF; tried with CR and CRLF too. WHATWG HTML 9.2.6 for what they mean.
STREAMS: dict[str, tuple[bytes, list[SseEvent]]] = {
    "one": (b"data: x\n\n", [event(b"x")]),
    "no blank": (b"data:x\n\n", [event(b"x")]),
    "only the first blank is dropped": (b"data:  x \n\n", [event(b" x ")]),
    "several lines of data": (b"data: a\ndata: b\ndata:\ndata: c\n\n", [event(b"a\nb\n\nc")]),
    "a colon in the data": (b"data: a:b: c\n\n", [event(b"a:b: c")]),
    "two events": (b"data: a\n\ndata: b\n\n", [event(b"a"), event(b"b")]),
    "blank lines between": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [event(b"a"), event(b"b")]),
    "comments": (b": ka\n:\n\ndata: a\n: within\ndata: b\n\n: ka\n\n", [NOTHING, NOTHING, event(b"a\nb"), NOTHING]),
    "a name": (b"event: message\ndata: a\n\nevent: other\ndata: b\n\n", [event(b"a"), event(b"b", event="other")]),
    "the last name counts": (b"event: a\nevent: b\ndata: x\n\n", [event(b"x", event="b")]),
    "an empty name is none": (b"event:\ndata: x\n\n", [event(b"x")]),
    "a name without data": (b"event: other\n\ndata: x\n\n", [event(None, event="other"), event(b"x")]),
    "an id": (b"id: 7\ndata: x\n\ndata: y\n\n", [event(b"x", id="7"), event(b"y")]),
    "an id without data": (b"id: 7\n\ndata: x\n\n", [event(None, id="7"), event(b"x")]),
    "an id, a comment and no data": (b"id: 7\n: c\n\n: c\n", [event(None, id="7"), NOTHING]),
    "a retry without data": (b"retry: 5\n\ndata: x\n\n", [event(None, retry=5), event(b"x")]),
    "an empty id without data": (b"id:\n\n", [event(None, id="")]),
    "an empty name without data": (b"event\n\n", []),
    "an id with NUL is none": (b"id: a\0b\ndata: x\n\n", [event(b"x")]),
    "an empty id": (b"id\ndata: x\n\n", [event(b"x", id="")]),
    "priming": (b"id: 7\ndata:\n\n", [event(b"", id="7")]),
    "priming with a bare name": (b"id: 7\ndata\n\n", [event(b"", id="7")]),
    "retry": (b"retry: 1500\ndata: x\n\n", [event(b"x", retry=1500)]),
    "retry that is no number": (b"retry: 1.5\nretry: -1\nretry: x\nretry:\nretry: 1 \ndata: x\n\n", [event(b"x")]),
    "a retry of digits without end": (b"retry: " + b"9" * 5000 + b"\ndata: x\n\n", [event(b"x", retry=10**12 - 1)]),
    "unknown fields": (b"foo: a\nDATA: b\n data: c\ndata : d\ndatax: e\ndata: x\n\n", [event(b"x")]),
    "a byte order mark": (BOM + b"data: x\n\n", [event(b"x")]),
    "a byte order mark and nothing": (BOM + b"\ndata: x\n\n", [event(b"x")]),
    "only one byte order mark": (BOM + BOM + b"data: x\n\ndata: y\n\n", [event(b"y")]),
    "a byte order mark later on": (b"data: x\n\n" + BOM + b"data: y\n\ndata: z\n\n", [event(b"x"), event(b"z")]),
    "not closed": (b"data: a\n\ndata: b\n", [event(b"a")]),
    "cut": (b"data: a\n\ndata: b", [event(b"a")]),
    "UTF-8": (
        "event: \u00e9\ndata: \U0001f600\u2028\x85\n\n".encode(),
        [event("\U0001f600\u2028\x85".encode(), event="\u00e9")],
    ),
    "no UTF-8": (b"event: \xff\ndata: \xff\n\n", [event(b"\xff", event="\ufffd")]),
    "other blanks end no line": (b"data: a\x0bb\x0cc\x1cd\n\n", [event(b"a\x0bb\x0cc\x1cd")]),
    "empty": (b"", []),
}
LINE_ENDS = {"LF": b"\n", "CR": b"\r", "CRLF": b"\r\n"}


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS.keys())
@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS.keys())
def test_streams_cut_anywhere(stream: bytes, events: list[SseEvent], line_end: bytes) -> None:
    """Whole, byte by byte, and in two at every position."""
    stream = stream.replace(b"\n", line_end)
    assert read(stream) == events
    assert bytewise(stream) == events
    for at in range(min(len(stream), 200) + 1):
        assert read(stream[:at], stream[at:]) == events
        assert read(stream[:at], b"", stream[at:]) == events


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS.keys())
@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS.keys())
def test_chunks_that_are_one_event(stream: bytes, events: list[SseEvent], line_end: bytes) -> None:
    """They need not be fed, wherever the stream is cut."""
    stream = stream.replace(b"\n", line_end)
    for at in range(min(len(stream), 200) + 1):
        parser, found = SseParser(UNBOUNDED), []
        for chunk in (stream[:at], b"", stream[at:]):
            one = parser.only(chunk)
            found += list(parser.feed(chunk)) if one is None else [one]
        assert found == events


def test_a_usual_event_is_taken_at_once() -> None:
    parser = SseParser(20)
    assert parser.only(b"event: message\ndata: x\n\n") is None, "more than the bound"
    assert parser.only(b"id: 1\r\ndata: x\r\n\r\n") == event(b"x", id="1")
    assert parser.only(b"data: x\n\ndata: y\n\n") is None, "two"
    assert list(parser.feed(b"data: x\n")) == []
    assert parser.only(b"data: y\n\n") is None, "the end of another"


def test_line_ends_may_be_mixed() -> None:
    """LF, CR and CRLF (WHATWG, server-sent events)."""
    assert read(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\rdata: e\n\r") == [
        event(b"a\nb\nc"),
        event(b"d"),
        event(b"e"),
    ]


def test_an_event_comes_with_the_first_byte_that_completes_it() -> None:
    """After CR nobody waits for an LF that may never come."""
    parser = SseParser(UNBOUNDED)
    assert list(parser.feed(b"data: a\r\n")) == []
    assert list(parser.feed(b"\r")) == [event(b"a")]
    assert list(parser.feed(b"\ndata: b\r\r")) == [event(b"b")]


lines = st.one_of(
    st.sampled_from(
        [b"", b"", b"data", b"data: a", b"data:b", b"id: 1", b"id:", b"event: e", b"retry: 5", b": c", b"x: y", BOM]
    ),
    st.binary(max_size=6),
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def by_the_book(stream: bytes) -> list[SseEvent]:
    """WHATWG HTML 9.2.6, word for word, over the whole stream; and blocks without data, which browsers pass over."""
    events: list[SseEvent] = []
    data, name, id, retry = b"", "", None, None
    *lines, _ = re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM))
    for line in lines:
        if not line:
            if data or name or id is not None or retry is not None:
                events.append(SseEvent(data.removesuffix(b"\n") if data else None, name or "message", id, retry))
            data, name, id, retry = b"", "", None, None
            continue
        field, colon, value = line.partition(b":")
        if colon and not field:
            if not (data or name or id is not None or retry is not None):
                events.append(NOTHING)
            continue
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            id = value.decode(errors="replace")
        elif field == b"retry" and re.fullmatch(rb"[0-9]+", value):
            retry = int(value)
    return events


@given(streams, st.data())
def test_any_stream_cut_anywhere_reads_as_the_standard_says(stream: bytes, data: st.DataObject) -> None:
    """The standard is WHATWG's, server-sent events."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == bytewise(stream) == by_the_book(stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 60,
        b"data: x\n" * 40,
        b": " + b"x" * 60,
        b"x" * 60,
        b"data: " + b"x" * 60 + b"\n\n",
        b"data\n" * 60,
        b"event: " + b"x" * 30 + b"\nid: " + b"x" * 30 + b"\n",
        b"event: " + b"x" * 30 + b"\ndata: " + b"x" * 20 + b"\n\n",
        b"id: " + b"x" * 30 + b"\ndata: " + b"x" * 20 + b"\n\n",
    ],
)
def test_what_is_held_is_bounded(stream: bytes) -> None:
    with pytest.raises(EventTooLarge, match="larger than 50 bytes"):
        read(stream, bound=50)
    with pytest.raises(EventTooLarge):
        bytewise(stream, bound=50)


def test_the_bound_is_for_each_event() -> None:
    stream = (b"data: " + b"x" * 40 + b"\n\n: comment\n\n") * 100
    assert read(stream, bound=50) == bytewise(stream, bound=50) == [event(b"x" * 40), NOTHING] * 100


def test_what_came_before_an_event_that_is_too_large_is_given() -> None:
    """The answer may be among it."""
    parser = SseParser(50)
    found: list[SseEvent] = []
    with pytest.raises(EventTooLarge):
        found.extend(parser.feed(b"data: a\n\n: c\n\ndata: " + b"x" * 60))
    # `extend` keeps what it had taken.
    assert found == [event(b"a"), NOTHING]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_before_one_that_is_too_large_are_given(size: int) -> None:
    """Also where they came in the same chunk; and the bound does not depend on chunks."""
    stream = b"data: a\n\ndata: b\n\ndata: " + b"x" * 50 + b"\n\ndata: c\n\n"
    parser = SseParser(40)
    found: list[bytes | None] = []

    def feed() -> None:
        for start in range(0, len(stream), size):
            for one in parser.feed(stream[start : start + size]):
                found.append(one.data)

    with pytest.raises(EventTooLarge):
        feed()
    assert found == [b"a", b"b"]


@pytest.mark.parametrize("chunk", [b"data:ab\n" * 1000, b"ab"])
def test_what_is_held_is_counted(chunk: bytes) -> None:
    """Short lines, and short pieces of a long one."""
    parser = SseParser(UNBOUNDED)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        while parser.held < 100_000:
            assert not [*parser.feed(bytes(bytearray(chunk)))]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * parser.held


def test_names_and_ids_are_held_as_they_came() -> None:
    """As text, one with a single wide character would take four times as much."""
    parser = SseParser(UNBOUNDED)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for field in (b"event", b"id"):
            assert not [*parser.feed(field + b": " + b"x" * 100_000 + "\U0001f600\n".encode())]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parser.held == 200_008
    assert after - before < 1.5 * parser.held


def test_names_and_ids_that_are_replaced_are_held_no_more() -> None:
    parser = SseParser(200)
    assert not [
        *parser.feed((b"event: " + b"x" * 60 + b"\n") * 10 + b"event: y\n" + (b"id: " + b"x" * 60 + b"\n") * 10)
    ]
    assert parser.held == 61
    assert [*parser.feed(b"\n")] == [event(None, event="y", id="x" * 60)]
    assert parser.held == 0


# -- Ends and back again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        (b"", None),
        (b"data: a\n\n", None),
        (b"data: a", event(b"a")),
        (b"data: a\n", event(b"a")),
        (b"data: a\r", event(b"a")),
        (b"id: 7\ndata: a\nda", event(b"a", id="7")),
        (b"data: a\n\nid: 7", event(None, id="7")),
        (b": c", NOTHING),
        (b": c\n", None),
        (b"data: a\n: c", event(b"a")),
        (BOM + b"data: a", event(b"a")),
    ],
)
def test_the_end_of_a_stream_may_cut_an_event_off(stream: bytes, last: SseEvent | None) -> None:
    """Servers that forget the blank line exist."""
    for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        parser = SseParser(UNBOUNDED)
        for chunk in chunks:
            list(parser.feed(chunk))
        assert parser.finish() == last
        assert parser.finish() is None


@given(st.one_of(streams, st.tuples(streams, lines).map(b"".join)))
def test_the_end_is_read_as_if_it_had_been_closed(stream: bytes) -> None:
    parser = SseParser(UNBOUNDED)
    events = list(parser.feed(stream))
    last = parser.finish()
    closed = read(stream + b"\r\r")
    assert [*events, *([] if last is None else [last])] == closed


@given(streams)
def test_events_are_written_as_they_were_read(stream: bytes) -> None:
    for found in read(stream):
        assert read(render(found)) == [found]
        assert read(render(found) + render(found)) == [found, found]


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        (event(b"{}"), b"data: {}\n\n"),
        (event(b""), b"data:\n\n"),
        (event(b"a\n\nb"), b"data: a\ndata:\ndata: b\n\n"),
        (event(b"", id="7", retry=5), b"id: 7\nretry: 5\ndata:\n\n"),
        (event(b"x", event="other"), b"event: other\ndata: x\n\n"),
        (event(None, id="7"), b"id: 7\n\n"),
        (event(b"a\n\nb", event="odd", id="7", retry=10), b"event: odd\nid: 7\nretry: 10\ndata: a\ndata:\ndata: b\n\n"),
        (event(b"", id="7"), b"id: 7\ndata:\n\n"),
        (NOTHING, b":\n\n"),
        (NOTHING, COMMENT),
    ],
)
def test_how_events_are_written(given_: SseEvent, text: bytes) -> None:
    assert render(given_) == text


@given(streams, st.integers(1, 30))
def test_the_bound_does_not_depend_on_the_cuts(stream: bytes, bound: int) -> None:
    def outcome(chunks: list[bytes]) -> list[SseEvent] | None:
        try:
            return read(*chunks, bound=bound)
        except EventTooLarge:
            return None

    assert outcome([stream]) == outcome([stream[i : i + 1] for i in range(len(stream))])


line = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
data_texts = st.lists(line, max_size=4).map(lambda lines: "\n".join(lines).encode())
sse_events = st.builds(
    SseEvent,
    st.none() | data_texts,
    st.just("message") | line.filter(bool),
    st.none() | line,
    st.none() | st.integers(0, 10**9),
).filter(lambda written: written != NOTHING)


@given(
    st.lists(sse_events, max_size=5),
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_written_is_read_however_cut(written: list[SseEvent], cuts: list[int], end: bytes) -> None:
    stream = (COMMENT + b"".join(map(render, written))).replace(b"\n", end)
    parser = SseParser(UNBOUNDED)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(edges)]
    found = [one for piece in pieces for one in parser.feed(piece)]
    assert found == [NOTHING, *written]
    assert parser.finish() is None


@given(sse_events, st.integers(0, 2))
def test_the_end_gives_what_lacks_only_its_blank_line(written: SseEvent, missing: int) -> None:
    text = render(written)
    parser = SseParser(UNBOUNDED)
    found = [*parser.feed(text[: len(text) - missing]), parser.finish()]
    assert [one for one in found if one is not None] == [written]
