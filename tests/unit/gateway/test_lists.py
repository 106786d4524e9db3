"""`tools/list`: whom it asks, and the one list that comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.decision import Failed, Forward, Listed, ListLeg, Reply
from tests.unit.gateway.support import Rig, answer, config, message, upstream
from tests.unit.mcp.strategies import PROPERTY

LIST = message("tools/list")


def listed(server: str, *names: str, truncated: str | None = None) -> Listed:
    return Listed(server, [msgspec.Raw(json.dumps({"name": name, "x": 1}).encode()) for name in names], truncated)


def tools(reply: Reply) -> list[str]:
    return [tool["name"] for tool in answer(reply)["result"]["tools"]]


def test_every_server_is_asked_under_its_session() -> None:
    legs = [leg for leg in Rig().fan_out(LIST).legs if isinstance(leg, ListLeg)]
    assert [(leg.server, leg.session.anchor, leg.session.known) for leg in legs] == [
        ("a", "id of a", upstream("a")),
        ("b", "id of b", upstream("b")),
    ]
    assert {(leg.method, leg.items, leg.capability) for leg in legs} == {("tools/list", "tools", "tools")}


def test_a_server_without_tools_is_not_asked_and_one_that_was_down_is() -> None:
    rig = Rig(config({"a": {}, "b": {}, "c": {}}), {"a": upstream("a", capabilities=()), "b": upstream("b")})
    legs = [leg for leg in rig.fan_out(LIST).legs if isinstance(leg, ListLeg)]
    assert [(leg.server, leg.session.known is None) for leg in legs] == [("b", False), ("c", True)]


def test_no_server_with_tools_is_an_empty_list() -> None:
    rig = Rig(upstreams={name: upstream(name, capabilities=("prompts",)) for name in "ab"})
    assert rig.fan_out(LIST).legs == ()
    assert answer(rig.merged(LIST, []))["result"] == {"tools": []}


def test_the_whole_list_in_one_page() -> None:
    """E28: under the servers' prefixes, in the order of the configuration, without a cursor."""
    rig = Rig(config({"b": {}, "a": {"prefix": "first"}}))
    reply = rig.merged(LIST, [listed("b", "z", "y"), listed("a", "x")])
    assert reply.body == (
        b'{"jsonrpc":"2.0","id":7,"result":{"tools":'
        b'[{"name": "b__z", "x": 1},{"name": "b__y", "x": 1},{"name": "first__x", "x": 1}]}}'
    )


def test_one_server_down() -> None:
    """E25, N18."""
    reply = Rig().merged(LIST, [Failed("a", "connect", "is unreachable"), listed("b", "x")])
    assert (reply.status, tools(reply)) == (200, ["b__x"])
    assert answer(reply)["result"]["_meta"]["mcp-extproc/unavailable"][0]["server"] == "a"
    assert reply.facts["unavailable"] == "a"
    assert reply.notes[0].event == "upstream_failed"


def test_all_servers_down_is_no_empty_list() -> None:
    """E25, N18."""
    reply = Rig().merged(LIST, [Failed("a", "connect", "is unreachable"), Failed("b", "timeout", "did not answer")])
    assert (reply.status, answer(reply)["id"], answer(reply)["error"]["code"]) == (200, 7, -32603)
    assert "'a' is unreachable" in answer(reply)["error"]["message"]
    assert len(reply.notes) == 2


def test_a_list_that_was_cut_is_given_and_said_to_be() -> None:
    reply = Rig().merged(LIST, [listed("a", "x", truncated="has more than 100 pages"), listed("b")])
    assert tools(reply) == ["a__x"]
    assert answer(reply)["result"]["_meta"]["mcp-extproc/unavailable"] == [
        {"server": "a", "reason": "truncated", "message": "has more than 100 pages"}
    ]


def test_the_merged_list_is_bounded() -> None:
    rig = Rig(config(limits={"list_items": 3}))
    reply = rig.merged(LIST, [listed("a", "x", "y"), listed("b", "x", "y")])
    assert tools(reply) == ["a__x", "a__y", "b__x"]
    assert [note.event for note in reply.notes] == ["list_too_long"]


FILTERS: list[tuple[dict[str, Sequence[str]], list[str]]] = [
    ({}, ["read", "write", "delete_all", "read_all"]),
    ({"include": ["read"]}, ["read"]),
    ({"exclude": ["read"]}, ["write", "delete_all", "read_all"]),
    ({"include": ["read", "write"], "exclude": ["write"]}, ["read"]),
    ({"includeRegex": ["^read"]}, ["read", "read_all"]),
    ({"excludeRegex": ["_all$"]}, ["read", "write"]),
    ({"includeRegex": ["^read"], "excludeRegex": ["_all$"]}, ["read"]),
    ({"include": ["write"], "includeRegex": ["^read"]}, ["read", "write", "read_all"]),
    ({"include": ["read"], "excludeRegex": ["read"]}, []),
    ({"includeRegex": ["all"], "exclude": ["delete_all"]}, ["read_all"]),
    ({"include": ["READ", "a__read"]}, []),
]


@pytest.mark.parametrize(("tools_section", "offered"), FILTERS)
def test_filters_and_exclude_wins(tools_section: dict[str, Sequence[str]], offered: list[str]) -> None:
    """What a filter hides is unknown on call too."""
    rig = Rig(config({"a": {"tools": tools_section}}))
    every = ["read", "write", "delete_all", "read_all"]
    assert tools(rig.merged(LIST, [listed("a", *every)])) == [f"a__{name}" for name in offered]
    for name in every:
        decision = rig.decide(message("tools/call", {"name": f"a__{name}"}))
        assert isinstance(decision, Forward) == (name in offered)
        if isinstance(decision, Reply):
            assert answer(decision)["error"]["code"] == -32602


def test_a_hidden_tool_and_one_that_is_not_there_get_the_same_answer() -> None:
    rig = Rig(config({"a": {"tools": {"exclude": ["hidden"]}}, "b": {}}))
    hidden = rig.reply(message("tools/call", {"name": "a__hidden"}))
    missing = rig.reply(message("tools/call", {"name": "c__hidden"}))
    assert hidden.body == missing.body.replace(b"c__hidden", b"a__hidden")
    assert "server" not in hidden.facts


def test_filters_of_one_server_are_no_others() -> None:
    rig = Rig(config({"a": {"tools": {"exclude": ["x"]}}, "b": {}}))
    assert tools(rig.merged(LIST, [listed("a", "x", "y"), listed("b", "x", "y")])) == ["a__y", "b__x", "b__y"]


def test_a_name_that_looks_like_another_servers_is_not_listed() -> None:
    """A call of it would go to the other server."""
    rig = Rig(config({"a": {"prefix": ""}, "b": {}}))
    assert tools(rig.merged(LIST, [listed("a", "b__x", "y"), listed("b", "x")])) == ["y", "b__x"]


names = st.text("ab_", min_size=1, max_size=5)


@PROPERTY
@given(
    st.lists(names, max_size=6),
    st.lists(names, max_size=6),
    st.lists(names, max_size=3),
    st.sampled_from(["", "a", "x"]),
)
def test_what_is_listed_can_be_called_and_reaches_its_server(
    of_a: list[str], of_b: list[str], hidden: list[str], prefix: str
) -> None:
    section: dict[str, Any] = {"tools": {"exclude": hidden}} if hidden else {}
    rig = Rig(config({"a": {"prefix": prefix, **section}, "b": {}}))
    reply = rig.merged(LIST, [listed("a", *of_a), listed("b", *of_b)])
    called = [rig.forward(message("tools/call", {"name": name})) for name in tools(reply)]
    reached = [(forward.server, forward.facts["tool"]) for forward in called]
    assert len(set(reached)) == len(reached)
    assert {(server, name) for server, name in reached if server == "b"} == {("b", name) for name in of_b}
    assert all(name in of_a and name not in hidden for server, name in reached if server == "a")
