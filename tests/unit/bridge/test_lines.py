from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.bridge.lines import Lines, Skipped, as_line


@given(st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")), max_size=5), st.data())
def test_chunks_may_end_anywhere(lines: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    reader = Lines(100)
    found = [line for chunk in chunks for line in reader.feed(chunk)]
    assert found == [clean for line in lines if (clean := line.replace(b"\r", b" ").strip(b" \t"))]


def test_ends_of_lines() -> None:
    assert list(Lines(100).feed(b'{"a":1}\r\n\n \r\n{"b":\r2}\nrest')) == [b'{"a":1}', b'{"b": 2}']


@pytest.mark.parametrize("size", [9_999, 10_000, 10_001, 50_000])
@pytest.mark.parametrize("step", [1_000, 100_000])
def test_a_line_over_the_bound_is_skipped(size: int, step: int) -> None:
    text = b"x" * size + b"\nnext\n"
    reader = Lines(10_000)
    found = [line for start in range(0, len(text), step) for line in reader.feed(text[start : start + step])]
    assert found[1:] == [b"next"]
    assert isinstance(found[0], Skipped) == (size > 10_000)
    assert len(reader._pending) == 0


def test_little_is_kept_of_a_line_over_the_bound() -> None:
    reader = Lines(10_000)
    for _ in range(100):
        assert list(reader.feed(b"x" * 10_000)) == []
    assert len(reader._pending) <= 10_000
    [line] = reader.feed(b"end\n")
    assert isinstance(line, Skipped)
    assert line.end.endswith(b"xend")


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("text", "id"),
    [
        (f'{{"jsonrpc":"2.0","id":7,"result":"{LONG}"}}', b"7"),
        (f'{{ "id" : "a\\"b" , "jsonrpc":"2.0","result":"{LONG}"}}', b'"a\\"b"'),
        (f'{{"result":"{LONG}","jsonrpc":"2.0","id":7}}', b"7"),
        (f'{{"result":"{LONG}","id":7,"jsonrpc":"2.0"}}', b"7"),
        (f'{{"jsonrpc":"2.0","result":{{"a":"{LONG}","id":7}}}}', None),
        (f'{{"jsonrpc":"2.0","result":{{"id":7,"a":"{LONG}"}}}}', None),
        (f'{{"jsonrpc":"2.0","method":"x","params":{{"id":7,"a":"{LONG}"}}}}', None),
        (LONG, None),
    ],
)
def test_the_id_of_a_line_over_the_bound(text: str, id: bytes | None) -> None:
    [line] = Lines(10_000).feed(text.encode() + b"\n")
    assert isinstance(line, Skipped)
    assert line.id == id


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_message_on_one_line_means_the_same(value: object) -> None:
    written = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\r\n").encode("utf-8", "surrogatepass")
    line = as_line(written)
    assert line.count(b"\n") == 1
    assert json.loads(line.decode("utf-8", "surrogatepass")) == value
