"""Whose tool a name is, and how names travel in headers."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_extproc.config import GatewayConfig
from mcp_extproc.mcp.names import Names, header_value
from tests.unit.mcp.strategies import tool_names

PREFIX_CHARACTERS = string.ascii_letters + string.digits + "_.-"

prefixes = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.one_of(st.text("_a.", max_size=4), st.text(PREFIX_CHARACTERS, max_size=10)),
    min_size=1,
)
separators = st.one_of(
    st.sampled_from(["__", "_", ".", "/", "::"]), st.text(PREFIX_CHARACTERS + "/:", min_size=1, max_size=4)
)
own_separators = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.one_of(st.just(""), separators), max_size=2)


def names_of(prefixes: dict[str, str], separator: str, own: dict[str, str]) -> Names:
    """Names of servers, some with separators of their own."""
    return Names({server: prefix + own.get(server, separator) if prefix else "" for server, prefix in prefixes.items()})


def configured(prefixes: dict[str, str], separator: str, own: dict[str, str]) -> Names | None:
    """The names of a configuration that is accepted, or ``None``."""
    servers = {
        server: {"url": "http://a/", "prefix": prefix} | ({"separator": own[server]} if server in own else {})
        for server, prefix in prefixes.items()
    }
    try:
        GatewayConfig.model_validate({"servers": servers, "separator": separator})
    except ValidationError:
        return None
    return names_of(prefixes, separator, own)


@given(prefixes, separators, own_separators, tool_names)
def test_names_come_back_to_their_server(
    prefixes: dict[str, str], separator: str, own: dict[str, str], tool: str
) -> None:
    names = configured(prefixes, separator, own)
    if names is None:
        return
    for server, prefix in prefixes.items():
        if prefix:
            assert names.split(names.join(server, tool)) == (server, tool)


@given(prefixes, separators, own_separators, st.text("_a.", max_size=12))
def test_a_name_that_is_split_joins_to_itself(
    prefixes: dict[str, str], separator: str, own: dict[str, str], name: str
) -> None:
    names = names_of(prefixes, separator, own)
    found = names.split(name)
    assert found is None or names.join(*found) == name


NAMES = Names({"git": "git_", "hub": "git_hub_", "rest": "", "long": "git_hub_extra_"})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("git_status", ("git", "status")),
        ("git_hub_issue", ("hub", "issue")),
        ("git_hub_extra_x", ("long", "x")),
        ("git_hub_extra_", ("hub", "extra_")),
        ("git_hub_", ("git", "hub_")),
        ("git_", ("rest", "git_")),
        ("git", ("rest", "git")),
        ("Git_status", ("rest", "Git_status")),
        ("other", ("rest", "other")),
        ("git_a_b__c", ("git", "a_b__c")),
        ("", None),
    ],
)
def test_the_longest_prefix_wins_and_the_empty_one_takes_the_rest(name: str, found: tuple[str, str] | None) -> None:
    assert NAMES.split(name) == found


def test_the_order_of_servers_does_not_matter() -> None:
    servers = {"git": "git_", "hub": "git_hub_", "long": "git_hub_extra_"}
    turned = Names(dict(reversed(servers.items())))
    for name in ("git_x", "git_hub_x", "git_hub_extra_x"):
        assert turned.split(name) == NAMES.split(name)


@pytest.mark.parametrize("name", ["gh__", "gh", "gh_x", "x__y", "GH__x", ""])
def test_names_of_nobody(name: str) -> None:
    """What no server's prefix begins is no tool."""
    assert Names({"github": "gh__"}).split(name) is None


def test_one_server_without_prefix_takes_names_as_they_are() -> None:
    assert Names({"only": ""}).split("a__b") == ("only", "a__b")
    assert Names({"only": ""}).join("only", "a__b") == "a__b"


def test_of_several_servers_without_prefix_none_takes_the_rest() -> None:
    names = Names({"a": "", "b": "", "c": "c_"})
    assert names.sharing == {"a", "b"}
    assert names.split("x") is None
    assert names.split("c_x") == ("c", "x")
    assert names.join("a", "x") == "x"


# -- Headers --------------------------------------------------------------------------------------------------------------


def decoded(value: str) -> str:
    """As 2026-07-28 basic/transports/streamable-http, Value Encoding, has servers read it."""
    if value.startswith("=?base64?") and value.endswith("?="):
        return base64.b64decode(value[9:-2], validate=True).decode()
    return value


@given(st.one_of(tool_names, st.text("=?base64 \t\r\n\0A", max_size=30)))
def test_header_values_are_safe_and_come_back(text: str) -> None:
    value = header_value(text)
    assert all("\x20" <= char <= "\x7e" for char in value)
    assert value == value.strip()
    assert decoded(value) == text


@pytest.mark.parametrize(
    "text", ["issue_read", "a b", "a=?b", "=?base64?", "?=", "=?BASE64?eA==?=", "~!#$%&'*+-.^`|,;:", ""]
)
def test_values_that_go_as_they_are(text: str) -> None:
    assert header_value(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a\r\nb", "=?base64?YQ0KYg==?="),
        ("a\rb", "=?base64?YQ1i?="),
        ("a\nb", "=?base64?YQpi?="),
        ("a\0b", "=?base64?YQBi?="),
        ("a\tb", "=?base64?YQli?="),
        ("a\x7fb", "=?base64?YX9i?="),
        (" a", "=?base64?IGE=?="),
        ("a ", "=?base64?YSA=?="),
        (" ", "=?base64?IA==?="),
        ("\u00e9", "=?base64?w6k=?="),
        ("\u2028", "=?base64?4oCo?="),
        ("\U0001f600", "=?base64?8J+YgA==?="),
        ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ("=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="),
    ],
)
def test_values_that_are_encoded(text: str, value: str) -> None:
    assert header_value(text) == value
