"""The picture of the imports in docs/design.md is that of the code."""

from __future__ import annotations

from tests.unit import picture


def test_the_page_has_the_picture_of_the_code() -> None:
    assert picture.in_page(picture.PAGE.read_text(encoding="utf-8")) == picture.picture(), "run: make golden"


def test_arrows_that_follow_from_others_are_left_out() -> None:
    assert picture.reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": ["b"], "b": ["c"], "c": []}


def test_floors() -> None:
    assert picture.floors({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"c"}}) == [["a"], ["b", "d"], ["c"]]
