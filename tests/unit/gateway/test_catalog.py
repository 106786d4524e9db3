"""What is known of each server before a request comes."""

from __future__ import annotations

import pytest

from mcp_extproc.config import Tools
from tests.unit.gateway.support import catalog_of, config


def test_entries_keep_the_order_of_the_configuration() -> None:
    assert list(catalog_of(config({"z": {}, "a": {}, "m": {}})).entries) == ["z", "a", "m"]


def test_an_entry_says_where_and_how_a_server_is_asked() -> None:
    servers = {"a": {"url": "https://a/x%20y?k=v", "headers": {"X-Key": "hidden"}, "discovery_timeout": "2s"}}
    entry = catalog_of(config(servers)).entries["a"]
    assert (entry.name, entry.path, entry.headers, entry.discovery_timeout) == (
        "a",
        "/x%20y?k=v",
        (("x-key", "hidden"),),
        2.0,
    )
    assert "hidden" not in repr(entry)


@pytest.mark.parametrize(
    ("tools", "offered", "not_offered"),
    [
        (Tools(), "abc", ""),
        (Tools(include=("a",)), "a", "bc"),
        (Tools(exclude=("a",)), "bc", "a"),
        (Tools(include=("a",), exclude=("a",)), "", "abc"),
        (Tools(includeRegex=("[ab]",), exclude=("b",)), "a", "bc"),
        (Tools(include=("a",), excludeRegex=(".",)), "", "abc"),
        (Tools(include=("c",), includeRegex=("a",)), "ac", "b"),
    ],
)
def test_exclude_wins(tools: Tools, offered: str, not_offered: str) -> None:
    assert all(tools.allowing()(name) for name in offered)
    assert not any(tools.allowing()(name) for name in not_offered)


def test_regular_expressions_are_searched_anywhere() -> None:
    assert Tools(includeRegex=("read",)).allowing()("file_read_all")
    assert not Tools(includeRegex=("^read",)).allowing()("file_read_all")


@pytest.mark.parametrize("capability", ["tools", "prompts"])
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a__x", ("a", "x")),
        ("bee__x__y", ("b", "x__y")),
        ("b__x", None),
        ("x", None),
        ("a__", None),
    ],
)
def test_resolving(name: str, found: tuple[str, str] | None, capability: str) -> None:
    catalog = catalog_of(config({"a": {"tools": {"exclude": ["hidden"]}}, "b": {"prefix": "bee"}}))
    resolved = catalog.resolve(capability, name)
    assert (resolved and (resolved[0].name, resolved[1])) == found


def test_only_what_resolves_back_is_visible() -> None:
    catalog = catalog_of(config({"a": {"prefix": "", "tools": {"exclude": ["hidden"]}}, "b": {}}))
    assert catalog.visible("tools", "a", "x") == "x"
    assert catalog.visible("tools", "a", "hidden") is None
    assert catalog.visible("tools", "a", "b__x") is None
    assert catalog.visible("tools", "b", "x") == "b__x"
    # Of "b" itself nothing is left to call, so that the name falls to the server without prefix.
    assert catalog.visible("tools", "a", "b__") == "b__"


def test_filters_are_for_tools_and_not_for_prompts() -> None:
    catalog = catalog_of(config({"a": {"tools": {"exclude": ["hidden"]}}}))
    assert catalog.resolve("tools", "a__hidden") is None
    assert catalog.visible("tools", "a", "hidden") is None
    found = catalog.resolve("prompts", "a__hidden")
    assert found is not None
    assert (found[0].name, found[1]) == ("a", "hidden")
    assert catalog.visible("prompts", "a", "hidden") == "a__hidden"


@pytest.mark.parametrize(
    ("servers", "more", "several", "prefixed"),
    [
        ({"a": {}}, {}, False, ""),
        ({"a": {"prefix": "x"}}, {}, False, ""),
        ({"a": {}, "b": {}}, {}, True, "ab"),
        ({"a": {"prefix": ""}, "b": {}}, {}, True, "b"),
        ({"a": {}, "b": {}}, {"resources": "unprefixed"}, True, ""),
    ],
)
def test_whether_clients_have_to_tell_servers_apart(
    servers: dict[str, dict[str, str]], more: dict[str, str], several: bool, prefixed: str
) -> None:
    catalog = catalog_of(config(servers, **more))
    assert catalog.several is several
    assert catalog.uris.may_change is several
    assert [name for name in servers if catalog.uris.visible(name, "x:y") != "x:y"] == [*prefixed]


def test_a_prefix_becomes_the_start_of_a_scheme() -> None:
    """Clients' URL classes put schemes into lower case, and know no underscore in them."""
    catalog = catalog_of(config({"a": {"prefix": "Git_Hub"}, "b": {"prefix": "7zip"}}))
    assert catalog.uris.visible("a", "x:y") == "git-hub+x:y"
    assert catalog.uris.visible("b", "x:y") == "s-7zip+x:y"


def test_other_rules_are_another_offer() -> None:
    checksums = {
        catalog_of(config({"a": {}}, **more)).checksum
        for more in (
            {},
            {"authorization": {"default": "allow"}},
            {"authorization": {"default": "deny"}},
            {"authorization": {"rules": [{"action": "allow", "tools": ["x"]}]}},
            {"authorization": {"rules": [{"action": "allow", "tools": [{"regex": "x"}]}]}},
            {"authorization": {"rules": [{"action": "allow", "when": "request.mcp.tool == 'x'"}]}},
        )
    }
    assert len(checksums) == 6
