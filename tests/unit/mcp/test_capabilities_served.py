"""Capabilities: presence counts and not truth, and nothing is declared that the gateway does not carry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp import capabilities, jsontext
from mcp_extproc.mcp.capabilities import Flags, declared_to_servers, union
from mcp_extproc.mcp.versions import SUPPORTED

V03, V06, V11 = sorted(SUPPORTED)


def client_flags(declared: object, version: str) -> Flags:
    return capabilities.client_flags(jsontext.split(json.dumps(declared).encode()), version)


def server_flags(declared: object) -> Flags:
    return capabilities.server_flags(jsontext.split(json.dumps(declared).encode()))


@pytest.mark.parametrize(
    ("declared", "version", "flags"),
    [
        ({}, V11, set()),
        ({"sampling": {}, "roots": {}}, V03, {"sampling", "roots"}),
        ({"roots": {"listChanged": True}}, V11, {"roots", "roots.listChanged"}),
        ({"roots": {"listChanged": False}}, V11, {"roots"}),
        ({"roots": {"listChanged": 1}}, V11, {"roots"}),
        ({"roots": True, "sampling": None, "elicitation": []}, V11, set()),
        ({"elicitation": {}}, V03, set()),
        ({"elicitation": {}}, V06, {"elicitation", "elicitation.form"}),
        ({"elicitation": {}}, V11, {"elicitation", "elicitation.form"}),
        ({"elicitation": {"form": {}}}, V11, {"elicitation", "elicitation.form"}),
        ({"elicitation": {"url": {}}}, V11, {"elicitation", "elicitation.url"}),
        ({"elicitation": {"form": {}, "url": {}}}, V11, {"elicitation", "elicitation.form", "elicitation.url"}),
        ({"elicitation": {"form": {}, "url": {}}}, V06, {"elicitation", "elicitation.form"}),
        ({"sampling": {"tools": {}, "context": {}}}, V11, {"sampling", "sampling.tools"}),
        ({"sampling": {"tools": {}}}, V06, {"sampling"}),
        ({"tasks": {}, "experimental": {"x": {}}, "extensions": {}}, V11, set()),
    ],
)
def test_what_a_client_can_be_asked_for(declared: dict[str, Any], version: str, flags: set[str]) -> None:
    assert client_flags(declared, version) == flags


_NOTHING: dict[str, Any] = {}
parts: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["roots", "sampling", "elicitation", "tasks"]),
    st.dictionaries(
        st.sampled_from(["listChanged", "tools", "context", "form", "url"]),
        st.just(_NOTHING) | st.booleans(),
        max_size=3,
    ),
)


@given(parts, st.sampled_from(SUPPORTED))
def test_servers_read_what_the_client_meant(declared: dict[str, Any], version: str) -> None:
    """What is declared to a server means to it just what the client's own words meant."""
    flags = client_flags(declared, version)
    told = declared_to_servers(flags, version)
    assert told.isascii()
    if not any(flag.startswith("elicitation.") for flag in flags):
        flags -= {"elicitation"}  # a client that knows only URLs, at a version without: it is asked for neither
    assert client_flags(json.loads(told), version) == flags


def test_a_server_at_an_older_version_is_told_in_its_words() -> None:
    only_urls = client_flags({"elicitation": {"url": {}}}, V11)
    assert json.loads(declared_to_servers(only_urls, V11)) == {"elicitation": {"url": {}}}
    assert json.loads(declared_to_servers(only_urls, V06)) == {}  # there `{}` would mean forms
    both = client_flags({"elicitation": {"url": {}, "form": {}}}, V11)
    assert json.loads(declared_to_servers(both, V06)) == {"elicitation": {}}


def test_servers() -> None:
    declared = {"tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": False}, "logging": {}}
    assert server_flags(declared) == {"tools", "tools.listChanged", "resources", "resources.subscribe", "logging"}
    assert server_flags({"tools": None, "prompts": {"listChanged": 1}}) == {"tools", "prompts"}


def test_the_sum_of_servers() -> None:
    tools, more = frozenset({"tools"}), frozenset({"resources", "resources.subscribe", "tasks", "experimental"})
    assert union([tools], missing=False) == {"tools": {"listChanged": True}}
    assert union([tools, more], missing=False) == {
        "resources": {"listChanged": True, "subscribe": True}, "tools": {"listChanged": True},
    }  # fmt: skip
    assert union([], missing=False) == {}
    everything = union([tools], missing=True)
    assert set(everything) == {"completions", "logging", "prompts", "resources", "tools"}
    assert everything["resources"] == {"listChanged": True, "subscribe": True}
