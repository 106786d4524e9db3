"""Names and URIs without a prefix: the one server that has them is looked for in the servers' lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.decision import Decision, FanOut, Forward, NeedSession
from mcp_extproc.gateway.legs import Answered, BatchLeg, Failed, Listed, ListLeg, Outcome
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests.lists import OWNERS_SECONDS
from tests.unit.gateway.support import EVERYTHING, NOW, Rig, answer, as_reply, code, config, message, upstream

KEYS = {
    "tools/list": "name",
    "prompts/list": "name",
    "resources/list": "uri",
    "resources/templates/list": "uriTemplate",
}
Lists = Mapping[str, Mapping[str, Sequence[str]]]
"""Method to server to what it lists."""


def rig(servers: str = "ab", **changed: Any) -> Rig:
    """Servers that offer everything; names and URIs go without prefixes."""
    configured = config({name: {} for name in servers}, **{"bare_names": True, "resources": "unprefixed", **changed})
    return Rig(configured, {name: upstream(name, capabilities=EVERYTHING) for name in servers})


def listed(server: str, key: str, names: Sequence[str]) -> Listed:
    return Listed(server, [msgspec.Raw(json.dumps({key: name}).encode()) for name in names])


def settled(on: Rig, decision: Decision, lists: Lists) -> tuple[Decision, list[str]]:
    """The decision once the servers have given their lists, and which lists were asked for."""
    asked = []
    while isinstance(decision, FanOut) and not any(isinstance(leg, BatchLeg) for leg in decision.legs):
        legs = [leg for leg in decision.legs if isinstance(leg, ListLeg)]
        method = legs[0].method if legs else ""
        asked.append(method)
        found = lists.get(method, {})
        decision = decision.merge(
            [listed(leg.server, KEYS[leg.method], found.get(leg.server, ())) for leg in legs], NOW
        )
        on.carry_out(decision)
    return decision, asked


CALL = message("tools/call", {"name": "x", "arguments": {"n": 1}})
GET = message("prompts/get", {"name": "x"})
READ = message("resources/read", {"uri": "x:y/1"})

NAMES: list[tuple[str, dict[str, list[str]], str | None]] = [
    ("one server has it", {"a": ["y"], "b": ["x"]}, "b"),
    ("several have it", {"a": ["x"], "b": ["x"]}, None),
    ("none has it", {"a": ["y"], "b": ["X"]}, None),
    ("it is listed twice", {"a": ["x", "x"], "b": []}, "a"),
    ("nothing is listed", {}, None),
]


@pytest.mark.parametrize(("has", "server"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
@pytest.mark.parametrize(("body", "method"), [(CALL, "tools/list"), (GET, "prompts/list")])
def test_bare_names(body: bytes, method: str, has: dict[str, list[str]], server: str | None) -> None:
    decision, asked = settled(one := rig(), one.decide(body), {method: has})
    assert asked == [method]
    if server is None:
        reply = as_reply(decision)
        assert (reply.status, answer(reply)["id"], code(reply)) == (200, 7, -32602)
        return
    assert isinstance(decision, Forward)
    assert (decision.server, decision.body) == (server, body)
    assert decision.facts.metadata()["server"] == server
    assert dict(decision.set_headers)["mcp-name"] == "x"


def test_a_name_with_a_prefix_asks_nobody() -> None:
    decision = rig().decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, Forward)
    assert json.loads(decision.body)["params"]["name"] == "x"


def test_bare_names_are_only_found_where_that_is_wanted() -> None:
    for body in (CALL, GET):
        assert code(as_reply(rig(bare_names=False).decide(body))) == -32602


def test_only_servers_with_the_capability_are_asked() -> None:
    one = rig()
    assert one.upstreams is not None
    one = Rig(one.config, {**one.upstreams, "a": upstream("a", capabilities=("prompts",))})
    decision = one.decide(CALL)
    assert isinstance(decision, FanOut)
    assert [leg.server for leg in decision.legs] == ["b"]


def test_a_hidden_tool_is_nobodys() -> None:
    """And takes the name from nobody else. Filters are for tools only."""
    servers = {"a": {"tools": {"exclude": ["x"]}}, "b": {}}
    hiding = Rig(config(servers, bare_names=True), {name: upstream(name, capabilities=EVERYTHING) for name in "ab"})
    assert code(as_reply(settled(hiding, hiding.decide(CALL), {"tools/list": {"a": ["x"]}})[0])) == -32602
    hiding.memory.forget_owners(hiding.session)
    decision, _ = settled(hiding, hiding.decide(CALL), {"tools/list": {"a": ["x"], "b": ["x"]}})
    assert isinstance(decision, Forward)
    assert decision.server == "b"
    decision, _ = settled(hiding, hiding.decide(GET), {"prompts/list": {"a": ["x"]}})
    assert isinstance(decision, Forward)


def test_a_completion_for_a_bare_name() -> None:
    body = message("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {}})
    decision, asked = settled(one := rig(), one.decide(body), {"prompts/list": {"b": ["x"]}})
    assert asked == ["prompts/list"]
    assert isinstance(decision, Forward)
    assert (decision.server, decision.body) == ("b", body)


# -- Several servers without a prefix ---------------------------------------------------------------------------------------


def sharing() -> Rig:
    """Two servers without a prefix, and one with."""
    servers = {"a": {"prefix": ""}, "b": {"prefix": ""}, "c": {}}
    return Rig(config(servers), {name: upstream(name, capabilities=EVERYTHING) for name in servers})


@pytest.mark.parametrize(("has", "server"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
@pytest.mark.parametrize(("body", "method"), [(CALL, "tools/list"), (GET, "prompts/list")])
def test_names_of_servers_without_prefix(
    body: bytes, method: str, has: dict[str, list[str]], server: str | None
) -> None:
    """What the third server has is not called by its bare name, nor does it take the name from others."""
    decision, asked = settled(one := sharing(), one.decide(body), {method: {**has, "c": ["x"]}})
    assert asked == [method]
    if server is None:
        assert code(as_reply(decision)) == -32602
        return
    assert isinstance(decision, Forward)
    assert (decision.server, decision.body) == (server, body)


def test_the_server_with_a_prefix_is_not_asked_for_names_without() -> None:
    decision = sharing().decide(CALL)
    assert isinstance(decision, FanOut)
    assert [leg.server for leg in decision.legs] == ["a", "b"]
    assert isinstance(sharing().decide(message("tools/call", {"name": "c__x"})), Forward)


def test_names_that_meet_are_not_listed() -> None:
    has = {"a": ["x", "y", "c__x"], "b": ["x", "z"], "c": ["x"]}
    decision = sharing().decide(message("tools/list"))
    assert isinstance(decision, FanOut)
    merged = decision.merge([listed(name, "name", names) for name, names in has.items()], NOW)
    names = [tool["name"] for tool in answer(as_reply(merged))["result"]["tools"]]
    assert names == ["y", "z", "c__x"]
    # "c__x" of the first one is behind the third one's prefix.
    told = [(note.event, note.fields) for note in as_reply(merged).notes]
    assert told == [("name_conflict", {"server": name, "entries": 1, "visible_name": "x"}) for name in ("a", "b")]


# -- URIs -------------------------------------------------------------------------------------------------------------------

RESOURCES, TEMPLATES = "resources/list", "resources/templates/list"
URIS: list[tuple[str, Lists, str | None, list[str]]] = [
    ("listed by one", {RESOURCES: {"b": ["x:y/1"]}}, "b", [RESOURCES]),
    # What a list says comes before what a template could mean.
    (
        "listed by one, template of another",
        {RESOURCES: {"b": ["x:y/1"]}, TEMPLATES: {"a": ["x:y/{n}"]}},
        "b",
        [RESOURCES],
    ),
    ("listed by several", {RESOURCES: {"a": ["x:y/1"], "b": ["x:y/1"]}}, None, [RESOURCES, TEMPLATES]),
    ("template of one", {TEMPLATES: {"a": ["x:y/{n}"], "b": ["x:z/{n}"]}}, "a", [RESOURCES, TEMPLATES]),
    ("the longest start", {TEMPLATES: {"a": ["x:{n}"], "b": ["x:y/{n}", "{n}"]}}, "b", [RESOURCES, TEMPLATES]),
    ("the same start", {TEMPLATES: {"a": ["x:y/{n}"], "b": ["x:y/{m}"]}}, None, [RESOURCES, TEMPLATES]),
    ("a template of anything", {TEMPLATES: {"a": ["{+uri}"]}}, "a", [RESOURCES, TEMPLATES]),
    ("another start", {TEMPLATES: {"a": ["x:y/1/{n}"], "b": ["X:y/{n}"]}}, None, [RESOURCES, TEMPLATES]),
    ("a template without an expression", {TEMPLATES: {"a": ["x:y/1"]}}, "a", [RESOURCES, TEMPLATES]),
    ("nobody's", {}, None, [RESOURCES, TEMPLATES]),
]


@pytest.mark.parametrize(("lists", "server", "asked"), [row[1:] for row in URIS], ids=[row[0] for row in URIS])
@pytest.mark.parametrize(
    "method", ["resources/read", "resources/subscribe", "resources/unsubscribe", "completion/complete"]
)
def test_bare_uris(method: str, lists: Lists, server: str | None, asked: list[str]) -> None:
    params = {"ref": {"type": "ref/resource", "uri": "x:y/1"}} if method == "completion/complete" else {"uri": "x:y/1"}
    body = message(method, params)
    decision, found = settled(one := rig(), one.decide(body), lists)
    assert found == asked
    if server is None:
        reply = as_reply(decision)
        assert (reply.status, answer(reply)["id"], code(reply)) == (200, 7, -32002)
        return
    assert isinstance(decision, Forward)
    assert (decision.server, decision.body) == (server, body)


def test_a_uri_with_a_prefix_asks_nobody() -> None:
    """The way to what several servers have."""
    decision = rig().decide(message("resources/read", {"uri": "b+x:y/1"}))
    assert isinstance(decision, Forward)
    assert (decision.server, json.loads(decision.body)["params"]) == ("b", {"uri": "x:y/1"})


def test_a_server_that_was_down_is_opened_first() -> None:
    one = Rig(rig().config, {"a": upstream("a", capabilities=EVERYTHING)})
    decision, _ = settled(one, one.decide(READ), {RESOURCES: {"b": ["x:y/1"]}})
    assert isinstance(decision, NeedSession)
    assert decision.session.server == "b"


# -- What is remembered -----------------------------------------------------------------------------------------------------


def at(one: Rig, body: bytes, now: float) -> Decision:
    return one.gateway.decide(one.head(), body, now)


def test_lists_are_remembered_for_a_while() -> None:
    one = rig()
    settled(one, one.decide(CALL), {"tools/list": {"a": ["x"]}})
    for seconds, asked in ((0, False), (OWNERS_SECONDS - 1, False), (OWNERS_SECONDS, True)):
        decision = at(one, CALL, NOW + seconds)
        assert isinstance(decision, FanOut if asked else Forward)
    # Of what is not in them too, so that a client can't have the servers asked without end.
    assert code(as_reply(one.decide(message("tools/call", {"name": "y"})))) == -32602
    # They say nothing of other lists.
    assert isinstance(one.decide(GET), FanOut)


def test_lists_of_one_session_say_nothing_of_another() -> None:
    one = rig()
    settled(one, one.decide(CALL), {"tools/list": {"a": ["x"]}})
    other = Rig(one.config, one.upstreams, one.memory)
    assert isinstance(other.decide(CALL), FanOut)


def test_a_list_that_changed_is_asked_for_again() -> None:
    one = rig()
    settled(one, one.decide(CALL), {"tools/list": {"a": ["x"]}})
    one.memory.forget_owners(one.session)
    decision, _ = settled(one, one.decide(CALL), {"tools/list": {"b": ["x"]}})
    assert isinstance(decision, Forward)
    assert decision.server == "b"


@pytest.mark.parametrize(
    "missing", [Failed("b", "timeout", "did not answer"), Listed("b", (), truncated="has more than 100 pages")]
)
def test_lists_with_something_missing_serve_once(missing: Outcome) -> None:
    """A name may only seem to be one server's own."""
    one = rig()
    for _ in range(2):
        decision = one.decide(CALL)
        assert isinstance(decision, FanOut)
        assert isinstance(decision.merge([listed("a", "name", ["x"]), missing], NOW), Forward)


# -- Between two visits -----------------------------------------------------------------------------------------------------

HERE = {"tools/list": {"a": ["x"]}}
THERE = {"tools/list": {"b": ["x"]}}


def sent_once_more(decision: Decision) -> RequestHead:
    """The head of the request that policies are to judge again."""
    assert isinstance(decision, FanOut)
    [leg] = decision.legs
    assert isinstance(leg, BatchLeg)
    assert leg.body == CALL
    return RequestHead("POST", leg.path, dict(leg.headers))


def test_nobody_is_asked_before_policies_have_judged() -> None:
    for body in (CALL, GET, READ):
        shown, _ = rig().shown(body)
        assert (shown.facts.server, shown.facts.named, shown.effects) == (None, None, ())


def test_policies_judge_again_once_the_server_is_known() -> None:
    """They were shown none. What its lists say from then on changes nothing."""
    one = rig()
    _, head = one.shown(CALL)
    decision, asked = settled(one, one.decide(CALL, head), HERE)
    assert asked == ["tools/list"]
    again = sent_once_more(decision)
    one.memory.remember_owners(one.session, "tools/list", {"x": "b"}, NOW + 1)
    shown, head = one.shown(CALL, again)
    assert (shown.facts.server, shown.facts.named) == ("a", ("tool", "x"))
    forward = one.forward(CALL, head)
    assert (forward.server, forward.body) == ("a", CALL)
    assert "x-mcp-owner" in forward.remove_headers


def test_what_was_listed_last_is_shown_and_carried_out() -> None:
    """However long ago: the lists are read again before the call is, and after the policies."""
    one = rig()
    settled(one, one.decide(CALL), HERE)
    later = NOW + 2 * OWNERS_SECONDS
    shown, head = one.shown(CALL)
    assert shown.facts.server == "a"
    decision, _ = settled(one, one.gateway.decide(head, CALL, later), HERE)
    assert isinstance(decision, Forward)
    assert decision.server == "a"


def test_a_tool_that_moved_meanwhile_is_not_called_unjudged() -> None:
    one = rig()
    settled(one, one.decide(CALL), HERE)
    _, head = one.shown(CALL)
    one.memory.forget_owners(one.session)
    decision, asked = settled(one, one.decide(CALL, head), THERE)
    assert asked == ["tools/list"]
    shown, _ = one.shown(CALL, sent_once_more(decision))
    assert shown.facts.server == "b"


def test_what_says_whose_a_name_is_can_not_be_forged() -> None:
    one = rig()
    identifiers = one.gateway.identifiers
    for sealed in (
        "a",
        identifiers.told_owner("another session", "tools", "x", "a"),
        identifiers.told_owner(one.session, "tools", "y", "a"),
        identifiers.told_owner(one.session, "prompts", "x", "a"),
        identifiers.told_owner(one.session, "tools", "x", "gone"),
    ):
        shown, head = one.shown(CALL, one.head(x_mcp_owner=sealed))
        assert shown.facts.server is None
        assert "x-mcp-owner" in shown.remove_headers
        assert isinstance(one.decide(CALL, head), FanOut)


def test_a_request_is_sent_once_more_only_once() -> None:
    """Were policies shown something else again, it is refused."""
    one = rig()
    sealed = one.gateway.identifiers.told_owner(one.session, "tools", "x", "a")
    _, head = one.shown(CALL, one.head(x_mcp_owner=sealed))
    changed = replace(head, headers={**head.headers, "x-mcp-server": "b"})
    reply = as_reply(one.decide(CALL, changed))
    assert (code(reply), reply.facts.error) == (-32603, (-32603, "not_as_judged"))


def test_the_answer_is_that_of_the_request_that_was_judged() -> None:
    one = rig()
    settled(one, one.decide(CALL), HERE)
    _, head = one.shown(CALL, one.head())
    head = replace(head, headers={name: value for name, value in head.headers.items() if name != "x-mcp-server"})
    decision = one.decide(CALL, head)
    assert isinstance(decision, FanOut)
    denied = b'{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"no"}}'
    assert as_reply(decision.merge([Answered("", 200, denied)], NOW)).body == denied
    failed = as_reply(decision.merge([Failed("", "connect", "the gateway could not be asked")], NOW))
    assert (answer(failed)["id"], code(failed)) == (7, -32603)


def test_a_list_that_the_client_asked_for_says_whose_its_names_are() -> None:
    one = rig()
    fan_out = one.fan_out(message("tools/list"))
    one.carry_out(fan_out.merge([listed("a", "name", ["x"]), listed("b", "name", [])], NOW))
    shown, head = one.shown(CALL)
    assert shown.facts.server == "a"
    assert one.forward(CALL, head).server == "a"


# -- Together with lists -----------------------------------------------------------------------------------------------------

uris = st.lists(st.sampled_from(["x:1", "x:2", "a+x:1", "b+x:2", "ui://v", "ui://a/v"]), max_size=4)


@given(uris, uris, st.sampled_from(["prefixed", "unprefixed"]), st.sampled_from(["", "a"]))
def test_what_is_listed_can_be_read_and_reaches_its_server(
    of_a: list[str], of_b: list[str], how: str, prefix: str
) -> None:
    has = {"a": of_a, "b": of_b}
    one = Rig(
        config({"a": {"prefix": prefix}, "b": {}}, resources=how),
        {name: upstream(name, capabilities=EVERYTHING) for name in "ab"},
    )
    reply = one.merged(message("resources/list"), [listed(server, "uri", found) for server, found in has.items()])
    shown = [entry["uri"] for entry in answer(reply)["result"]["resources"]]
    reached = []
    for uri in shown:
        decision, _ = settled(one, one.decide(message("resources/read", {"uri": uri})), {RESOURCES: has})
        assert isinstance(decision, Forward), uri
        reached.append((decision.server, json.loads(decision.body)["params"]["uri"]))
    assert len(set(reached)) == len(reached) == len(set(shown))
    assert all(uri in has[server] for server, uri in reached)


def test_a_mistake_in_the_message_is_refused_as_such_once_the_lists_were_read() -> None:
    """And what the lists say is remembered, so that a client can't have them read again and again."""
    one = rig()
    params = b'{"name":"x","_meta":{"progressToken":1,"progressToken":2}}'
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%b}' % params
    for fan_outs in (["tools/list"], []):
        decision, asked = settled(one, one.decide(body), {"tools/list": {"a": ["x"]}})
        assert asked == fan_outs
        reply = as_reply(decision)
        assert (reply.status, code(reply), reply.facts.error) == (400, -32600, (-32600, "duplicate_member"))
        assert (reply.facts.server, reply.facts.named) == ("a", ("tool", "x"))
