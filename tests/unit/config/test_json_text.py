from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config import ConfigError
from mcp_extproc.config.bounds import DEPTH
from mcp_extproc.config.json_text import parse_json
from mcp_extproc.config.yaml_text import parse_yaml

TOO_DEEP = f"nested more than {DEPTH} levels deep"
UNCLOSED = "a comment without an end: close it with */"
COMMA = "not JSON: a comma or a value is missing or too many before this place"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": {"k": 1, "k": 2}}', "a.k: is given twice, remove one"),
        ('[{"a b": 1, "a b": 1}]', '[0]["a b"]: is given twice, remove one'),
        ('{"a": 1, /* why\n "b": 2}', f"line 1, column 10: {UNCLOSED}"),
        ('{"a": 1 /* why\n}', f"line 1, column 9: {UNCLOSED}"),
        ("/*/ {}", f"line 1, column 1: {UNCLOSED}"),
        ('// why\n{"a": /* two\nlines */ hidden}', "line 3, column 10: not JSON: expecting value"),
        ('{"a": 1, // why\n "a": 2,}', "a: is given twice, remove one"),
        ('{"a": hidden}', "line 1, column 7: not JSON: expecting value"),
        ('{"a": "hidden', "line 1, column 7: not JSON: unterminated string starting at"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        (f'{{"a": {"9" * 5000}}}', "a number has too many digits"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), TOO_DEEP),
        ("[" * 200_000, TOO_DEEP),
        ('{"a":' * 100 + "1" + "}" * 100, TOO_DEEP),
    ],
)
def test_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_json(text, "f.json")
    assert str(caught.value) == f"f.json: {problem}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("text", ['{"a": [1,,]}', '{"a": [,]}', "{,}", '{"a":,}', '{"a": [1 /**/,/**/, /**/]}'])
def test_a_comma_too_many_is_named_with_its_line(text: str) -> None:
    # The column differs between Python versions.
    with pytest.raises(ConfigError, match=r"^f: line 1, column \d+: not JSON: "):
        parse_json(text, "f")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, "x",\n], // why\n}', {"a": [1, "x"]}),
        ('{"a": [[1,],{"b": true , },],}', {"a": [[1], {"b": True}]}),
        ("// why\n{} // why", {}),
        ("/* why\n ** /*/ {} /**/", {}),
        ('{"a": 1, // why, {"b": 2}\r\n "b": /* [ */ 2}', {"a": 1, "b": 2}),
        (
            '{"u": "http://x/*,]*/", "q": "\\",]//", /* " */ "e": "\\\\",}',
            {"u": "http://x/*,]*/", "q": '",]//', "e": "\\"},
        ),
    ],
)
def test_comments_and_trailing_commas(text: str, data: Any) -> None:
    """As in the files of VS Code and Cursor."""
    assert parse_json(text, "f") == data


def test_the_bound_on_depth_is_what_the_error_says() -> None:
    for inside in ("", "1"):
        text = "[" * DEPTH + inside + "]" * DEPTH
        assert parse_json(text, "f") == parse_yaml(text, "f")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_what_json_writes_is_read_back(data: Any) -> None:
    assert parse_json(json.dumps(data), "f") == data
