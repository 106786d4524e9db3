"""Rules at work: lists and uses agree, and what is hidden can't be told from what does not exist."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_extproc.gateway.decision import Decision, FanOut, Forward, Reply
from mcp_extproc.gateway.legs import Answered, BatchLeg, Failed, Listed, ListLeg, Outcome
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.gateway.relay.responses import CallResponse, Reading
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests.permission import LISTED_SECONDS
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.sessions import Session
from tests.unit.gateway.support import EVERYTHING, NOW, Rig, answer, as_reply, config, message, upstream

OAUTH = {
    "public_url": "https://gw.example",
    "oauth": {
        "resource": "https://gw.example/mcp",
        "issuers": [{"issuer": "https://idp.example", "jwks": {"uri": "https://idp.example/jwks"}}],
    },
}
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
HAS: dict[str, list[dict[str, Any]]] = {
    "tools/list": [
        {"name": "read", "annotations": {"readOnlyHint": True}},
        {"name": "write"},
        {"name": "delete_all", "annotations": {"readOnlyHint": False}},
    ],
    "prompts/list": [{"name": "sum"}, {"name": "secret"}],
    "resources/list": [{"uri": "file:///open", "name": "o"}, {"uri": "file:///secret", "name": "s"}],
    "resources/templates/list": [{"uriTemplate": "file:///{path}", "name": "t"}],
}
"""What each server lists."""


def alice(scopes: str = "", **more: Any) -> Principal:
    return Principal("token", "https://idp.example", "alice", frozenset(scopes.split()), **more)


class Ruled(Rig):
    """A gateway with rules, and servers that list :data:`HAS`."""

    def __init__(self, *rules: dict[str, Any], servers: Any = None, default: str = "deny", **more: Any) -> None:
        self.who = more.pop("who", ANONYMOUS)
        self.asked: list[str] = []
        """Lists that were read."""
        self.has = HAS
        names = servers or {"a": {}, "b": {}}
        authorization = {"default": default, "rules": rules, "step_up": more.pop("step_up", False)}
        authentication = {**more.pop("authentication", OAUTH), "anonymous": True}
        whole = config(names, authorization=authorization, authentication=authentication, **more)
        super().__init__(whole, {name: upstream(name, capabilities=EVERYTHING) for name in names})

    def state(self, **changed: Any) -> Session:
        return super().state(**{"principal": self.who.key, **changed})

    def head(self, method: str = "POST", /, **headers: str | None) -> RequestHead:
        return replace(super().head(method, **headers), principal=self.who)

    def outcomes(self, decision: FanOut) -> list[Outcome]:
        """What the servers answer."""
        legs = [leg for leg in decision.legs if isinstance(leg, ListLeg)]
        self.asked += [f"{leg.server} {leg.method}" for leg in legs]
        return [self.listed(leg.server, leg.method) for leg in legs]

    def listed(self, server: str, method: str) -> Outcome:
        items = [json.dumps(entry).encode() for entry in self.has[method]]
        return Listed(server, items)  # type: ignore[arg-type]

    def done(self, name: str, params: Mapping[str, Any] | None = None, **headers: str | None) -> Forward | Reply:
        """What becomes of a request in the end."""
        return self.finished(self.decide(message(name, params), self.head(**headers)))

    def finished(self, decision: Decision) -> Forward | Reply:
        """The decision once servers have answered."""
        while isinstance(decision, FanOut):
            decision = decision.merge(self.outcomes(decision), NOW)
            self.carry_out(decision)
        assert isinstance(decision, Forward | Reply), decision
        return decision

    def lists(self, method: str) -> list[str]:
        """What a list shows."""
        items, known_by = LISTS[method]
        return [entry[known_by] for entry in answer(as_reply(self.done(method)))["result"][items]]

    def call(self, tool: str, **headers: str | None) -> Any:
        return self.done("tools/call", {"name": tool}, **headers)


def used(name: str) -> dict[str, Any]:
    return {"name": name}


USES: list[tuple[str, str, Any]] = [
    ("tools/list", "tools/call", used),
    ("prompts/list", "prompts/get", used),
    ("prompts/list", "completion/complete", lambda name: {"ref": {"type": "ref/prompt", "name": name}, "argument": {}}),
    ("resources/list", "resources/read", lambda uri: {"uri": uri}),
    ("resources/list", "resources/subscribe", lambda uri: {"uri": uri}),
    ("resources/list", "resources/unsubscribe", lambda uri: {"uri": uri}),
    (
        "resources/list",
        "completion/complete",
        lambda uri: {"ref": {"type": "ref/resource", "uri": uri}, "argument": {}},
    ),
    (
        "resources/templates/list",
        "completion/complete",
        lambda uri: {"ref": {"type": "ref/resource", "uri": uri}, "argument": {}},
    ),
]
"""A list, and a use of what it lists."""


def everything(method: str) -> list[str]:
    """All that the servers list, under clients' names."""
    return Ruled(default="allow").lists(method)


# -- Lists ------------------------------------------------------------------------------------------------------------------


def test_without_rules_everything_is_there() -> None:
    assert everything("tools/list") == ["a__read", "a__write", "a__delete_all", "b__read", "b__write", "b__delete_all"]


@pytest.mark.parametrize("method", LISTS)
def test_by_default_lists_are_empty_and_not_refused(method: str) -> None:
    assert Ruled().lists(method) == []


def test_lists_show_what_rules_allow() -> None:
    rig = Ruled(
        {"action": "deny", "tools": ["delete_*"], "resources": ["*secret"]},
        {"action": "allow", "servers": ["a"], "tools": ["*"], "resources": ["*"]},
    )
    assert rig.lists("tools/list") == ["a__read", "a__write"]
    assert rig.lists("prompts/list") == []
    assert rig.lists("resources/list") == ["a+file:///open"]
    assert rig.lists("resources/templates/list") == ["a+file:///{path}"]


def test_a_list_made_for_one_caller_is_not_given_to_another() -> None:
    rig = Ruled({"action": "allow", "principals": {"scopes": ["read"]}}, who=alice("read"))
    assert len(rig.lists("tools/list")) == 6
    rig.who = alice("other")
    assert rig.lists("tools/list") == []
    assert json.loads(as_reply(rig.call("a__read")).body)["error"]["message"] == "Unknown tool: a__read"
    rig.who = alice("read")
    assert len(rig.lists("tools/list")) == 6
    assert isinstance(rig.call("a__read"), Forward)


def test_a_hidden_entry_does_not_make_a_uri_ambiguous() -> None:
    rig = Ruled({"action": "allow", "servers": ["a"]}, resources="unprefixed")
    assert rig.lists("resources/list") == ["file:///open", "file:///secret"]
    assert isinstance(rig.done("resources/read", {"uri": "file:///open"}), Forward)


def test_a_hidden_tool_does_not_make_a_bare_name_ambiguous() -> None:
    rig = Ruled({"action": "allow", "servers": ["a"], "tools": ["read"]}, bare_names=True)
    found = rig.call("read")
    assert isinstance(found, Forward)
    assert found.plan.server == "a"
    assert masked(rig.call("write"), "write") == masked(rig.call("nothing"), "nothing")


# -- Uses -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "use", "params"), USES)
@pytest.mark.parametrize("reads_first", [True, False])
def test_what_is_listed_may_be_used_and_nothing_else(method: str, use: str, params: Any, reads_first: bool) -> None:
    rules = (
        {"action": "deny", "tools": ["delete_*"], "prompts": ["secret"], "resources": ["*secret"]},
        {"action": "allow", "servers": ["a"]},
    )
    rig = Ruled(*rules)
    shown = (rig if reads_first else Ruled(*rules)).lists(method)
    assert shown
    for name in everything(method):
        assert isinstance(rig.done(use, params(name)), Forward) is (name in shown), name


def masked(reply: Forward | Reply, name: str) -> tuple[Any, ...]:
    """An answer, but for the name that was asked for."""
    found = as_reply(reply)
    return found.status, found.body.replace(name.encode(), b"?"), found.headers, found.facts.error, found.facts.server


@pytest.mark.parametrize(("method", "use", "params"), USES[:-1])
def test_the_hidden_looks_like_the_unknown(method: str, use: str, params: Any) -> None:
    rig = Ruled({"action": "deny", "tools": ["delete_*"], "prompts": ["secret"], "resources": ["*"]}, default="allow")
    hidden = {"tools/list": "a__delete_all", "prompts/list": "a__secret", "resources/list": "a+file:///secret"}[method]
    absent = {"tools/list": "a__nothing", "prompts/list": "a__nothing", "resources/list": "nowhere+file:///x"}[method]
    for _ in range(2):  # before and after a list was read
        assert masked(rig.done(use, params(hidden)), hidden) == masked(rig.done(use, params(absent)), absent)
        rig.lists(method)


@pytest.mark.parametrize(("method", "use", "params"), [row for row in USES if row[0] == "resources/list"])
def test_a_hidden_uri_looks_like_one_that_its_server_does_not_have(method: str, use: str, params: Any) -> None:
    rig = Ruled({"action": "deny", "resources": ["*secret"]}, default="allow")
    forwarded = rig.done(use, params("a+file:///nothing"))
    assert isinstance(forwarded, Forward)
    assert forwarded.response is not None
    assert forwarded.response.reads_json
    error = {"code": -32002, "message": "no such thing", "data": {"uri": "file:///nothing"}}
    said = json.dumps({"jsonrpc": "2.0", "id": 7, "error": error}).encode()
    response = CallResponse(forwarded.response, Reading.WHOLE)
    assert response.feed(said, end=True).down == as_reply(rig.done(use, params("a+file:///secret"))).body


def test_a_tool_does_not_name_a_view_that_is_hidden() -> None:
    entry = {"name": "x", "_meta": {"ui": {"resourceUri": "ui://secret", "visibility": ["model"]}, "k": 1}}
    rule = {"action": "deny", "resources": ["ui://secret"]}
    for rules, shown in (([rule], None), ([], "ui://a/secret")):
        rig = Ruled(*rules, default="allow", servers={"a": {}, "b": {}})
        rig.has = {**HAS, "tools/list": [entry]}
        [tool, _] = answer(as_reply(rig.done("tools/list")))["result"]["tools"]
        assert tool["_meta"]["ui"].get("resourceUri") == shown
        assert tool["_meta"]["ui"]["visibility"] == ["model"]
        assert tool["_meta"]["k"] == 1


def test_the_hidden_is_unknown_to_policies() -> None:
    rig = Ruled({"action": "allow", "tools": ["read"]})
    shown, _ = rig.shown(message("tools/call", {"name": "a__write"}))
    unknown, _ = rig.shown(message("tools/call", {"name": "zzzwrite"}))
    assert (shown.facts.server, shown.facts.named) == (unknown.facts.server, unknown.facts.named) == (None, None)
    seen, _ = rig.shown(message("tools/call", {"name": "a__read"}))
    assert (seen.facts.server, seen.facts.named) == ("a", ("tool", "read"))


def test_behind_policies_the_same_holds() -> None:
    rig = Ruled({"action": "allow", "tools": ["read"]})
    rig.lists("tools/list")
    for tool, kind in (("a__read", Forward), ("a__write", Reply), ("a__nothing", Reply)):
        body = message("tools/call", {"name": tool})
        _, head = rig.shown(body)
        assert isinstance(rig.decide(body, head), kind)


def test_a_name_that_is_not_listed_may_not_be_used() -> None:
    rig = Ruled(default="allow")
    assert as_reply(rig.call("a__nothing")).facts.error == (-32602, "unknown_tool")
    assert rig.asked == ["a tools/list"]
    rig.call("a__nothing")
    assert rig.asked == ["a tools/list"], "what is known is not asked for again: unknown and hidden take the same time"


def test_without_a_list_a_use_fails_be_it_allowed_hidden_or_unknown() -> None:
    rig = Ruled({"action": "allow", "tools": ["read", "nothing"]})
    replies = []
    for tool in ("a__read", "a__write", "a__nothing"):
        decision = rig.fan_out(message("tools/call", {"name": tool}))
        replies.append(as_reply(decision.merge([Failed("a", "timeout", "did not respond")], NOW)))
    assert {reply.facts.error for reply in replies} == {(-32603, "upstream_unavailable")}
    assert len({reply.body for reply in replies}) == 1
    assert not any(reply.effects for reply in replies)


def test_what_is_hidden_takes_as_many_steps_as_what_is_unknown() -> None:
    for tool in ("a__write", "a__nothing"):
        rig = Ruled({"action": "deny", "tools": ["write"]}, default="allow")
        rig.call(tool)
        assert rig.asked == ["a tools/list"]
        rig.call(tool)
        assert rig.asked == ["a tools/list"]


def test_the_next_call_takes_the_short_way_and_is_judged_all_the_same() -> None:
    rig = Ruled({"action": "allow", "principals": {"scopes": ["read"]}}, who=alice("read"))
    assert [isinstance(rig.call("a__read"), Forward) for _ in range(3)] == [True] * 3
    assert rig.asked == ["a tools/list"]
    rig.who = alice()
    assert isinstance(rig.call("a__read"), Reply)


def test_a_plan_is_not_for_a_caller_with_other_scopes() -> None:
    rig = Ruled(
        {"action": "allow", "tools": ["read"]}, {"action": "allow", "principals": {"scopes": ["r"]}}, who=alice("r")
    )
    rig.call("a__read")
    richer = rig.call("a__read")
    rig.who = alice()
    poorer = rig.call("a__read")
    assert isinstance(richer, Forward)
    assert isinstance(poorer, Forward)
    assert richer.plan is not poorer.plan


@pytest.mark.parametrize("tool", ["a__hidden", "a__new", "a__nothing"])
def test_before_something_is_called_unknown_a_list_that_is_old_is_read_again(tool: str) -> None:
    """Another worker may have been told that it changed. What is hidden is looked for as what is not there."""
    rig = Ruled({"action": "deny", "tools": ["hidden"]}, default="allow")
    rig.has = {**HAS, "tools/list": [{"name": "old"}, {"name": "hidden"}]}
    rig.lists("tools/list")
    rig.asked.clear()
    rig.has = {**HAS, "tools/list": [{"name": "new"}, {"name": "hidden"}]}
    body = message("tools/call", {"name": tool})
    assert isinstance(rig.gateway.decide(rig.head(), body, NOW + LISTED_SECONDS), Reply)
    decision = rig.gateway.decide(rig.head(), body, NOW + LISTED_SECONDS + 1)
    assert isinstance(decision, FanOut)
    assert isinstance(rig.finished(decision), Forward) is (tool == "a__new")
    assert rig.asked == ["a tools/list"]


def test_what_was_listed_long_ago_is_called_without_asking_again() -> None:
    rig = Ruled(default="allow")
    rig.lists("tools/list")
    body = message("tools/call", {"name": "a__read"})
    assert isinstance(rig.gateway.decide(rig.head(), body, NOW + 1000), Forward)


def test_a_list_that_changed_is_read_again() -> None:
    rig = Ruled(default="allow")
    rig.call("a__read")
    rig.memory.forget_owners(rig.session)
    rig.call("a__read")
    assert rig.asked == ["a tools/list"] * 2


def test_each_message_of_a_batch_is_judged_by_itself() -> None:
    reads = {"action": "allow", "tools": ["read"], "principals": {"scopes": ["r"]}}
    rig = Ruled(reads, who=alice(), step_up=True)
    rig.version = "2025-03-26"
    rig.token, rig.session = rig.sealer.seal(rig.state())
    bodies = [message("tools/call", {"name": name}, id=name) for name in ("a__read", "a__write", "a__nothing")]
    batch = rig.fan_out(b"[%b]" % b",".join([*bodies, message("tools/list", id="list")]))
    outcomes: list[Outcome] = []
    for leg in batch.legs:
        assert isinstance(leg, BatchLeg)
        single = as_reply(rig.finished(rig.decide(leg.body, rig.head())))
        outcomes.append(Answered("", single.status, single.body))
    scope, hidden, unknown, listed = json.loads(as_reply(batch.merge(outcomes, NOW)).body)
    assert (scope["id"], scope["error"]["data"]) == ("a__read", {"reason": "insufficient_scope", "scope": "r"})
    assert hidden["error"]["message"] == "Unknown tool: a__write"
    assert unknown["error"]["message"] == "Unknown tool: a__nothing"
    assert [tool["name"] for tool in listed["result"]["tools"]] == ["a__read", "b__read"]


# -- Annotations --------------------------------------------------------------------------------------------------------------


def test_annotations_decide_lists_and_calls() -> None:
    rig = Ruled({"action": "allow", "annotations": {"readOnlyHint": True}})
    assert isinstance(rig.call("a__read"), Forward)
    assert isinstance(rig.call("a__write"), Reply)
    assert rig.lists("tools/list") == ["a__read", "b__read"]


def test_an_untrusted_server_says_nothing() -> None:
    rig = Ruled({"action": "allow", "annotations": {"readOnlyHint": True}}, servers={"a": {"untrusted": True}, "b": {}})
    assert rig.lists("tools/list") == ["b__read"]
    assert isinstance(rig.call("a__read"), Reply)


def test_a_server_that_alternates_gains_nothing() -> None:
    rig = Ruled({"action": "allow", "annotations": {"readOnlyHint": True}}, servers={"a": {}})
    dangerous, harmless = [{"name": "x"}], [{"name": "x", "annotations": {"readOnlyHint": True}}]
    rig.has = {**HAS, "tools/list": dangerous}
    assert rig.lists("tools/list") == []
    rig.has = {**HAS, "tools/list": harmless}
    assert isinstance(rig.call("a__x"), Reply), "what was listed last counts"
    assert rig.lists("tools/list") == ["a__x"]
    rig.has = {**HAS, "tools/list": dangerous}
    assert isinstance(rig.call("a__x"), Forward)
    assert rig.lists("tools/list") == []
    assert isinstance(rig.call("a__x"), Reply)


def test_a_tool_that_is_listed_twice_is_what_it_was_first() -> None:
    rig = Ruled({"action": "allow", "annotations": {"readOnlyHint": True}}, servers={"a": {}})
    rig.has = {**HAS, "tools/list": [{"name": "x"}, {"name": "x", "annotations": {"readOnlyHint": True}}]}
    assert rig.lists("tools/list") == []
    assert isinstance(rig.call("a__x"), Reply)


# -- Conditions and step-up ------------------------------------------------------------------------------------------


TENANT = "request.mcp.params.arguments.tenant == request.auth.jwt.claims.tenant"


def test_arguments_decide_on_the_call() -> None:
    rig = Ruled(
        {
            "action": "allow",
            "tools": ["read"],
            "when": TENANT,
        },
        who=alice(claims={"tenant": "acme"}),
    )
    assert rig.lists("tools/list") == ["a__read", "b__read"]
    good = {"name": "a__read", "arguments": {"tenant": "acme"}}
    assert [isinstance(rig.done("tools/call", good), Forward) for _ in range(2)] == [True, True]
    refused = as_reply(rig.done("tools/call", {"name": "a__read", "arguments": {"tenant": "evil"}}))
    assert (refused.status, refused.facts.error) == (200, (-32600, "not_authorized"))
    assert answer(refused)["id"] == 7
    hidden = as_reply(rig.done("tools/call", {"name": "a__write", "arguments": {"tenant": "acme"}}))
    assert hidden.facts.error == (-32602, "unknown_tool")


def test_conditions_on_headers_decide_lists_and_calls() -> None:
    rig = Ruled({"action": "allow", "when": "request.headers['x-team'] == 'ops'"})
    assert rig.lists("tools/list") == []
    assert isinstance(rig.call("a__read"), Reply)
    for _ in range(2):
        assert isinstance(rig.call("a__read", x_team="ops"), Forward)
    assert isinstance(rig.call("a__read"), Reply)
    assert isinstance(rig.call("a__read", x_team="dev"), Reply)


def test_what_a_server_sends_unasked_is_judged_by_the_token_of_the_request() -> None:
    """Two tokens may be of one kind, but for conditions."""
    rules = (
        {"action": "allow", "tools": ["read"]},
        {"action": "allow", "when": "request.auth.jwt.claims.tenant == 'acme'"},
    )
    rig = Ruled(*rules, who=alice(claims={"tenant": "acme"}))
    for tenant, sees in (("acme", True), ("other", False), ("acme", True)):
        rig.who = alice(claims={"tenant": tenant})
        for _ in range(2):
            forwarded = rig.call("a__read")
            assert isinstance(forwarded, Forward)
            assert forwarded.response is not None
            sight = forwarded.response.relay.sight
            assert sight is not None
            assert sight.may_see("a", "file:///open") is sees


def test_scopes_that_are_missing() -> None:
    """Those that are there are named, too, if they are of use here: many clients ask for what is named, and nothing else."""
    rule = {"action": "allow", "tools": ["read"], "principals": {"scopes": ["r", "s"]}}
    rig = Ruled(rule, who=alice("openid r"), step_up=True)
    assert rig.lists("tools/list") == ["a__read", "b__read"]
    reply = as_reply(rig.call("a__read"))
    assert reply.status == 403
    metadata = "https://gw.example/.well-known/oauth-protected-resource/mcp"
    assert dict(reply.headers)["www-authenticate"] == (
        f'Bearer error="insufficient_scope", scope="r s", resource_metadata="{metadata}"'
    )
    assert answer(reply)["id"] == 7
    assert as_reply(rig.call("a__write")).facts.error == (-32602, "unknown_tool")
    rig.who = alice("r s")
    assert isinstance(rig.call("a__read"), Forward)


@pytest.mark.parametrize("public_url", [OAUTH["public_url"], None])
def test_the_challenge_of_an_endpoint_without_a_path(public_url: str | None) -> None:
    """Nothing follows the name (RFC 9728 section 3.1), not even a slash."""
    rule = {"action": "allow", "principals": {"scopes": ["r"]}}
    authentication = {"oauth": OAUTH["oauth"], **({"public_url": public_url} if public_url else {})}
    rig = Ruled(rule, who=alice(), step_up=True, authentication=authentication, listen={"path": "/"})
    head = replace(rig.head(host="localhost:8443"), path="/")
    reply = as_reply(rig.finished(rig.decide(message("tools/call", {"name": "a__read"}), head)))
    where = f"{public_url or 'http://localhost:8443'}/.well-known/oauth-protected-resource"
    assert dict(reply.headers)["www-authenticate"] == (
        f'Bearer error="insufficient_scope", scope="r", resource_metadata="{where}"'
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_no_url_is_public_the_challenge_has_the_scheme_and_host_that_the_client_used(scheme: str) -> None:
    """Whoever ends TLS: a listener of others does not say so in this configuration."""
    rule = {"action": "allow", "principals": {"scopes": ["r"]}}
    authentication = {"oauth": OAUTH["oauth"]}
    rig = Ruled(rule, who=alice(), step_up=True, authentication=authentication)
    head = replace(rig.head(host="localhost:8443"), scheme=scheme)
    reply = as_reply(rig.finished(rig.decide(message("tools/call", {"name": "a__read"}), head)))
    where = f'resource_metadata="{scheme}://localhost:8443/.well-known/oauth-protected-resource/mcp"'
    assert dict(reply.headers)["www-authenticate"].endswith(where)


# -- A table ------------------------------------------------------------------------------------------------------------------

TABLE_RULES: list[dict[str, Any]] = [
    {"action": "deny", "tools": ["delete_*"], "principals": {"not": {"groups": ["ops"]}}},
    {"action": "deny", "servers": ["b"], "prompts": ["secret"]},
    {"action": "allow", "principals": {"groups": ["ops"]}},
    {"action": "allow", "principals": {"scopes": ["r"]}, "tools": ["read"], "resources": ["file:*open", "*{path}"]},
    {
        "action": "deny",
        "principals": {"not": {"scopes": ["w"]}},
        "servers": ["a"],
        "annotations": {"readOnlyHint": False},
    },
    {"action": "allow", "principals": {"scopes": ["r", "w"]}, "servers": ["a"], "tools": ["*"]},
    {"action": "allow", "principals": {"claims": {"tenant": "acme"}}, "prompts": ["*"]},
    {"action": "allow", "principals": {"authenticated": False}, "servers": ["b"], "prompts": ["sum"]},
]
TABLE: list[tuple[Principal, str, str]] = [
    # Of a and b each: three tools, two prompts, two resources, one template. y: may be used; s: with more scopes; -: hidden.
    (ANONYMOUS, "---  --  --  -", "---  y-  --  -"),
    (alice(), "ss-  --  s-  s", "s--  --  s-  s"),
    (alice("r"), "ys-  --  y-  y", "y--  --  y-  y"),
    (alice("w"), "ss-  --  s-  s", "s--  --  s-  s"),
    (alice("r w"), "yy-  --  y-  y", "y--  --  y-  y"),
    (alice(claims={"tenant": "acme"}), "ss-  yy  s-  s", "s--  y-  s-  s"),
    (alice("r", claims={"tenant": "other"}), "ys-  --  y-  y", "y--  --  y-  y"),
    (alice(groups=frozenset({"ops"})), "yyy  yy  yy  y", "yyy  y-  yy  y"),
]


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
@pytest.mark.parametrize(("who", "of_a", "of_b"), TABLE)
def test_a_table_of_verdicts(version: str, who: Principal, of_a: str, of_b: str) -> None:
    """As lists show it, and as uses find it, alone and in batches."""
    rig = Ruled(*TABLE_RULES, who=who, step_up=True)
    rig.version = version
    rig.token, rig.session = rig.sealer.seal(rig.state())
    uses = [use for use in USES if use[1] in methods.USED_BY.values() or use[0] == "resources/templates/list"]
    for server, row in (("a", of_a), ("b", of_b)):
        for (method, use, params), expected in zip(uses, row.split("  "), strict=True):
            names = [name for name in everything(method) if name.startswith(server)]
            shown = rig.lists(method)
            assert "".join("+" if name in shown else "-" for name in names) == re.sub("[ys]", "+", expected), method
            assert "".join(_letter(rig.done(use, params(name))) for name in names) == expected, use
            if version == "2025-03-26":
                batch = rig.fan_out(b"[%b]" % b",".join(message(use, params(name)) for name in names))
                bodies = [leg.body for leg in batch.legs if isinstance(leg, BatchLeg)]
                assert "".join(_letter(rig.finished(rig.decide(body))) for body in bodies) == expected, use


def _letter(decision: Forward | Reply) -> str:
    if isinstance(decision, Forward):
        return "y"
    return "s" if decision.status == 403 else "-"


# -- For any rules ------------------------------------------------------------------------------------------------------------


_names = st.lists(
    st.sampled_from(["read", "delete_*", "*", {"regex": "^s"}, "file:*", {"exact": "file:///{path}"}]),
    min_size=1,
    max_size=2,
)
_some_rules = st.lists(
    st.fixed_dictionaries(
        {"action": st.sampled_from(["allow", "deny"])},
        optional={
            "servers": st.sampled_from([["a"], ["b"], ["*"]]),
            "principals": st.sampled_from(
                [{"scopes": ["r"]}, {"not": {"scopes": ["r"]}}, {"authenticated": True}, {"groups": ["g"]}]
            ),
            "tools": _names,
            "prompts": _names,
            "resources": _names,
            "when": st.sampled_from(["request.mcp.tool != 'write'", "request.auth.jwt.claims.tenant == 'acme'"]),
        },
    ),
    max_size=5,
)
_callers = st.sampled_from(
    [
        ANONYMOUS,
        alice(),
        alice("r"),
        alice("r", groups=frozenset({"g"}), claims={"tenant": "acme"}),
        alice(claims={"tenant": "other"}),
    ]
)


@settings(max_examples=60, deadline=None)
@given(_some_rules, st.sampled_from(["allow", "deny"]), _callers, st.booleans())
def test_lists_and_uses_agree(rules: Sequence[dict[str, Any]], default: str, who: Principal, first: bool) -> None:
    rig = Ruled(*rules, default=default, who=who)
    for method, use, params in USES:
        shown = rig.lists(method) if first else None
        may = [name for name in ALL[method] if isinstance(rig.done(use, params(name)), Forward)]
        if use in ("tools/call", "prompts/get", "resources/read") or method == "resources/templates/list":
            assert may == (rig.lists(method) if shown is None else shown)


ALL = {method: everything(method) for method in LISTS}


def test_each_use_of_an_item_is_tried() -> None:
    rows = {row.name for row in methods.REQUESTS.values() if row.is_for_one_server}
    assert {use for _, use, _ in USES} == rows


# -- What records say of it -------------------------------------------------------------------------------------------------


def test_the_rule_that_decided_is_known() -> None:
    """Also for a call like the one before, which another rule permits."""
    on_monday = {"name": "monday", "action": "allow", "tools": ["write"], "when": "request.headers['x-day'] == 'mo'"}
    rig = Ruled({"name": "no", "action": "deny", "tools": ["delete_*"]}, on_monday, {"name": "rest", "action": "allow"})
    for day, rule in (("mo", "monday"), ("mo", "monday"), ("tu", "rest"), ("mo", "monday")):
        assert rig.call("a__write", x_day=day).facts.rule == rule
    hidden = rig.call("a__delete_all")
    assert (hidden.facts.rule, hidden.facts.error) == ("no", (-32602, "unknown_tool"))
    assert rig.call("a__nothing").facts.rule is None
    assert not {"rule", "no", "rest"} & {*hidden.facts.metadata(), *map(str, hidden.facts.metadata().values())}
