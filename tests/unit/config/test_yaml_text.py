from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config import ConfigError
from mcp_extproc.config.bounds import DEPTH, VALUES
from mcp_extproc.config.yaml_text import parse_yaml


def problem_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert caught.value.__context__ is None
    return str(caught.value).removeprefix("f: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("+3", 3), ("0x1F", 31), ("0o17", 15), ("010", 10), ("1e3", 1000.0), ("1.5", 1.5), (".5", 0.5),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("2024-01-01", "2024-01-01"), ("10:20", "10:20"), ("1_000", "1_000"),
        ("'12'", "12"), ('"true"', "true"), ("30s", "30s"), ("=", "="), ("!!str 12", "12"),
    ],
)  # fmt: skip
def test_scalars_of_the_core_schema(text: str, value: object) -> None:
    found = parse_yaml(f"k: {text}", "f")["k"]
    assert found == value
    assert type(found) is type(value)


def test_infinity_and_not_a_number_are_floats() -> None:
    assert parse_yaml("[.inf, -.inf]", "f") == [float("inf"), float("-inf")]
    assert str(parse_yaml(".nan", "f")) == "nan"


def test_anchors_and_merge_keys() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {z: 3}\na: *b\nb: {<<: *b, y: 9}\nc: {<<: [*b, *m]}"
    assert parse_yaml(text, "f") == {
        "base": {"x": 1, "y": 2},
        "more": {"z": 3},
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 9},
        "c": {"x": 1, "y": 2, "z": 3},
    }


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 30)
)
MERGED_LAUGHS = "a0: &a0 {k: v}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{','.join([f'*a{level - 1}'] * 10)}]}}\n" for level in range(1, 30)
)
TOO_MANY = f"more than {VALUES} values, counting aliases at each use"
TOO_DEEP = f"nested more than {DEPTH} levels deep"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key a is given twice (first on line 1)"),
        (
            "apiVersion: v1\nkind: a\napiVersion: v1",
            "line 3, column 1: the key apiVersion is given twice (first on line 1): put a line with --- between two documents",
        ),
        ("x:\n  'a b': 1\n  a b: 2", 'line 3, column 3: the key "a b" is given twice (first on line 2)'),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", 'line 2, column 13: the key "<<" is given twice (first on line 2)'),
        ("1: x", "line 1, column 1: a key is not text: put it in quotes"),
        ("true: x", "line 1, column 1: a key is not text: put it in quotes"),
        ("? [a]\n: x", "line 1, column 3: a key is not text: put it in quotes"),
        ("a: &a [*a]", "line 1, column 8: an alias refers to a node that contains it"),
        ("a: &a {b: *a}", "line 1, column 11: an alias refers to a node that contains it"),
        (LAUGHS, f"line 5, column 38: {TOO_MANY}"),
        ("[" * 100_000, f"line 1, column {DEPTH + 1}: {TOO_DEEP}"),
        ("\n".join("  " * i + "a:" for i in range(DEPTH + 5)), f"line {DEPTH + 1}, column {2 * DEPTH + 1}: {TOO_DEEP}"),
        ("a: !hidden x", "line 1, column 4: tags are not supported: put a value that begins with ! in quotes"),
        (
            "a: !!python/object/apply:os.system [x]",
            "line 1, column 4: tags are not supported: put a value that begins with ! in quotes",
        ),
        ("a: !!binary aGk=", "line 1, column 4: tags are not supported: put a value that begins with ! in quotes"),
        ("a: !!int hidden", "line 1, column 4: not a readable number: shorten it, or put it in quotes"),
        ("a: !!bool hidden", "line 1, column 4: expected true or false"),
        ("a: !!map hidden", "line 1, column 4: expected a mapping"),
        ("a: !!seq hidden", "line 1, column 4: expected a list"),
        ("a: " + "9" * 5000, "line 1, column 4: not a readable number: shorten it, or put it in quotes"),
        ("a: 1\nb: \x00", "line 2: the character U+0000 is not allowed in YAML"),
        ("a: *hidden", "line 1, column 4: not YAML: found undefined alias"),
        ("a:\n\tb: 1", ("line 2, column 1: not YAML: while scanning for the next token, found character '\\t' that cannot "
         "start any token (YAML is indented with spaces, not tabs)")),
        ("{a: b?}", "line 1, column 6: not YAML: while parsing a flow mapping on line 1, expected ',' or '}', but got '?'"),
        ("a: [b}", "line 1, column 6: not YAML: while parsing a flow sequence on line 1, expected ',' or ']', but got '}'"),
        ("a: 'x", "line 1, column 6: not YAML: while scanning a quoted scalar on line 1, found unexpected end of stream"),
        ("a: 1\n---\nb: 2", ("line 2, column 1: not YAML: expected a single document in the stream on line 1, but found "
         "another document")),
    ],
)  # fmt: skip
def test_refused(text: str, problem: str) -> None:
    assert problem_of(text) == problem


def test_merge_keys_count_as_what_they_bring() -> None:
    assert problem_of(MERGED_LAUGHS).endswith(TOO_MANY)


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#,? \n\t<0.~"), max_size=40))
def test_any_text_is_data_or_a_config_error(text: str) -> None:
    try:
        data = parse_yaml(text, "f")
    except ConfigError:
        return
    assert_plain(data)


def assert_plain(data: Any) -> None:
    if isinstance(data, dict):
        assert all(isinstance(key, str) for key in data)
    children = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    for child in children:
        assert_plain(child)
    assert data is None or type(data) in (dict, list, str, int, float, bool)
