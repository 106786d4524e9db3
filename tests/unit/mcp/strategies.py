"""JSON as texts rather than as values, so that a test can tell whether a single byte of them changed."""

from __future__ import annotations

import json
from functools import lru_cache

from hypothesis import strategies as st

blanks = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n", "  \n "])

numbers = st.one_of(
    st.integers().map(str),
    st.integers(2**53, 2**200).map(str),
    st.sampled_from([
        "0", "-0", "1.0", "1e2", "1E+2", "-1.50e-07", "9007199254740993", "1234567890.1234567891",
        "12345678901234567890123456789.1", "0.10000000000000000001", "1e400", "100000000000000000000000",
    ]),
)  # fmt: skip

_piece = st.one_of(
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=8),
    st.sampled_from([
        r"\"", r"\\", r"\/", r"\b", r"\n", r"\u0000", r"\u000d", r"\u0041", r"\u00e9", r"\u20AC", r"\ud83d\ude00", "{", "}",
        "[", "]", ":", ",", "\x7f", "\u2028", "name", "params",
    ]),
)  # fmt: skip

string_texts = st.lists(_piece, max_size=4).map(lambda pieces: '"' + "".join(pieces) + '"')
"""Strings as JSON text, with needless escapes, so that writing them again would change them."""

scalars = st.one_of(st.sampled_from(["null", "true", "false", '""']), numbers, string_texts)


@st.composite
def _arrays(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    return "[" + ",".join(draw(blanks) + item + draw(blanks) for item in draw(st.lists(items, max_size=3))) + "]"


@st.composite
def _objects(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    return join_members(draw, draw(st.lists(st.tuples(string_texts, items), max_size=3)))


def join_members(draw: st.DrawFn, members: list[tuple[str, str]]) -> str:
    """An object of these names and values (both JSON texts), with blanks wherever JSON has them."""
    texts = [draw(blanks) + name + draw(blanks) + ":" + draw(blanks) + value + draw(blanks) for name, value in members]
    return "{" + ",".join(texts) + draw(blanks) + "}" if texts else "{" + draw(blanks) + "}"


json_texts = st.recursive(scalars, lambda inner: st.one_of(_arrays(inner), _objects(inner)), max_leaves=12)
"""Any JSON value, duplicates and odd spellings included."""

tool_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
"""Any name that JSON can carry, CR, LF and NUL included."""


@lru_cache  # making a strategy takes longer than drawing from it
def spelled(text: str) -> st.SearchStrategy[str]:
    """Ways to write a string as JSON text."""
    escaped = "".join(f"\\u{unit:04x}" for unit in _utf16(text))
    return st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False), f'"{escaped}"'])


def _utf16(text: str) -> list[int]:
    data = text.encode("utf-16-be")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


def other_members(
    names: st.SearchStrategy[str], taken: set[str], max_size: int
) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Further members with values of any kind, whose names clash neither with each other nor with ``taken`` in any case."""
    fresh = names.filter(lambda name: name.casefold() not in taken)
    pairs = st.lists(st.tuples(fresh, json_texts), max_size=max_size, unique_by=lambda member: member[0])
    return pairs.flatmap(lambda members: st.tuples(*(st.tuples(spelled(n), st.just(v)) for n, v in members)).map(list))
