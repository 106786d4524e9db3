"""Operators' regular expressions: RE2's, and linear."""

from __future__ import annotations

import pytest

from mcp_extproc.config.patterns import matcher


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("read", "file_read_all", True),
        ("^read", "file_read_all", False),
        ("(?i)^READ_[a-z]+$", "read_all", True),
        ("^é.$", "é中", True),
        # The end is the end, also in front of a line break.
        ("read$", "read\n", False),
        (r"\{,3\}", "a{,3}", True),
    ],
)
def test_expressions_are_searched_anywhere(pattern: str, text: str, found: bool) -> None:
    assert matcher(pattern)(text) is found


@pytest.mark.parametrize("pattern", ["(x+x+)+y", "^(x|xx|xxx)*$y", "(x*)*y"])
def test_no_name_takes_longer_than_its_length(pattern: str) -> None:
    """With backtracking this test would not end."""
    assert not matcher(pattern)("x" * 60_000)


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        ("hidden(?=x)", "excludeRegex"),
        ("(?!hidden)", "excludeRegex"),
        ("(?<=hidden)x", "excludeRegex"),
        ("(?<!hidden)x", "excludeRegex"),
        ("(?>hidden)", "a|b"),
        ("(h)(?(1)a|b)", "a|b"),
        (r"(hidden)\1", "once more"),
        ("(?P<hidden>a)(?P=hidden)", "once more"),
        ("(?#hidden)", "leave it out"),
        ("(?x)hidden", "flags are i, m and s"),
        (r"hidden\Z", r"\z"),
        (r"hidden\u20ac", r"\x{20AC}"),
        ("hidden*+", "one of them"),
        ("hidden{1001}", "+ or *"),
        ("((hidden{100}){100}){100}", "+ or *"),
        ("hidden{,3}", "{0,2}"),
        ("hidden{99999999999999999999}", "{0,2}"),
    ],
)
def test_what_re2_refuses_is_named_with_what_to_write_instead(pattern: str, instead: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression of RE2") as error:
        matcher(pattern)
    assert instead in str(error.value)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    "pattern", ["hidden(", "hidden)", "[hidden", "*hidden", r"hidden\q", "hidden\\", "[[:hidden:]]"]
)
def test_what_is_no_expression_at_all(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression: ") as error:
        matcher(pattern)
    assert "hidden" not in str(error.value)
