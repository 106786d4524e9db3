from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config.config_error import Problem
from mcp_extproc.config.variables import substitute

ENVIRON = {"A": "alpha", "B_2": "beta", "EMPTY": "", "NESTED": "${A}", "DOLLAR": "$"}


def replaced(value: Any) -> Any:
    problems: list[Problem] = []
    result = substitute(value, ENVIRON, problems)
    assert problems == []
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "alpha"),
        ("x${A}y${B_2}z", "xalphaybetaz"),
        ("${A}${A}", "alphaalpha"),
        ("${env:A}", "alpha"),
        ("${env:NOPE:-d}", "d"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NOPE:-d}", "d"),
        ("${NOPE:-}", ""),
        ("${NOPE:-http://x:80/a?b=c#d e}", "http://x:80/a?b=c#d e"),
        ("${NOPE:-:-}", ":-"),
        ("${A:-d}", "alpha"),
        ("${NESTED}", "${A}"),
        ("${DOLLAR}{A}", "${A}"),
        ("$A", "$A"),
        ("$$", "$$"),
        ("$", "$"),
        ("{A}", "{A}"),
        ("}", "}"),
        ("", ""),
    ],
)
def test_replaced(text: str, expected: str) -> None:
    assert replaced(text) == expected


NOT_A_VARIABLE = "expected ${VAR}, ${VAR:-default} or ${env:VAR} where a value contains ${ (defaults do not nest)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${NOPE}", "the environment variable NOPE is not set: set it, or give a default with ${NOPE:-default}"),
        ("${env:NOPE}", "the environment variable NOPE is not set: set it, or give a default with ${NOPE:-default}"),
        (
            "${input:token}",
            "${input:...} is a prompt, and the gateway can't prompt: use ${VAR} and set it in the environment",
        ),
        ("${}", NOT_A_VARIABLE),
        ("${1}", NOT_A_VARIABLE),
        ("${A-x}", NOT_A_VARIABLE),
        ("${A:=x}", NOT_A_VARIABLE),
        ("${A:+x}", NOT_A_VARIABLE),
        ("${A:?x}", NOT_A_VARIABLE),
        ("${A", NOT_A_VARIABLE),
        ("${NOPE:-${A}}", NOT_A_VARIABLE),
        ("${file:A}", NOT_A_VARIABLE),
        ("${ A }", NOT_A_VARIABLE),
    ],
)
def test_refused(text: str, problem: str) -> None:
    problems: list[Problem] = []
    substitute({"servers": {"a b": {"headers": ["-", text]}}}, ENVIRON, problems)
    assert [str(problem) for problem in problems] == [f'servers["a b"].headers[1]: {problem}']


def test_every_problem_is_reported() -> None:
    problems: list[Problem] = []
    substitute({"a": "${X}", "b": ["${Y}"], "c": "${A}"}, ENVIRON, problems)
    assert [problem.path for problem in problems] == ["a", "b[0]"]


def test_only_values_change() -> None:
    data = {"${A}": ["${A}", {"k": "${A}"}], "n": 1, "f": 1.5, "t": True, "z": None}
    assert replaced(data) == {"${A}": ["alpha", {"k": "alpha"}], "n": 1, "f": 1.5, "t": True, "z": None}
    assert data["${A}"] == ["${A}", {"k": "${A}"}], "the input is left alone"


@given(st.text())
def test_text_without_braces_after_a_dollar_is_untouched(text: str) -> None:
    text = text.replace("${", "$ {")
    assert replaced(text) == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": ["\ud800"]}, "a[0]: expected text that is valid Unicode"),
        ({"a": "${BYTES}"}, "a: expected text that is valid Unicode"),
        ({"a": {"\ud800": 1}}, r'a["\ud800"]: the key is not valid Unicode'),
    ],
)
def test_text_that_is_not_unicode(value: Any, problem: str) -> None:
    """From escapes in JSON and YAML, and from an environment with arbitrary bytes."""
    problems: list[Problem] = []
    substitute(value, {"BYTES": "\udcff"}, problems)
    assert [str(found) for found in problems] == [problem]
