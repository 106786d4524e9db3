"""What clients and servers are told of each other's capabilities."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp import capabilities, jsontext
from mcp_extproc.mcp.jsontext import Members
from mcp_extproc.mcp.versions import SUPPORTED
from tests.unit.mcp.strategies import json_texts

V03, V06, V11 = sorted(SUPPORTED)
LISTS = {"listChanged": True}
EVERYTHING: dict[str, Any] = {
    "completions": {},
    "logging": {},
    "prompts": LISTS,
    "resources": {**LISTS, "subscribe": True},
    "tools": LISTS,
}
"""What is told where a server that may have anything is missing."""


def members(declared: dict[str, Any]) -> Members:
    return jsontext.split(json.dumps(declared).encode())


# -- Servers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "flags"),
    [
        ({}, set()),
        ({"tools": {}, "x": {}}, {"tools", "x"}),
        # Presence counts, whatever stands there.
        ({"tools": None, "prompts": False, "logging": "x"}, {"tools", "prompts", "logging"}),
        ({"tools": {"listChanged": True}}, {"tools", "tools.listChanged"}),
        ({"prompts": {"listChanged": False}}, {"prompts"}),
        (
            {"resources": {"subscribe": True, "listChanged": True}},
            {"resources", "resources.subscribe", "resources.listChanged"},
        ),
        # Only true is true.
        ({"resources": {"subscribe": 1}}, {"resources"}),
        ({"resources": {"subscribe": "true"}}, {"resources"}),
        ({"resources": {"subscribe": {}}}, {"resources"}),
        ({"resources": {"subscribe": None, "Subscribe": True}}, {"resources"}),
        ({"resources": [True]}, {"resources"}),
        ({"tools": None, "prompts": {"listChanged": 1}}, {"tools", "prompts"}),
        (
            {"tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": False}, "logging": {}},
            {"tools", "tools.listChanged", "resources", "resources.subscribe", "logging"},
        ),
    ],
)
def test_what_a_server_offers(declared: dict[str, Any], flags: set[str]) -> None:
    assert capabilities.server_flags(members(declared)) == flags


@pytest.mark.parametrize(
    ("servers", "missing", "told"),
    [
        ([], False, {}),
        ([set()], False, {}),
        ([{"tools"}], False, {"tools": LISTS}),
        ([{"tools"}, {"prompts"}], False, {"prompts": LISTS, "tools": LISTS}),
        # The gateway tells of servers that come back, so that it does not matter whether a server does.
        ([{"tools", "tools.listChanged"}, {"resources"}], False, {"tools": LISTS, "resources": LISTS}),
        ([{"resources"}, {"resources", "resources.subscribe"}], False, {"resources": {**LISTS, "subscribe": True}}),
        ([{"completions"}, {"logging"}], False, {"completions": {}, "logging": {}}),
        # What the gateway does not carry is not promised: tasks, experimental ones.
        ([{"tasks", "experimental", "extensions", "x"}], False, {}),
        (
            [{"tools"}, {"resources", "resources.subscribe", "tasks", "experimental"}],
            False,
            {"resources": {**LISTS, "subscribe": True}, "tools": LISTS},
        ),
        ([set()], True, EVERYTHING),
        ([{"tools"}], True, EVERYTHING),
    ],
)
def test_the_sum_of_servers(servers: list[set[str]], missing: bool, told: dict[str, Any]) -> None:
    assert capabilities.union([frozenset(flags) for flags in servers], missing=missing) == told


flag_sets = st.frozensets(
    st.sampled_from(["tools", "prompts", "resources", "resources.subscribe", "logging", "tasks", "x"])
)


@given(st.lists(flag_sets, max_size=4), st.booleans())
def test_the_sum_does_not_depend_on_the_order_and_is_written_the_same(
    servers: list[frozenset[str]], missing: bool
) -> None:
    told = capabilities.union(servers, missing=missing)
    assert json.dumps(told) == json.dumps(capabilities.union(servers[::-1], missing=missing))
    assert set(told) <= set(capabilities.SERVED)


# -- Clients ----------------------------------------------------------------------------------------------------------------

FORM, URL = "elicitation.form", "elicitation.url"
CLIENT: list[tuple[dict[str, Any], str, set[str]]] = [
    ({}, V11, set()),
    ({"roots": {}}, V03, {"roots"}),
    ({"roots": {"listChanged": True}}, V03, {"roots", "roots.listChanged"}),
    ({"roots": {"listChanged": 1}}, V11, {"roots"}),
    ({"roots": {"listChanged": True}}, V11, {"roots", "roots.listChanged"}),
    ({"roots": {"listChanged": False}}, V11, {"roots"}),
    ({"sampling": {}, "roots": {}}, V03, {"sampling", "roots"}),
    ({"sampling": {}}, V03, {"sampling"}),
    ({"sampling": {"tools": {}}}, V11, {"sampling", "sampling.tools"}),
    ({"sampling": {"tools": {}}}, V06, {"sampling"}),
    ({"sampling": {"tools": True}}, V11, {"sampling"}),
    # A server has no business with what other servers told the client.
    ({"sampling": {"context": {}}}, V11, {"sampling"}),
    ({"sampling": {"tools": {}, "context": {}}}, V11, {"sampling", "sampling.tools"}),
    # Elicitation came with 2025-06-18, its modes with 2025-11-25; without modes it means forms.
    ({"elicitation": {}}, V03, set()),
    ({"elicitation": {}}, V06, {"elicitation", FORM}),
    ({"elicitation": {}}, V11, {"elicitation", FORM}),
    ({"elicitation": {"form": {}}}, V11, {"elicitation", FORM}),
    ({"elicitation": {"url": {}}}, V11, {"elicitation", URL}),
    ({"elicitation": {"form": {}, "url": {}}}, V11, {"elicitation", FORM, URL}),
    ({"elicitation": {"form": {}, "url": {}}}, V06, {"elicitation", FORM}),
    ({"elicitation": {"other": {}}}, V11, {"elicitation", FORM}),
    # What is no object is not declared.
    ({"roots": True, "sampling": [], "elicitation": "x"}, V11, set()),
    ({"roots": None, "sampling": None, "elicitation": None}, V11, set()),
    ({"roots": True, "sampling": None, "elicitation": []}, V11, set()),
    ({"tasks": {}, "experimental": {"x": {}}, "extensions": {}}, V11, set()),
    ({"tasks": {"requests": {}}, "experimental": {"x": {}}, "Roots": {}}, V11, set()),
]


@pytest.mark.parametrize(("declared", "version", "flags"), CLIENT)
def test_what_a_client_can_be_asked_for(declared: dict[str, Any], version: str, flags: set[str]) -> None:
    assert capabilities.client_flags(members(declared), version) == flags


TOLD: list[tuple[set[str], str, dict[str, Any]]] = [
    (set(), V11, {}),
    ({"roots"}, V11, {"roots": {}}),
    ({"roots", "roots.listChanged"}, V03, {"roots": LISTS}),
    ({"sampling"}, V03, {"sampling": {}}),
    ({"sampling", "sampling.tools"}, V11, {"sampling": {"tools": {}}}),
    ({"elicitation", FORM}, V11, {"elicitation": {"form": {}}}),
    ({"elicitation", URL}, V11, {"elicitation": {"url": {}}}),
    ({"elicitation", FORM, URL}, V11, {"elicitation": {"form": {}, "url": {}}}),
    ({"elicitation", FORM, URL}, V06, {"elicitation": {}}),
    # Before 2025-11-25 `{}` means forms, which this client does not take.
    ({"elicitation", URL}, V06, {}),
]


@pytest.mark.parametrize(("flags", "version", "told"), TOLD)
def test_what_servers_are_told(flags: set[str], version: str, told: dict[str, Any]) -> None:
    text = capabilities.declared_to_servers(frozenset(flags), version)
    assert json.loads(text) == told
    # It travels in a header.
    assert text.isascii()
    assert b"\n" not in text


@pytest.mark.parametrize(("declared", "version", "flags"), CLIENT)
def test_a_server_is_told_no_more_than_the_client_declared(
    declared: dict[str, Any], version: str, flags: set[str]
) -> None:
    """And what it is told reads as the same flags again: so does the repair listener."""
    for asked in (V03, V06, V11):
        again = capabilities.client_flags(
            members(json.loads(capabilities.declared_to_servers(frozenset(flags), asked))), asked
        )
        assert again <= flags
        if asked == version:
            assert again == flags


_NOTHING: dict[str, Any] = {}
parts: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["roots", "sampling", "elicitation", "tasks"]),
    st.dictionaries(
        st.sampled_from(["listChanged", "tools", "context", "form", "url"]),
        st.just(_NOTHING) | st.booleans(),
        max_size=3,
    ),
)


@given(parts, st.sampled_from([V03, V06, V11]))
def test_servers_read_what_the_client_meant(declared: dict[str, Any], version: str) -> None:
    """What is declared to a server means to it just what the client's own words meant."""
    flags = capabilities.client_flags(members(declared), version)
    told = capabilities.declared_to_servers(flags, version)
    assert told.isascii()
    if not any(flag.startswith("elicitation.") for flag in flags):
        flags -= {"elicitation"}  # a client that knows only URLs, at a version without: it is asked for neither
    assert capabilities.client_flags(members(json.loads(told)), version) == flags


declared_texts = st.dictionaries(
    st.sampled_from(["roots", "sampling", "elicitation", "resources", "tools", "x"]), json_texts, max_size=4
)


@given(declared_texts, st.sampled_from([V03, V06, V11]))
def test_whatever_is_declared_is_read(declared: dict[str, str], version: str) -> None:
    """Values nobody expects are no reason to fail."""
    text = "{" + ",".join(f'"{name}":{value}' for name, value in declared.items()) + "}"
    flags = capabilities.client_flags(jsontext.split(text.encode()), version)
    assert {flag.partition(".")[0] for flag in flags} <= {"roots", "sampling", "elicitation"} & set(declared)
    assert {flag.partition(".")[0] for flag in capabilities.server_flags(jsontext.split(text.encode()))} == set(
        declared
    )
