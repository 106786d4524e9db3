"""What a caller may see and do, explained."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mcp_extproc.check.explain import Explained, Explainer, principal_of
from mcp_extproc.gateway.legs import Failed, Listed
from mcp_extproc.gateway.principal import ANONYMOUS
from mcp_extproc.upstreams.probe import Survey
from tests.unit.gateway.support import config, opened

OAUTH = {
    "oauth": {
        "resource": "https://gw.example/mcp",
        "issuers": [{"issuer": "https://idp.example", "jwks": {"uri": "https://idp.example/jwks"}}],
    },
}
RULES = [
    {"name": "no-deletes", "action": "deny", "tools": ["delete_*"]},
    {"action": "allow", "principals": {"scopes": ["read"]}, "annotations": {"readOnlyHint": True}},
    {"name": "files", "action": "allow", "resources": ["file:*"]},
    {"name": "own", "action": "allow", "prompts": ["sum"], "when": "request.mcp.params.arguments.x == 1"},
]


def explainer(who: str = "sub=alice", servers: Any = None, **more: Any) -> Explainer:
    authorization = {"rules": RULES, "step_up": True, **more}
    names = servers or {"a": {}, "b": {}}
    return Explainer(config(names, authentication=OAUTH, authorization=authorization), principal_of(who))


def survey(server: str, **lists: Any) -> Survey:
    found = {
        kind: given if isinstance(given, Failed) else Listed(server, [msgspec.Raw(json.dumps(one)) for one in given])
        for kind, given in lists.items()
    }
    return Survey(server, opened(server), found)


@pytest.mark.parametrize(
    ("text", "subject", "scopes", "groups", "claims"),
    [
        ("sub=alice", "alice", set(), set(), {}),
        ("sub=alice scope=a,b groups=x,y", "alice", {"a", "b"}, {"x", "y"}, {}),
        ("scope='a b'", "somebody", {"a", "b"}, set(), {}),
        ("claim.tenant=acme claim.level=3", "somebody", set(), set(), {"tenant": "acme", "level": 3}),
        ('claim.roles=\'["admin"]\' "groups=the ops"', "somebody", set(), {"the ops"}, {"roles": ["admin"]}),
    ],
)
def test_who_is_meant(text: str, subject: str, scopes: set[str], groups: set[str], claims: dict[str, Any]) -> None:
    found = principal_of(text)
    assert (found.subject, set(found.scopes), set(found.groups), dict(found.claims)) == (
        subject,
        scopes,
        groups,
        claims,
    )
    assert found != ANONYMOUS


def test_nothing_said_is_an_anonymous_caller() -> None:
    assert principal_of("  ") == ANONYMOUS


@pytest.mark.parametrize("text", ["alice", "user=alice", "claim.=x", "sub", "sub='x"])
def test_who_can_not_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"sub=alice|quotation"):
        principal_of(text)


def test_what_servers_list() -> None:
    lists = survey(
        "a",
        tools=[{"name": "get", "annotations": {"readOnlyHint": True}}, {"name": "put"}, {"name": "delete_it"}],
        prompts=[{"name": "sum"}, {"name": "other"}],
        resources=[{"uri": "file:///x"}],
        resourceTemplates=[{"uriTemplate": "db:///{x}"}],
    )
    found = explainer().of_lists([lists])
    assert found.items == [
        Explained("a", "tools", "a__get", "needs scopes", "default", ("read",)),
        Explained("a", "tools", "a__put", "hidden", "default"),
        Explained("a", "tools", "a__delete_it", "hidden", "no-deletes"),
        Explained("a", "prompts", "a__sum", "depends on the arguments", "own"),
        Explained("a", "prompts", "a__other", "hidden", "default"),
        Explained("a", "resources", "a+file:///x", "allowed", "files"),
        Explained("a", "resourceTemplates", "a+db:///{x}", "hidden", "default"),
    ]
    assert found.unread == []
    [get, *_] = explainer("scope=read").of_lists([lists]).items
    assert (get.verdict, get.rule) == ("allowed", "2")


def test_what_an_untrusted_server_says_of_a_tool_counts_as_absent() -> None:
    lists = survey("a", tools=[{"name": "get", "annotations": {"readOnlyHint": True}}])
    [get] = explainer("scope=read", {"a": {"untrusted": True}}).of_lists([lists]).items
    assert get.verdict == "hidden"


def test_what_could_not_be_read_is_said() -> None:
    dead = Survey("b", Failed("b", "timeout", "did not respond"), {})
    found = explainer().of_lists([survey("a", tools=Failed("a", "http", "answered 500")), dead])
    assert (found.items, found.unread) == ([], ["a: tools: answered 500", "b did not respond"])


def test_a_tool_by_its_name() -> None:
    found = explainer().of_name("a__delete_all")
    assert found == Explained("a", "tools", "a__delete_all", "hidden", "no-deletes")
    assert not found.depends_on_annotations
    get = explainer().of_name("a__get")
    assert get is not None
    assert get.depends_on_annotations
    assert explainer().of_name("c__get") is None
    assert explainer(servers={"a": {"tools": {"exclude": ["get"]}}}).of_name("a__get") is None


def test_what_a_policy_denies_is_said_and_which_policy() -> None:
    """By the name that Envoy gives: of several the first one by name, as the audit has it."""

    def about(name: str) -> dict[str, Any]:
        is_it = {"filter": "mcp_proxy", "path": [{"key": "tool"}], "value": {"string_match": {"exact": name}}}
        return {"permissions": [{"metadata": is_it}], "principals": [{"any": True}]}

    def rbac(name: str, action: str, **policies: Any) -> dict[str, Any]:
        type = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
        return {"name": name, "typed_config": {"@type": type, "rules": {"action": action, "policies": policies}}}

    denying = rbac("first", "DENY", z=about("write"), no_writes=about("write"), a=about("other"))
    allowing = rbac("second", "ALLOW", reads=about("read"))
    explained = Explainer(config({"a": {}}, envoy={"http_filters": [denying, allowing]}), principal_of("sub=alice"))
    assert explained.of_name("a__write") == Explained("a", "tools", "a__write", "denied by a policy", "rbac:no_writes")
    assert explained.of_name("a__third") == Explained("a", "tools", "a__third", "denied by a policy", "rbac:none")
    assert explained.of_name("a__read") == Explained("a", "tools", "a__read", "allowed", "none")


def test_without_rules_everything_is_allowed() -> None:
    found = Explainer(config({"a": {}}), ANONYMOUS).of_name("a__x")
    assert found == Explained("a", "tools", "a__x", "allowed", "none")


def test_a_virtual_server_is_explained_by_its_selection_and_rules() -> None:
    virtual = {
        "servers": {"a": {"tools": ["look", "delete_*"], "resources": ["file:*"]}},
        "rename": {"tools": {"a__look": "see"}},
        "authorization": {
            "default": "allow",
            "rules": [{"name": "no-deletes", "action": "deny", "tools": ["delete_*"]}],
        },
    }
    whole = config({"a": {}, "b": {}}, virtual_servers={"v": virtual, "w": {"servers": {"b": "all"}}})
    asked = [survey(name, tools=[{"name": "look"}, {"name": "delete_it"}, {"name": "x"}]) for name in ("a", "b")]
    found = Explainer(whole, ANONYMOUS, "v").of_lists(asked).items
    assert [(one.name, one.verdict, one.rule) for one in found] == [
        ("see", "allowed", "default"), ("a__delete_it", "hidden", "no-deletes"), ("a__x", "hidden", "not offered"),
    ]  # fmt: skip
    elsewhere = Explainer(whole, ANONYMOUS, "w").of_lists(asked).items
    assert [one.rule for one in elsewhere if one.name == "b__look"] == ["none"]
    assert Explainer(whole, ANONYMOUS, "v").of_name("b__look") is None
    assert Explainer(whole, ANONYMOUS, "v").of_name("a__look") is None
    assert len(Explainer(whole, ANONYMOUS).of_lists(asked).items) == 6
