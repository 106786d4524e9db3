"""Merged lists that are kept: whose they are, and how much of them."""

from __future__ import annotations

from mcp_extproc.bounded import Lookups
from mcp_extproc.gateway.merged_lists import ListKey, MergedList, MergedLists
from tests.unit.gateway.support import catalog_of, config

CATALOG = catalog_of(config())
TOOLS = ListKey(CATALOG, None, None, "tools/list", b"digest")
SMALL = MergedList(b"[]", ())


def test_a_list_is_found_by_the_caller_that_got_it_last() -> None:
    lists = MergedLists()
    assert lists.like_before("1", TOOLS) is None
    lists.remember("1", TOOLS, SMALL)
    assert lists.like_before("1", TOOLS) is SMALL
    lists.remember("1", TOOLS._replace(digest=b"other"), MergedList(b"[1]", ()))
    assert lists.like_before("1", TOOLS) is None
    assert lists.lookups == Lookups(hits=1, misses=2)


def test_nothing_is_found_by_another_caller_before_it_got_the_same() -> None:
    lists = MergedLists()
    lists.remember("1", TOOLS, SMALL)
    assert lists.like_before("2", TOOLS) is None
    lists.remember("2", TOOLS, SMALL)
    assert lists.like_before("2", TOOLS) is lists.like_before("1", TOOLS) is SMALL


def test_nothing_is_found_under_another_configuration_or_in_another_list() -> None:
    """Two catalogues that were made alike are not one: who made the second one had a reason."""
    lists = MergedLists()
    lists.remember("1", TOOLS, SMALL)
    assert lists.like_before("1", TOOLS._replace(catalog=catalog_of(config()))) is None
    assert lists.like_before("1", TOOLS._replace(method="prompts/list")) is None
    assert lists.like_before("1", TOOLS) is SMALL


def test_the_lists_of_one_caller_leave_each_other_alone() -> None:
    lists = MergedLists()
    prompts, listed = TOOLS._replace(method="prompts/list"), MergedList(b"[2]", ())
    lists.remember("1", TOOLS, SMALL)
    lists.remember("1", prompts, listed)
    assert (lists.like_before("1", TOOLS), lists.like_before("1", prompts)) == (SMALL, listed)


def test_they_are_bounded_in_bytes_and_the_oldest_is_forgotten_first() -> None:
    lists = MergedLists()
    keys = [TOOLS._replace(digest=b"%d" % number) for number in range(40)]
    for number, key in enumerate(keys):
        lists.remember(str(number), key, MergedList(bytes(1 << 20), ()))
    assert lists._lists.size <= 32 << 20
    kept = [lists.like_before(str(number), key) is not None for number, key in enumerate(keys)]
    assert kept == sorted(kept), "one by one, not all at once"
    assert sum(kept) > 25


def test_callers_with_the_same_list_need_the_bytes_of_one() -> None:
    lists, text = MergedLists(), bytes(1 << 20)
    for number in range(1000):
        lists.remember(str(number), TOOLS, MergedList(text, ()))
    assert lists._lists.size < 2 << 20
    assert lists.like_before("0", TOOLS) is not None


def test_callers_are_bounded_in_bytes_too() -> None:
    lists = MergedLists()
    for number in range(20_000):
        lists.remember(f"{number:05}" + "x" * 4000, TOOLS, SMALL)
    assert lists._last.size <= 8 << 20


def test_a_list_that_would_drive_out_many_is_made_each_time() -> None:
    lists = MergedLists()
    lists.remember("1", TOOLS, MergedList(bytes(3 << 20), ()))
    assert lists.like_before("1", TOOLS) is None
    assert lists._lists.size == 0
