"""Other people's files, read and written without a change of meaning."""

from __future__ import annotations

import json

import pytest
import yaml

from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.envoy.attach import document

YAML = """\
flow: {list: [1, 2], yes: yes, 'quoted': "x\\ty"}
mode: 0600
exponent: 1e3
date: 2020-01-01
tilde: ~
nothing:
off: off
'5': '5'
"@type": type.googleapis.com/x
code: |
  function f()
    -- a comment of Lua's
  end
empty: {}
none: []
long: one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
"""


def test_yaml_is_written_as_it_was_read() -> None:
    read = document.read(YAML, "envoy.yaml")
    assert read.write(read.data) == YAML.replace("nothing:\n", "nothing: null\n")


def test_aliases_are_written_out_each_by_itself() -> None:
    read = document.read("a: &x {b: [1]}\nc: *x\n", "envoy.yaml")
    read.data["a"]["b"].append("2")
    assert read.write(read.data) == "a: {b: [1, '2']}\nc: {b: [1]}\n"


@pytest.mark.parametrize(
    "text", ["y", "N", "1e3", "1_000", "0x1f", "007", "yes", "null", "~", "nan", "1.5", "*", "", " a", "a: b"]
)
def test_our_own_text_is_text_to_envoy(text: str) -> None:
    """Envoy takes more plain words for booleans and numbers than PyYAML."""
    assert document.to_yaml({"name": text, "long": ["x" * 100]}).startswith(f"name: '{text}'\n")


def test_our_own_values() -> None:
    ours = {
        "flag": True,
        "duration": "0s",
        "list": [{"a": 1}],
        "text": "mcp/notes",
        "special": "a, [b]: {c} # d",
        "long": ["x" * 100],
    }
    text = document.to_yaml(ours)
    assert yaml.safe_load(text) == ours
    assert text.splitlines()[:4] == ["flag: true", "duration: 0s", "list: [{a: 1}]", "text: mcp/notes"]


def test_whole_numbers_have_no_fraction() -> None:
    """Envoy would take ``2.0`` for text in a ``google.protobuf.Struct``."""
    assert document.to_yaml({"a": 2.0, "b": 0.5, "c": ["x" * 100]}).startswith("a: 2\nb: 0.5\n")


def test_json_stays_json() -> None:
    text = '{"b": 1, "a": [true, null, 1.5, "\\u00e9"]}'
    read = document.read(text, "envoy.json")
    assert json.loads(read.write(read.data)) == json.loads(text)
    assert list(read.data) == ["b", "a"]
    assert read.write(read.data).startswith('{\n  "b": 1,')


def test_yaml_in_braces_is_yaml() -> None:
    read = document.read("{a: 1}", "envoy.yaml")
    assert read.write(read.data) == "{a: 1}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: the key a is given twice"),
        ('{"a": 1, "a": 2}', "the key a is given twice"),
        ("a: [1\nb: 2\n", "line 2"),
        ("a: !!binary aaaa\n", "tags such as binary"),
        ("a: &x [*x]\n", "alias of itself"),
        ("- a\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("[a]: 1\n", "a key is not text"),
        ("a: \x07\n", "not allowed in YAML"),
        ('{"a": ' * 201 + "1" + "}" * 201, "nested more than 200 levels deep"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, "nested more than 200 levels deep"),
        ("a: " + "[" * 100_000, "nested more than 200 levels deep"),
        (f'{{"a": [{"1," * 2_000_000}1]}}', "more than 2000000 values"),
        (f'{{"a": {"9" * 5000}}}', "a number has too many digits"),
        ('{"a": 1e999}', "a number is too large"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": ["\\ud800"]}', "half a character"),
        ('{"a": {"\\ud800": 1}}', "half a character"),
    ],
)
def test_what_can_not_be_read(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        document.read(text, "envoy.yaml")
    assert str(caught.value).startswith("envoy.yaml: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ['{"a": ' * 200 + "1" + "}" * 200 + "\n", "{a: " * 200 + "1" + "}" * 200 + "\n"])
def test_the_deepest_file_is_written_again(text: str) -> None:
    read = document.read(text, "envoy")
    assert document.read(read.write(read.data), "envoy").data == read.data


def test_a_small_file_unfolds_to_no_end() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 2000000 values"):
        document.read("\n".join(lines), "envoy.yaml")
