"""`tools/list`: whom it asks, and the one list that comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway import merge
from mcp_extproc.gateway.decision import FanOut, Forward, Reply
from mcp_extproc.gateway.effects import LearnNames
from mcp_extproc.gateway.legs import STARTING, Failed, Listed, ListLeg
from mcp_extproc.gateway.requests import lists
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.methods import Handling, Method
from tests.unit.gateway.support import (
    EVERYTHING,
    NOW,
    Rig,
    answer,
    as_reply,
    catalog_of,
    code,
    config,
    message,
    upstream,
)

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
    """Under the servers' prefixes, in the order of the configuration, without a cursor."""
    rig = Rig(config({"b": {}, "a": {"prefix": "first"}}))
    reply = rig.merged(LIST, [listed("b", "z", "y"), listed("a", "x")])
    assert reply.body == (
        b'{"jsonrpc":"2.0","id":7,"result":{"tools":'
        b'[{"name": "b__z", "x": 1},{"name": "b__y", "x": 1},{"name": "first__x", "x": 1}]}}'
    )


def test_one_server_down() -> None:
    """It must not fail the rest."""
    reply = Rig().merged(LIST, [Failed("a", "connect", "is unreachable"), listed("b", "x")])
    assert (reply.status, tools(reply)) == (200, ["b__x"])
    assert answer(reply)["result"]["_meta"]["mcp-extproc/unavailable"][0]["server"] == "a"
    assert reply.facts.metadata()["unavailable"] == "a"
    assert reply.notes[0].event == "upstream_failed"


def test_all_servers_down_is_no_empty_list() -> None:
    """It would look as if there were no tools."""
    reply = Rig().merged(LIST, [Failed("a", "connect", "is unreachable"), Failed("b", "timeout", "did not answer")])
    assert (reply.status, answer(reply)["id"], answer(reply)["error"]["code"]) == (200, 7, -32603)
    assert "'a' is unreachable" in answer(reply)["error"]["message"]
    assert len(reply.notes) == 2


def test_a_list_is_empty_while_the_only_server_starts() -> None:
    reply = Rig().merged(LIST, [Failed("a", STARTING, "is still starting"), Failed("b", "timeout", "did not answer")])
    assert tools(reply) == []
    missing = answer(reply)["result"]["_meta"]["mcp-extproc/unavailable"]
    assert [entry["reason"] for entry in missing] == [STARTING, "timeout"]


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
    assert "server" not in hidden.facts.metadata()


def test_filters_of_one_server_are_no_others() -> None:
    rig = Rig(config({"a": {"tools": {"exclude": ["x"]}}, "b": {}}))
    assert tools(rig.merged(LIST, [listed("a", "x", "y"), listed("b", "x", "y")])) == ["a__y", "b__x", "b__y"]


def test_a_name_that_looks_like_another_servers_is_not_listed() -> None:
    """A call of it would go to the other server."""
    rig = Rig(config({"a": {"prefix": ""}, "b": {}}))
    assert tools(rig.merged(LIST, [listed("a", "b__x", "y"), listed("b", "x")])) == ["y", "b__x"]


names = st.text("ab_", min_size=1, max_size=5)


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
    reached = [(forward.server, forward.facts.metadata()["tool"]) for forward in called]
    assert len(set(reached)) == len(reached)
    assert {(server, name) for server, name in reached if server == "b"} == {("b", name) for name in of_b}
    assert all(name in of_a and name not in hidden for server, name in reached if server == "a")


odd = st.text(
    st.sampled_from("xa_ \0\r\n\t\x7f\u00a0\u200b\u200d\ufeff\u2028\u202e\u00ad\u3164\ufe0fé中😀"), max_size=4
)
long = st.sampled_from([1018, 1019, 1020, 1021, 1022, 1024, 1025, 1100]).map(lambda length: "x" * length)


@given(
    st.lists(odd | long, max_size=5),
    st.sampled_from(["", "a", "x"]),
    st.booleans(),
    st.sampled_from(["tools", "prompts"]),
)
def test_what_is_listed_is_callable_and_what_is_not_listed_is_unknown(
    own: list[str], prefix: str, bare: bool, kind: str
) -> None:
    """A server that trims a name, or drops what can't be seen, would run what a policy on the exact name denies."""
    row = {"tools": methods.REQUESTS["tools/list"], "prompts": methods.REQUESTS["prompts/list"]}[kind]
    call = {"tools": "tools/call", "prompts": "prompts/get"}[kind]
    rig = everything(servers={"a": {"prefix": prefix}, "b": {}}, bare_names=bare)
    entries_of_a = Listed("a", [msgspec.Raw(json.dumps({"name": name}).encode()) for name in own])
    names_shown = set(shown(rig, row, entries_of_a, Listed("b", ())))
    for name in {catalog_of(rig.config).names.join("a", name) for name in own} | (set(own) if bare else set()):
        decision = rig.decide(message(call, {"name": name}))
        if isinstance(decision, FanOut):
            decision = decision.merge([entries_of_a, Listed("b", ())], NOW)
        served = isinstance(decision, Forward)
        assert served or code(as_reply(decision)) == -32602
        # A bare name is another way to call what is listed under a prefix.
        assert served == (name in names_shown or catalog_of(rig.config).names.join("a", name) in names_shown)
    assert all(shown_name == shown_name.strip() and shown_name.isprintable() for shown_name in names_shown)
    assert all(len(shown_name) <= 1024 for shown_name in names_shown)


# -- Every list -------------------------------------------------------------------------------------------------------------

LISTS = [row for row in methods.REQUESTS.values() if row.handling is Handling.LIST]
every_list = pytest.mark.parametrize("row", LISTS, ids=[row.name for row in LISTS])


def everything(**more: Any) -> Rig:
    """Two servers that offer all there is."""
    return Rig(config(**more), {name: upstream(name, capabilities=EVERYTHING) for name in "ab"})


def entries(row: Method, server: str, *texts: str, streamed: bool = False) -> Listed:
    """A server's list; ``ENTRY`` stands for the member that an entry is known by."""
    assert row.entry is not None
    raw = [msgspec.Raw(text.replace("ENTRY", row.entry.value).encode()) for text in texts]
    return Listed(server, raw, streamed=streamed)


def shown(rig: Rig, row: Method, *outcomes: Listed) -> list[Any]:
    assert row.entry is not None
    assert row.items is not None
    return [entry[row.entry.value] for entry in answer(rig.merged(message(row.name), outcomes))["result"][row.items]]


@every_list
def test_each_list_is_read_by_its_own_names(row: Method) -> None:
    [first, _] = everything().fan_out(message(row.name)).legs
    assert isinstance(first, ListLeg)
    assert (first.method, first.items, first.capability) == (row.name, row.items, row.capability)


@every_list
def test_each_list_is_whole_and_verbatim_but_for_what_names_the_entry(row: Method) -> None:
    """One page of all that the servers have."""
    text = '{ "ENTRY" : "x:y{z}", "uri2":"x:y" ,"n": 1.50}'
    reply = everything().merged(message(row.name), [entries(row, "a", text), entries(row, "b", text)])
    assert row.entry is not None
    joint = "__" if row.entry.value == "name" else "+"
    expected = ",".join(
        text.replace("ENTRY", row.entry.value).replace('"x:y{z}"', f'"{server}{joint}x:y{{z}}"') for server in "ab"
    )
    assert reply.body == f'{{"jsonrpc":"2.0","id":7,"result":{{"{row.items}":[{expected}]}}}}'.encode()


@every_list
def test_each_list_may_be_partial_but_not_empty_for_want_of_servers(row: Method) -> None:
    """One dead server must not fail the rest; and all dead must not look like an empty list."""
    failed = [Failed(name, "connect", "is unreachable") for name in "ab"]
    assert answer(everything().merged(message(row.name), failed))["error"]["code"] == -32603
    partial = answer(everything().merged(message(row.name), [entries(row, "a"), failed[1]]))["result"]
    assert (partial[row.items], "mcp-extproc/unavailable" in partial["_meta"]) == ([], True)


@every_list
@pytest.mark.parametrize(
    ("streamed", "as_stream"), [((True, True), True), ((True, False), False), ((False, False), False)]
)
def test_lists_come_as_streams_where_all_servers_stream_them(
    row: Method, streamed: tuple[bool, bool], as_stream: bool
) -> None:
    """Nothing changes for clients when a gateway is put in between."""
    texts = [entries(row, server, '{"ENTRY":"x:1"}', streamed=how) for server, how in zip("ab", streamed, strict=True)]
    reply = everything().merged(message(row.name), texts)
    plain = everything().merged(message(row.name), [entries(row, server, '{"ENTRY":"x:1"}') for server in "ab"])
    assert dict(reply.headers)["content-type"] == ("text/event-stream" if as_stream else "application/json")
    assert reply.body == (b"data: " + plain.body + b"\n\n" if as_stream else plain.body)


@pytest.mark.parametrize(("size", "kind"), [(200_000, "text/event-stream"), (300_000, "application/json")])
def test_a_large_list_is_no_event(size: int, kind: str) -> None:
    """Each server's is one that clients read; both together are none that python-sdk 2 does."""
    row = methods.REQUESTS["tools/list"]
    large = [entries(row, name, f'{{"ENTRY":"x","description":"{"d" * size}"}}', streamed=True) for name in "ab"]
    reply = everything().merged(LIST, large)
    assert dict(reply.headers)["content-type"] == kind


@pytest.mark.parametrize("rules", [None, {"default": "deny"}])
def test_rules_have_time_to_judge_what_servers_list(rules: dict[str, str] | None) -> None:
    """Envoy would end the request else, without an id."""
    rig = Rig(config({"a": {}, "b": {}}, **({} if rules is None else {"authorization": rules})))
    patience = rig.fan_out(LIST).patience
    assert patience >= lists.JUDGING_SECONDS if rules else patience < lists.JUDGING_SECONDS


def test_a_failed_server_does_not_decide_how_a_list_comes() -> None:
    reply = Rig().merged(LIST, [Failed("a", "connect", "is unreachable"), Listed("b", (), streamed=True)])
    assert dict(reply.headers)["content-type"] == "text/event-stream"
    reply = Rig(upstreams={"a": upstream("a", capabilities=()), "b": upstream("b", capabilities=())}).merged(LIST, [])
    assert dict(reply.headers)["content-type"] == "application/json"


# -- URIs -------------------------------------------------------------------------------------------------------------------

of_uris = pytest.mark.parametrize(
    "row", [row for row in LISTS if row.capability == "resources"], ids=lambda row: row.name
)


@of_uris
@pytest.mark.parametrize(
    ("uri", "visible"),
    [
        ("file:///x", "a+file:///x"),
        ("x{?y}", "a+x{?y}"),
        ("ui://view/1", "ui://a/view/1"),
        ("b+x:", "a+b+x:"),
        ("", None),
    ],
)
def test_uris_carry_their_server(row: Method, uri: str, visible: str | None) -> None:
    assert shown(everything(), row, entries(row, "a", json.dumps({"ENTRY": uri}))) == ([visible] if visible else [])


@of_uris
def test_uris_of_one_server_stay(row: Method) -> None:
    rig = Rig(config({"a": {}}), {"a": upstream("a", capabilities=EVERYTHING)})
    uris = ["file:///x", "a+x:", "b+x:", "ui://a/v"]
    assert shown(rig, row, entries(row, "a", *(json.dumps({"ENTRY": uri}) for uri in uris))) == uris


@of_uris
def test_a_uri_that_is_too_long_to_be_read_is_not_listed(row: Method) -> None:
    """Its prefix counts."""
    own = ["x:" + "y" * (8192 - len("a+x:")), "x:" + "y" * (8192 - len("a+x:") + 1)]
    found = shown(everything(), row, entries(row, "a", *(json.dumps({"ENTRY": uri}) for uri in own)))
    assert found == ["a+" + own[0]]


@of_uris
def test_a_uri_that_reading_would_take_to_another_server_is_listed_with_its_own(row: Method) -> None:
    rig = everything(servers={"a": {"prefix": ""}, "b": {}})
    own = ["x:1", "b+x:2", "B+x:3", "ui://b/v", "ui://v", "c+x:4"]
    found = shown(rig, row, entries(row, "a", *(json.dumps({"ENTRY": uri}) for uri in own)))
    assert found == ["x:1", "a+b+x:2", "a+B+x:3", "ui://a/b/v", "ui://v", "c+x:4"]


@of_uris
@pytest.mark.parametrize(
    ("prefix", "of_a", "of_b", "expected"),
    [
        ("a", ["x:1"], ["x:2"], ["x:1", "x:2"]),
        # Only a prefix tells apart what both have.
        ("a", ["x:1", "x:3"], ["x:1"], ["a+x:1", "x:3", "b+x:1"]),
        # Once more in one list is no second server.
        ("a", ["x:1", "x:1"], [], ["x:1"]),
        # Reading these would go to another URI, or another server.
        ("a", [], ["a+x:1", "b+x:1", "ui://a/v"], ["b+a+x:1", "b+b+x:1", "ui://b/a/v"]),
        ("", ["x:1", "b+x:2"], ["x:1"], ["a+x:1", "a+b+x:2", "b+x:1"]),
    ],
)
def test_uris_stay_where_one_server_alone_has_them(
    row: Method, prefix: str, of_a: list[str], of_b: list[str], expected: list[str]
) -> None:
    rig = everything(servers={"a": {"prefix": prefix}, "b": {}}, resources="unprefixed")
    lists = [
        entries(row, server, *(json.dumps({"ENTRY": uri}) for uri in uris))
        for server, uris in (("a", of_a), ("b", of_b))
    ]
    assert shown(rig, row, *lists) == expected


# -- Views (MCP Apps) ---------------------------------------------------------------------------------------------------------


@every_list
@pytest.mark.parametrize(
    "meta",
    [
        '{"ui":{"resourceUri":"URI", "csp":{}}}',
        '{"ui/resourceUri":"URI"}',
        '{"openai/outputTemplate":"URI","n":1.50}',
    ],
)
def test_the_view_of_an_entry_is_where_clients_find_it(row: Method, meta: str) -> None:
    text = '{"ENTRY":"x:1","_meta":' + meta.replace("URI", "ui://view/1") + "}"
    value = answer(everything().merged(message(row.name), [entries(row, "b", text)]))["result"][row.items][0]
    assert value["_meta"] == json.loads(meta.replace("URI", "ui://b/view/1"))
    one = Rig(config({"b": {}}), {"b": upstream("b", capabilities=EVERYTHING)})
    value = answer(one.merged(message(row.name), [entries(row, "b", text)]))["result"][row.items][0]
    assert value["_meta"] == json.loads(meta.replace("URI", "ui://view/1"))


@every_list
@pytest.mark.parametrize("more", [{}, {"resources": "unprefixed"}, {"servers": {"a": {"prefix": ""}, "b": {}}}])
def test_no_view_reads_like_another_servers(row: Method, more: dict[str, Any]) -> None:
    rig = everything(**more)
    text = '{"ENTRY":"x:1","_meta":{"ui":{"resourceUri":"ui://b/secret"}}}'
    value = answer(rig.merged(message(row.name), [entries(row, "a", text)]))["result"][row.items][0]
    assert value["_meta"] == {"ui": {"resourceUri": "ui://a/b/secret"}}


def test_prompts_are_not_filtered_as_tools_are() -> None:
    rig = everything(servers={"a": {"tools": {"exclude": ["x"]}}, "b": {}})
    row = methods.REQUESTS["prompts/list"]
    assert shown(rig, row, entries(row, "a", '{"name":"x"}')) == ["a__x"]


# -- Lists like the ones before ------------------------------------------------------------------------------------------


def fail(*_: object) -> NoReturn:
    raise AssertionError("made once more")


def test_a_list_is_made_once_while_servers_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are asked each time all the same, and the answer is each request's own."""
    rig = Rig()
    first = rig.merged(LIST, [listed("a", "x"), listed("b", "y")])
    monkeypatch.setattr(merge, "entries", fail)
    assert len(rig.fan_out(LIST).legs) == 2
    again = rig.merged(message("tools/list", id="other"), [listed("a", "x"), listed("b", "y")])
    assert again.body == first.body.replace(b'"id":7', b'"id":"other"')
    with pytest.raises(AssertionError, match="made once more"):
        rig.merged(LIST, [listed("a", "x", "new"), listed("b", "y")])


def test_two_sessions_of_which_one_toggles_its_tools() -> None:
    """Each sees its own at once, also where one has what the other one had."""
    one = Rig()
    token, _ = one.sealer.seal(one.state(client="agent/2"))
    before, after = [listed("a", "x"), listed("b", "y")], [listed("a", "x", "extra"), listed("b", "y")]

    def seen(session: str, outcomes: Sequence[Listed]) -> list[str]:
        return tools(one.merged(LIST, outcomes, one.head(mcp_session_id=session)))

    for _ in range(2):
        assert seen(one.token, before) == seen(token, before) == ["a__x", "b__y"]
        assert seen(one.token, after) == ["a__x", "a__extra", "b__y"]
        assert seen(token, before) == ["a__x", "b__y"]
        assert seen(token, after) == ["a__x", "a__extra", "b__y"]


def test_another_session_makes_its_own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one caller got says nothing to another one, not even by the time that it takes."""
    one = Rig()
    token, _ = one.sealer.seal(one.state(client="agent/2"))
    outcomes = [listed("a", "x"), listed("b", "y")]
    one.merged(LIST, outcomes)
    monkeypatch.setattr(merge, "entries", fail)
    with pytest.raises(AssertionError, match="made once more"):
        one.merged(LIST, outcomes, one.head(mcp_session_id=token))


def test_what_is_left_out_is_told_each_time() -> None:
    rig = Rig()
    outcomes = [listed("a", "x", " y"), listed("b", "z")]
    notes = [rig.merged(LIST, outcomes).notes for _ in range(2)]
    assert notes[0] == notes[1]
    assert [note.event for note in notes[0]] == ["name_not_served"]


def test_who_is_missing_is_told_as_it_is_now() -> None:
    """Also where the entries are those of the time before."""
    rig = Rig()
    replies = [
        rig.merged(LIST, [Failed("a", "connect", "is unreachable"), listed("b", "y")]),
        rig.merged(LIST, [Failed("a", "timeout", "did not answer"), listed("b", "y")]),
        rig.merged(LIST, [listed("a"), listed("b", "y")]),
        rig.merged(LIST, [listed("a"), listed("b", "y", truncated="has more than 100 pages")]),
        rig.merged(LIST, [listed("a"), listed("b", "y")]),
    ]
    assert [tools(reply) for reply in replies] == [["b__y"]] * 5
    reasons = [answer(reply)["result"].get("_meta", {}).get("mcp-extproc/unavailable", []) for reply in replies]
    assert [[each["reason"] for each in found] for found in reasons] == [
        ["connect"],
        ["timeout"],
        [],
        ["truncated"],
        [],
    ]
    assert [reply.facts.metadata().get("unavailable") for reply in replies] == ["a", "a", None, "b", None]
    assert [[note.event for note in reply.notes] for reply in replies] == [
        ["upstream_failed"], ["upstream_failed"], [], ["upstream_failed"], [],
    ]  # fmt: skip


def test_an_answer_is_a_stream_where_all_servers_answer_with_one_now() -> None:
    """Whatever form those before had."""
    rig, row = everything(), methods.REQUESTS["tools/list"]
    for streamed in (False, True, False):
        outcomes = [entries(row, server, '{"ENTRY":"x"}', streamed=streamed) for server in "ab"]
        kind = dict(rig.merged(LIST, outcomes).headers)["content-type"]
        assert kind == ("text/event-stream" if streamed else "application/json")


def test_owners_are_found_in_lists_like_those_before() -> None:
    """A list that is not made again leaves alone what is known of names without a prefix, and what is forgotten of them."""
    rig = Rig(config(bare_names=True))
    outcomes = [listed("a", "x"), listed("b", "y")]
    rig.merged(LIST, outcomes)
    rig.merged(LIST, outcomes)
    call = message("tools/call", {"name": "y"})
    found = rig.fan_out(call).merge(outcomes, NOW)
    rig.carry_out(found)
    assert isinstance(found, Forward)
    assert found.server == "b"
    rig.memory.forget_owners(rig.session)
    rig.merged(LIST, outcomes)
    assert isinstance(rig.decide(call), FanOut), "the servers are asked again"


answers = st.lists(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from(["x", "y", "b__x", "", " z", "xy"]), max_size=4)),
             max_size=3, unique_by=lambda each: each[0]),
    max_size=6,
)  # fmt: skip


@given(answers, st.sampled_from(["tools/list", "resources/list"]), st.sampled_from(["prefixed", "unprefixed"]))
def test_what_was_made_before_changes_no_answer(
    requests: list[list[tuple[str, list[str]]]], method: str, resources: str
) -> None:
    row = methods.REQUESTS[method]
    rig = everything(resources=resources)
    for request in requests:
        outcomes = [entries(row, server, *(f'{{"ENTRY":"{name}"}}' for name in names)) for server, names in request]
        ask = message(method)
        fresh, reply = everything(resources=resources).merged(ask, outcomes), rig.merged(ask, outcomes)
        assert (reply.body, reply.headers, reply.notes) == (fresh.body, fresh.headers, fresh.notes)


def test_names_are_learnt_where_something_is_collected() -> None:
    collects = config({"a": {}, "b": {}}, telemetry={"metrics": {"address": "127.0.0.1:0"}})
    outcomes = [listed("a", "one", "two"), listed("b", "one")]
    [learnt] = as_reply(Rig(collects).fan_out(LIST).merge(outcomes, NOW)).effects
    assert learnt == LearnNames("tools", frozenset({("a", "one"), ("a", "two"), ("b", "one")}))
    assert as_reply(Rig().fan_out(LIST).merge(outcomes, NOW)).effects == ()
