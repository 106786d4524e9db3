from __future__ import annotations

import pytest

from mcp_extproc.config.switches import NamedOnes, names_in


def test_lists_name_what_is_off_or_all_that_is_on() -> None:
    names = names_in(["Notes ", "a"])
    assert names is not None
    off, only = NamedOnes(names, are_off=True, source=""), NamedOnes(names, are_off=False, source="")
    for name, named in (("notes", True), (" NOTES", True), ("a", True), ("b", False), ("", False)):
        assert (off.turns_off(name), only.turns_off(name)) == (named, not named)
    assert NamedOnes(frozenset(), are_off=False, source="").turns_off("a"), "an empty list names none"


def test_no_list_is_none() -> None:
    assert names_in(None) is None
    assert names_in([]) == frozenset()


@pytest.mark.parametrize("value", ["a", {"a": True}, [1], ["a", None], True])
def test_something_else_may_have_meant_to_turn_one_off(value: object) -> None:
    with pytest.raises(ValueError, match="expected a list of servers' names"):
        names_in(value)
