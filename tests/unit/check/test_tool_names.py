"""What ``check`` says of names, filters and rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mcp_extproc.check.tool_names import Names, Problem, problems
from mcp_extproc.config import GatewayConfig


def config(servers: Mapping[str, Mapping[str, Any]], **more: Any) -> GatewayConfig:
    sections = {name: {"url": f"http://localhost/{name}", **section} for name, section in servers.items()}
    return GatewayConfig.model_validate({"servers": sections, **more})


def found(
    servers: Mapping[str, Mapping[str, Any]], listed: Mapping[str, Names], **more: Any
) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.server) for problem in problems(config(servers, **more), listed)]


def only(servers: Mapping[str, Mapping[str, Any]], listed: Mapping[str, Names], **more: Any) -> Problem:
    [problem] = problems(config(servers, **more), listed)
    return problem


def test_nothing_is_wrong() -> None:
    listed = {"a": {"tools": ["x", "y"], "prompts": ["x"]}, "b": {"tools": ["x"], "resources": ["file:///x"]}}
    servers = {"a": {"tools": {"include": ["x"], "excludeRegex": ["^y"]}}, "b": {}}
    assert found(servers, listed) == []


@pytest.mark.parametrize("own", [" x", "x\n", "a\x1b[2J", "x\u200b", "", "x" * 1022])
@pytest.mark.parametrize("kind", ["tools", "prompts"])
def test_a_name_that_is_not_served(kind: str, own: str) -> None:
    problem = only({"a": {}}, {"a": {kind: [own, "y"]}})
    assert (problem.kind, problem.server) == ("name_not_served", "a")
    assert problem.text.isprintable()


@pytest.mark.parametrize("kind", ["tools", "prompts"])
def test_the_length_of_a_name_counts_with_its_prefix(kind: str) -> None:
    own = "x" * 60
    assert found({"ab": {}}, {"ab": {kind: [own]}}) == []
    problem = only({"abc": {}}, {"abc": {kind: [own]}})
    assert (problem.kind, problem.server) == ("name_too_long", "abc")
    assert "65 characters" in problem.text
    assert found({"abc": {"prefix": "a"}}, {"abc": {kind: [own]}}) == []


@pytest.mark.parametrize("name", ["a.b", "a/b", "a b", "ä"])
def test_characters_that_some_clients_refuse(name: str) -> None:
    problem = only({"a": {}}, {"a": {"tools": [name]}})
    assert problem.kind == "name_characters"
    assert problem.text.isprintable()


def test_the_separator_and_prefix_count_too() -> None:
    assert found({"a.b": {}}, {"a.b": {"tools": ["x"]}}) == [("name_characters", "a.b")]
    assert found({"a": {}}, {"a": {"tools": ["x"]}}, separator="/") == [("name_characters", "a")]


def test_names_that_meet_without_a_prefix() -> None:
    servers = {"a": {"prefix": ""}, "b": {"prefix": ""}, "c": {}}
    listed = {"a": {"tools": ["x", "y"]}, "b": {"tools": ["x", "z"], "prompts": ["y"]}, "c": {"tools": ["x"]}}
    problem = only(servers, listed)
    assert (problem.kind, problem.server) == ("name_shared", None)
    assert "a and b both have the tool 'x'" in problem.text
    assert found({**servers, "b": {"prefix": "", "tools": {"exclude": ["x"]}}}, listed) == []


def test_without_a_main_endpoint_names_are_those_of_the_others() -> None:
    servers = {"r.a": {"prefix": "a"}, "s.a": {"prefix": "a"}, "idle": {}}
    virtual = {"r": {"servers": {"r.a": "all"}}, "s": {"servers": {"s.a": "all"}}, "t": {"servers": {"s.a": "all"}}}
    listed = {name: {"tools": ["x", "y" * 64]} for name in servers}
    assert found(servers, listed, virtual_servers=virtual, main_endpoint=False) == [
        ("name_too_long", "r.a"),
        ("name_too_long", "s.a"),
    ]


def test_what_is_filtered_out_has_no_name() -> None:
    servers = {"a": {"tools": {"exclude": ["x" * 100]}}}
    assert found(servers, {"a": {"tools": ["x" * 100, "y"]}}) == []


def test_a_name_behind_another_servers_prefix() -> None:
    problem = only({"a": {"prefix": ""}, "b": {}}, {"a": {"tools": ["b__x", "c__x"]}, "b": {"tools": ["y"]}})
    assert (problem.kind, problem.server) == ("name_hidden", "a")
    assert "belongs to b" in problem.text


def test_a_name_that_is_listed_twice() -> None:
    assert found({"a": {}}, {"a": {"tools": ["x", "x", "y"]}}) == [("name_twice", "a")]


@pytest.mark.parametrize(
    ("key", "value"),
    [("include", "serch"), ("exclude", "serch"), ("includeRegex", "^serch"), ("excludeRegex", "^serch$")],
)
def test_filters_about_nothing(key: str, value: str) -> None:
    section: dict[str, Any] = {"tools": {key: [value]}}
    if key.startswith("include"):
        section["tools"][key].append("search")
    problem = only({"a": section}, {"a": {"tools": ["search"]}})
    assert (problem.kind, problem.server) == ("filter_matches_nothing", "a")
    assert f"tools.{key} {value!r}" in problem.text


def test_a_filter_that_leaves_nothing() -> None:
    assert found({"a": {"tools": {"excludeRegex": ["."]}}}, {"a": {"tools": ["x"]}}) == [("nothing_offered", "a")]


def test_a_server_with_nothing() -> None:
    assert found({"a": {}}, {"a": {"tools": [], "prompts": []}}) == [("nothing_listed", "a")]


def test_uris_of_several_servers() -> None:
    listed = {name: {"resources": ["file:///x", "file:///x"], "tools": ["x"]} for name in "ab"}
    assert found({"a": {}, "b": {}}, listed) == []
    assert found({"a": {}, "b": {}}, listed, resources="unprefixed") == [("uri_shared", None)]


def test_rate_limits_about_nothing() -> None:
    def limit(**match: str) -> dict[str, Any]:
        return {"requests": 1, "per": "second", "match": match}

    listed = {"a": {"tools": ["x"]}, "b": {"tools": ["y"]}}
    limits = [limit(tool="x"), limit(tool="z"), limit(tool="x", server="b"), limit(server="a")]
    servers: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    assert found(servers, listed, rate_limits=limits) == [
        ("rate_limit_matches_nothing", None), ("rate_limit_matches_nothing", "b"),
    ]  # fmt: skip
    # Who knows what the server that does not answer has?
    assert found(servers, {"a": listed["a"]}, rate_limits=limits[:3]) == []
