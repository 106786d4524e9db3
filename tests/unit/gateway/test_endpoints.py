"""Several endpoints of one gateway: which one a request is at, and what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.decision import Forward, Reply
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.endpoints import Endpoints
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.principal import ANONYMOUS
from mcp_extproc.gateway.request import NO_CONTEXT, RequestHead
from mcp_extproc.mcp.sessions import Session
from tests.unit.gateway.relay.test_awaited import told
from tests.unit.gateway.requests.test_permission import HAS, LISTS, USES, Ruled, masked
from tests.unit.gateway.support import EVERYTHING, NOW, Rig, answer, as_reply, code, config, message, opened, upstream

NAMES: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
SELECTED = {"a": {"tools": ["read", "delete_*"], "resources": ["*open"]}, "b": {"prompts": "all"}}


class At(Ruled):
    """A session at one endpoint of a gateway, in front of servers that list ``HAS``."""

    def __init__(self, endpoint: str, virtual: Mapping[str, Any], **more: Any) -> None:
        self.endpoint = endpoint
        self.asked, self.has, self.who = [], HAS, replace(Ruled().who)
        whole = config(more.pop("servers", NAMES), virtual_servers=virtual, **more)
        Rig.__init__(self, whole, {name: upstream(name, capabilities=EVERYTHING) for name in whole.servers})

    def state(self, **changed: Any) -> Session:
        return super().state(**{"audience": self.endpoint or "/mcp", **changed})

    def head(self, method: str = "POST", /, **headers: str | None) -> RequestHead:
        return replace(super().head(method, **headers), endpoint=self.endpoint)


def at(one: Mapping[str, Any], **more: Any) -> At:
    return At("v", {"v": one}, **more)


# -- Which one -------------------------------------------------------------------------------------------------------------


def test_a_path_chooses_none() -> None:
    rig = at({"servers": SELECTED, "path": "/v"})
    for path in ("/v", "/mcp", "/anything?x=y"):
        assert rig.reply(message("ping"), replace(rig.head(), path=path)).status == 200
    main = At("", {"v": {"servers": SELECTED, "path": "/v"}})
    assert as_reply(main.gateway.admit(replace(main.head(), path="/v"), NOW)).status == 404


@pytest.mark.parametrize("endpoint", ["gone", None])
def test_one_that_is_not_there(endpoint: str | None) -> None:
    rig = at({"servers": SELECTED})
    refused = as_reply(rig.gateway.admit(replace(rig.head(), endpoint=endpoint), NOW))
    assert (refused.status, code(refused)) == (404, -32600)
    assert answer(refused)["error"]["message"] == "Nothing is served here: the MCP endpoint is /mcp."


def test_without_a_main_endpoint_nobody_is_told_of_others() -> None:
    rig = At("v", {"v": {"servers": SELECTED}}, main_endpoint=False)
    assert rig.reply(message("ping"), rig.head()).status == 200
    for endpoint in ("", "gone", None):
        refused = as_reply(rig.gateway.admit(replace(rig.head(), endpoint=endpoint), NOW))
        assert refused.status == 404
        assert answer(refused)["error"]["message"] == "Nothing is served here."


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_session_of_one_is_unknown_at_another(method: str) -> None:
    virtual = {"v": {"servers": {"a": "all", "b": "all"}}, "w": {"servers": {"a": "all", "b": "all"}}}
    for own, other in (("", "v"), ("v", ""), ("v", "w")):
        rig = At(own, virtual)
        head = rig.head(method, accept="text/event-stream, application/json")
        found = []
        for token in (rig.token, "unknown"):
            foreign = replace(head, endpoint=other, headers={**head.headers, "mcp-session-id": token})
            if method == "POST":
                found.append(rig.reply(message("tools/list"), foreign))
            else:
                found.append(as_reply(rig.gateway.admit(foreign, NOW)))
        known, unknown = found
        assert (known.status, known.body, known.headers) == (unknown.status, unknown.body, unknown.headers)
        assert known.status == 404


def test_what_was_sealed_at_one_means_nothing_at_another() -> None:
    """Ids of events and of servers' requests, as clients have them."""
    virtual = {"v": {"servers": {"a": "all", "b": "all"}}}
    one = At("v", virtual)
    other = At("", virtual)
    other.gateway = one.gateway
    id = one.own("request", "a", b"7")
    accepted = one.decide(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id, one.head())
    assert accepted.effects or not isinstance(accepted, Reply), "it reaches the server"
    foreign = other.decide(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id, other.head())
    unknown = other.decide(b'{"jsonrpc":"2.0","id":"x","result":{}}', other.head())
    assert isinstance(foreign, Reply)
    assert isinstance(unknown, Reply)
    assert (foreign.status, foreign.body, foreign.effects) == (unknown.status, unknown.body, unknown.effects)


@pytest.mark.parametrize(
    ("header", "endpoint"),
    [
        ("v", "v"), ("ns/v", "v"), ("team/v", "team/v"), ("other/w", None), ("nobody", None), ("", None), ("/", None),
        ("v, v", None), ("v/", None), ("a/ns/v", None),
    ],
)  # fmt: skip
def test_a_header_chooses_at_the_main_endpoint(header: str, endpoint: str | None) -> None:
    tools = {"v": "read", "team/v": "write"}
    virtual = {name: {"servers": {"a": {"tools": [tool]}}} for name, tool in tools.items()}
    rig = At("", virtual, virtual_server_header=True)
    rig.endpoint = endpoint or ""
    rig.token, rig.session = rig.sealer.seal(rig.state())
    rig.endpoint = ""
    request = rig.head(x_mcp_virtualserver=header)
    if endpoint is None:
        refused = as_reply(rig.gateway.admit(request, NOW))
        assert (refused.status, refused.facts.error) == (404, (-32600, "virtual_server"))
        return
    reply = as_reply(rig.finished(rig.decide(message("tools/list"), request)))
    assert [entry["name"] for entry in answer(reply)["result"]["tools"]] == [f"a__{tools[endpoint]}"]
    assert reply.facts.endpoint == endpoint
    assert as_reply(rig.decide(message("tools/list"))).status == 404, "at the main endpoint the session is unknown"


def test_a_header_that_is_there_twice_or_is_not_asked_for() -> None:
    virtual = {"v": {"servers": SELECTED}}
    rig = At("", virtual, virtual_server_header=True)
    twice = replace(rig.head(x_mcp_virtualserver="v, v"), repeated={"x-mcp-virtualserver": ("v", "v")})
    assert as_reply(rig.gateway.admit(twice, NOW)).status == 400
    rig = At("", virtual)
    assert rig.lists("tools/list") == At("", {}).lists("tools/list")
    assert rig.reply(message("ping"), rig.head(x_mcp_virtualserver="nobody")).status == 200
    rig = At("v", {**virtual, "w": {}}, virtual_server_header=True)
    assert rig.reply(message("ping"), rig.head(x_mcp_virtualserver="w")).status == 200, "only at the main endpoint"


def test_a_header_does_not_let_in_who_uses_another_host() -> None:
    """A virtual server with a host of its own takes any, as Envoy has looked at it. Here it has not."""
    rig = At("", {"v": {"host": "v.example", "servers": SELECTED}}, virtual_server_header=True)
    for host, status in (("evil.example", 403), ("v.example", 403), ("localhost", 404)):
        found = as_reply(rig.decide(message("ping"), rig.head(host=host, x_mcp_virtualserver="v")))
        assert found.status == status, "an unknown session, at most"


@pytest.mark.parametrize(
    ("main", "own", "allowed"),
    [
        (["https://a", "https://b"], ["https://b", "https://c"], {"https://b"}),
        (["https://a"], ["*"], {"https://a"}),
        (["*"], ["https://b"], {"https://b"}),
        (["https://a"], None, {"https://a"}),
        (None, ["https://a", "http://localhost"], {"http://localhost"}),
    ],
)
def test_a_header_does_not_let_in_pages_that_only_one_of_both_lets_call(
    main: list[str] | None, own: list[str] | None, allowed: set[str]
) -> None:
    rig = At("", {"v": {"servers": SELECTED, "origins": own}}, virtual_server_header=True, origins=main)
    for origin in ("https://a", "https://b", "https://c", "http://localhost"):
        found = as_reply(rig.decide(message("ping"), rig.head(origin=origin, x_mcp_virtualserver="v")))
        assert found.status == (404 if origin in allowed else 403), "an unknown session, at most"


def test_a_header_chooses_none_with_authentication_of_its_own() -> None:
    keys = {"api_keys": {"file": "keys.yaml", "from": [{"header": "x-key"}]}}
    rig = At("", {"v": {"authentication": keys}}, virtual_server_header=True)
    refused = as_reply(rig.gateway.admit(rig.head(x_mcp_virtualserver="v"), NOW))
    assert refused.status == 400
    assert "authentication of its own" in answer(refused)["error"]["message"]
    rig = At("v", {"v": {"authentication": keys}})
    assert as_reply(rig.gateway.admit(rig.head(), NOW)).status == 401, "nobody was proven"


# -- What is there ----------------------------------------------------------------------------------------------------------


def test_lists_show_what_is_offered() -> None:
    rig = at({"servers": SELECTED})
    assert rig.lists("tools/list") == ["a__read", "a__delete_all"]
    assert rig.lists("prompts/list") == ["b__sum", "b__secret"]
    assert rig.lists("resources/list") == ["a+file:///open"]
    assert rig.lists("resources/templates/list") == []


def test_servers_of_which_nothing_is_offered_are_not_asked() -> None:
    rig = at({"servers": SELECTED})
    for method in LISTS:
        rig.lists(method)
    assert rig.asked == ["a tools/list", "b prompts/list", "a resources/list", "a resources/templates/list"]


def test_what_is_not_named_is_nothing() -> None:
    empty: list[dict[str, Any]] = [{}, {"servers": {}}, {"servers": {"a": {}}}, {"servers": {"a": {"tools": []}}}]
    for one in empty:
        rig = at(one)
        assert [rig.lists(method) for method in LISTS] == [[]] * 4
        assert isinstance(rig.call("a__read"), Reply)
        begun = rig.fan_out(message("initialize", {"protocolVersion": "2025-11-25"}), _without_session(rig))
        assert answer(as_reply(begun.merge([], NOW)))["result"]["capabilities"] == {}


def _without_session(rig: Rig) -> RequestHead:
    head = rig.head()
    return replace(head, headers={name: value for name, value in head.headers.items() if name != "mcp-session-id"})


@pytest.mark.parametrize(("method", "use", "params"), USES)
@pytest.mark.parametrize("reads_first", [True, False])
def test_what_is_listed_may_be_used_and_nothing_else(method: str, use: str, params: Any, reads_first: bool) -> None:
    selected = {"tools": ["read"], "prompts": ["sum"], "resources": ["*open", "file:///{path}"]}
    one = {"servers": {"a": selected, "b": {"tools": ["write"]}}}
    rig = at(one)
    shown = (rig if reads_first else at(one)).lists(method)
    assert shown
    for name in At("", {}).lists(method):
        assert isinstance(rig.done(use, params(name)), Forward) is (name in shown), name


@pytest.mark.parametrize(("method", "use", "params"), USES[:-1])
def test_the_hidden_looks_like_the_unknown(method: str, use: str, params: Any) -> None:
    rig = at({"servers": {"a": {"tools": ["read"], "prompts": ["sum"]}}, "rename": {"tools": {"a__read": "see"}}})
    for hidden in {
        "tools/list": ("a__delete_all", "b__read", "a__read", "read"),
        "prompts/list": ("a__secret", "b__sum"),
        "resources/list": ("file:///secret", "b+file:///open"),
    }[method]:
        absent = {"tools/list": "a__nothing", "prompts/list": "a__nothing", "resources/list": "nowhere+file:///x"}[
            method
        ]
        for _ in range(2):  # before and after a list was read
            assert masked(rig.done(use, params(hidden)), hidden) == masked(rig.done(use, params(absent)), absent)
            rig.lists(method)


SELECTORS = st.sampled_from(
    [
        "read",
        "write",
        "delete_*",
        "*",
        "sum",
        "s*",
        {"regex": "^.e"},
        {"exact": "*"},
        "file:*",
        "*open",
        {"regex": "{path}"},
    ]
)
SELECTIONS = st.fixed_dictionaries(
    {}, optional={kind: st.lists(SELECTORS, min_size=1, max_size=3) for kind in ("tools", "prompts", "resources")}
)


@given(selected=st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, SELECTIONS)))
@settings(max_examples=60, deadline=None)
def test_a_selection_is_what_rules_with_the_same_selectors_are(selected: dict[str, dict[str, Any]]) -> None:
    """Listed and used alike, answer by answer."""
    rules = [
        {"action": "allow", "servers": [name], kind: chosen}
        for name, kinds in selected.items() for kind, chosen in kinds.items()
    ]  # fmt: skip
    # With all servers behind both, URIs are the same, too.
    chosen = {name: {"prompts": [], **selected.get(name, {})} for name in NAMES}
    virtual = at({"servers": {name: {**one, "prompts": ["none", *one["prompts"]]} for name, one in chosen.items()}})
    ruled = Ruled(*rules)
    for method in LISTS:
        assert virtual.lists(method) == ruled.lists(method)
    for method, use, params in USES:
        for name in At("", {}).lists(method):
            mine, theirs = virtual.done(use, params(name)), ruled.done(use, params(name))
            assert type(mine) is type(theirs), (use, name)
            if isinstance(mine, Reply):
                assert (mine.status, mine.body, mine.headers) == (theirs.status, theirs.body, theirs.headers)  # type: ignore[union-attr]


def test_rules_judge_what_is_offered() -> None:
    one = {
        "servers": {"a": {"tools": ["read", "delete_*"]}},
        "authorization": {"default": "allow", "rules": [{"action": "deny", "tools": ["delete_*"]}]},
    }
    rig = at(one, authorization={"default": "deny"})
    assert rig.lists("tools/list") == ["a__read"]
    assert isinstance(rig.call("a__delete_all"), Reply)
    del one["authorization"]
    assert at(one, authorization={"default": "deny"}).lists("tools/list") == [], "without its own, the main one's hold"


def test_where_everything_is_offered_there_is_nothing_to_judge() -> None:
    rig = at({"servers": {"a": "all", "b": "all"}})
    assert isinstance(rig.call("a__read"), Forward)
    assert rig.asked == []


# -- New names --------------------------------------------------------------------------------------------------------------

RENAMED = {
    "servers": {"a": "all", "b": {"tools": "all"}},
    "rename": {
        "tools": {"a__read": "see", "a__write": "b__drop", "b__read": "a__read"},
        "prompts": {"a__sum": "total"},
    },
}


def test_what_is_kept_of_verdicts_is_bounded_for_all_endpoints_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers choose the URIs that they ask for, and at how many endpoints."""
    monkeypatch.setattr("mcp_extproc.gateway.authorization.rules._MAX_VERDICTS", 10)
    rules = {"rules": [{"action": "allow", "resources": ["file:*"]}], "default": "deny"}
    one = {"servers": {"a": "all"}}
    endpoints = Endpoints(config({"a": {}}, authorization=rules, virtual_servers={"x": one, "y": one}))
    asked = []
    for name in ("", "x", "y"):
        served = endpoints.named(name)
        assert served is not None
        assert served.rules is not None
        access = served.rules.of(ANONYMOUS)
        for number in range(10):
            item = Item("resources", "a", f"file:///{number}")
            access.verdict(item, None, Question(ANONYMOUS))
            asked.append((access, item, None))
    assert sum(key[0].known(key) is not None for key in asked) == 10


def test_new_names_are_listed_and_called() -> None:
    with pytest.raises(ValueError, match="b may offer something under the new name"):
        at(RENAMED)
    one = {**RENAMED, "servers": {"a": "all", "b": {"tools": ["read", "write"]}}}
    rig = at(one)
    assert rig.lists("tools/list") == ["see", "b__drop", "a__delete_all", "a__read", "b__write"]
    assert rig.lists("prompts/list") == ["total", "a__secret"]
    for name, server, own in (
        ("see", "a", "read"), ("b__drop", "a", "write"), ("a__read", "b", "read"), ("b__write", "b", "write"),
    ):  # fmt: skip
        found = rig.call(name)
        assert isinstance(found, Forward), name
        assert (found.plan.server, json.loads(found.body)["params"]["name"]) == (server, own)
    for name in ("a__write", "b__read", "b__sum"):
        assert isinstance(rig.call(name), Reply), name
    ref = {"ref": {"type": "ref/prompt", "name": "total"}, "argument": {}}
    completed = rig.done("completion/complete", ref)
    assert isinstance(completed, Forward)
    assert json.loads(completed.body)["params"]["ref"]["name"] == "sum"


def test_a_bare_name_is_none_of_what_has_a_new_one() -> None:
    one = {"servers": {"a": {"tools": ["read", "write"]}}, "rename": {"tools": {"a__read": "see"}}}
    rig = at(one, bare_names=True)
    assert isinstance(rig.call("write"), Forward)
    assert masked(rig.call("read"), "read") == masked(rig.call("nothing"), "nothing")
    assert isinstance(rig.call("see"), Forward)


def test_a_new_name_takes_the_place_of_a_servers_own() -> None:
    """Of a server without a prefix, nobody knows beforehand what it calls its tools."""
    rig = at({"servers": {"a": "all"}, "rename": {"tools": {"read": "write"}}}, servers={"a": {"prefix": ""}})
    assert rig.lists("tools/list") == ["write", "delete_all"]
    found = rig.call("write")
    assert isinstance(found, Forward)
    assert json.loads(found.body)["params"]["name"] == "read"


# -- What servers send -------------------------------------------------------------------------------------------------------


def test_another_worker_knows_what_may_be_seen() -> None:
    """Of a response that it reads: links, and what was updated."""
    rig = at({"servers": {"a": {"tools": ["read"], "resources": ["*open"]}, "b": {"tools": "all"}}})
    forward = rig.call("a__read")
    assert isinstance(forward, Forward)
    assert forward.response is not None
    assert forward.response.reads_json
    sent = told(forward, NO_CONTEXT)
    for gateway in (rig.gateway, Gateway(rig.config, rig.secret, SessionMemory())):
        expected = gateway.awaited(sent).expected
        for uri, shown in (("file:///open", True), ("file:///secret", False)):
            note = json.dumps({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
            relayed = expected.relay.message("a", expected.session, note.encode(), expected.call)
            assert (relayed.down is not None) is shown
            if relayed.down is not None:
                assert json.loads(relayed.down)["params"]["uri"] == f"a+{uri}"


def test_a_worker_without_the_virtual_server_shows_nothing_of_it() -> None:
    """It was removed, while calls run."""
    rig = at({"servers": {"a": {"tools": ["read"], "resources": ["*open"]}}})
    forward = rig.call("a__read")
    assert isinstance(forward, Forward)
    later = Gateway(config(NAMES), rig.secret, SessionMemory())
    expected = later.awaited(told(forward, NO_CONTEXT)).expected
    note = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///open"}}'
    assert expected.relay.message("a", expected.session, note, expected.call).down is None
    result = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"x"}]}}'
    assert expected.relay.message("a", expected.session, result, expected.call).down is not None


def test_instructions_of_its_own() -> None:
    for text, shown in (("Only reading.", "Only reading."), (None, "# a\n\nHi."), ("", None)):
        one = {"servers": {"a": {"tools": ["read"]}}, **({} if text is None else {"instructions": text})}
        rig = at(one)
        begun = rig.fan_out(message("initialize", {"protocolVersion": "2025-11-25"}), _without_session(rig))
        assert [leg.server for leg in begun.legs] == ["a"]
        everything = {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "logging": {}}
        result = answer(as_reply(begun.merge([opened("a", everything, "Hi.")], NOW)))["result"]
        assert result.get("instructions") == shown
        assert result["capabilities"] == {"logging": {}, "tools": {"listChanged": True}}


def test_another_selection_is_announced_to_sessions_that_know_the_former() -> None:
    before, after = at({"servers": {"a": "all"}}), at({"servers": {"a": {"tools": ["read"]}}})
    assert _checksum(before) != _checksum(after)
    renamed = at({"servers": {"a": {"tools": ["read"]}}, "rename": {"tools": {"a__read": "see"}}})
    assert _checksum(renamed) != _checksum(after)


def _checksum(rig: At) -> int:
    served = rig.gateway._endpoints.named("v")
    assert served is not None
    return served.catalog.checksum
