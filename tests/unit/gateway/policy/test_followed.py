"""Lists that follow policies: what is left out, for whom, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.endpoints import Endpoints
from mcp_extproc.gateway.policy.followed import Policies
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from tests.unit.gateway.requests.test_permission import Ruled, alice
from tests.unit.gateway.support import catalog_of, config

TYPE = "type.googleapis.com/envoy.extensions.filters.http"


def is_(path: str, value: str, namespace: str = "mcp_proxy") -> dict[str, Any]:
    keys = [{"key": key} for key in path.split(".")]
    return {"metadata": {"filter": namespace, "path": keys, "value": {"string_match": {"exact": value}}}}


def denying(permission: Any, *principals: Any) -> dict[str, Any]:
    policy = {"permissions": [permission], "principals": list(principals) or [{"any": True}]}
    return {"rules": {"action": "DENY", "policies": {"p": policy}}}


def item_filter(kind: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name or kind, "typed_config": {"@type": f"{TYPE}.{kind}", **more}}


def rbac(rules: Mapping[str, Any], name: str = "rbac") -> dict[str, Any]:
    return item_filter("rbac.v3.RBAC", name, **rules)


def per_route(rules: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"rbac": {"@type": f"{TYPE}.rbac.v3.RBACPerRoute", **({} if rules is None else {"rbac": rules})}}


WRITE = denying(is_("tool", "write"))


def policies(*filters: Any, servers: Any = None, **more: Any) -> Policies | None:
    envoy = {"http_filters": filters, **more.pop("envoy", {})}
    whole = config(servers, envoy=envoy, **more)
    served = Endpoints(whole).named("")
    assert served is not None
    return served.policies


def denied(found: Policies | None, principal: Principal = ANONYMOUS, server: str = "a", name: str = "write") -> Any:
    assert found is not None
    return found.of(principal).verdict(Item("tools", server, name)).denies


# -- Lists ------------------------------------------------------------------------------------------------------------------


def following(*filters: Any, authorization: Any = None, **more: Any) -> Ruled:
    """A gateway with these filters, and without rules unless there are some."""
    rig = Ruled(default="allow", envoy={"http_filters": filters}, **more)
    changed = rig.config.model_copy(update={"authorization": authorization})
    rig.config = changed
    rig.__post_init__()
    return rig


def test_lists_leave_out_what_is_denied_without_rules() -> None:
    rig = following(rbac(WRITE))
    assert rig.lists("tools/list") == ["a__read", "a__delete_all", "b__read", "b__delete_all"]
    assert rig.lists("prompts/list") == ["a__sum", "a__secret", "b__sum", "b__secret"]


@pytest.mark.parametrize(
    ("method", "rule", "left"),
    [
        ("prompts/list", is_("prompt", "secret"), ["a__sum", "b__sum"]),
        ("prompts/list", is_("params.name", "b__sum"), ["a__sum", "a__secret", "b__secret"]),
        ("tools/list", is_("method", "tools/call"), []),
        ("tools/list", is_("server", "b"), ["a__read", "a__write", "a__delete_all"]),
        ("resources/list", {"header": {"name": "mcp-name", "suffix_match": "secret"}},
         ["a+file:///open", "b+file:///open"]),
        ("resources/templates/list", {"header": {"name": "mcp-name", "prefix_match": "file:"}},
         ["a+file:///{path}", "b+file:///{path}"]),
        ("resources/templates/list", is_("method", "resources/read"), []),
        # A client may write a URI in several ways.
        ("resources/list", is_("params.uri", "a+file:///open"),
         ["a+file:///open", "a+file:///secret", "b+file:///open", "b+file:///secret"]),
    ],
)  # fmt: skip
def test_what_calls_will_be(method: str, rule: Any, left: list[str]) -> None:
    assert following(rbac(denying(rule))).lists(method) == left


def test_a_call_that_envoy_will_judge_is_not_judged_here() -> None:
    rig = following(rbac(WRITE))
    _, head = rig.shown(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a__write"}}')
    assert head.is_judged


def test_rules_and_policies_both_leave_out() -> None:
    rig = Ruled({"action": "allow", "tools": ["read", "write"]}, envoy={"http_filters": [rbac(WRITE)]})
    assert rig.lists("tools/list") == ["a__read", "b__read"]


def test_lists_may_go_by_rules_only() -> None:
    assert policies(rbac(WRITE), authorization={"default": "allow", "lists": "rules_only"}) is None
    assert policies(rbac(WRITE), authorization={"default": "allow"}) is not None


@pytest.mark.parametrize("filters", [[], [item_filter("fault.v3.HTTPFault")]])
def test_without_rbac_nothing_is_asked(filters: list[Any]) -> None:
    assert policies(*filters) is None
    assert following(*filters).lists("tools/list")[1] == "a__write"


def test_each_endpoint_follows_by_itself() -> None:
    """By the names that its clients use, and if it wants to."""
    virtual_servers = {
        "new": {"servers": {"a": "all"}, "rename": {"tools": {"a__write": "put"}}},
        "alone": {"servers": {"a": "all"}, "authorization": {"default": "allow", "lists": "rules_only"}},
    }
    envoy = {"http_filters": [rbac(denying(is_("params.name", "put")))]}
    endpoints = Endpoints(config(envoy=envoy, virtual_servers=virtual_servers))
    served = {name: endpoints.named(name) for name in ("", "new", "alone")}
    found = {name: None if one is None else one.policies for name, one in served.items()}
    assert denied(found[""]) is False
    assert denied(found["new"]) is True
    assert found["alone"] is None


def test_bare_names_can_be_written_in_two_ways() -> None:
    by_name = rbac(denying(is_("params.name", "a__write")))
    assert denied(policies(by_name)) is True
    assert denied(policies(by_name, bare_names=True)) is None


# -- Filters, routes and servers --------------------------------------------------------------------------------------------


def test_what_a_server_has_counts_before_the_endpoints_and_that_before_the_filters() -> None:
    servers = {
        "a": {"typed_per_filter_config": per_route(denying(is_("tool", "x")))},
        "b": {},
        "c": {"typed_per_filter_config": per_route(None)},
    }
    endpoint = {"typed_per_filter_config": per_route(denying(is_("tool", "y")))}
    found = policies(rbac(WRITE), servers=servers, envoy=endpoint)
    tools = [(server, name) for server in "abc" for name in ("write", "x", "y")]
    assert [one for one in tools if denied(found, server=one[0], name=one[1])] == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(
    ("in_front", "expected"),
    [
        (item_filter("fault.v3.HTTPFault"), True),
        (item_filter("cors.v3.Cors", "my_cors"), True),
        (rbac({}, "other"), True),
        (item_filter("jwt_authn.v3.JwtAuthentication"), True),
        (item_filter("jwt_authn.v3.JwtAuthentication", providers={"p": {"clear_route_cache": True}}), None),
        (item_filter("lua.v3.Lua"), None),
        (item_filter("ext_authz.v3.ExtAuthz"), None),
        ({"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.common.matching.v3.X"}}, None),
    ],
)
def test_filters_in_front_may_change_what_a_policy_sees(in_front: Any, expected: Any) -> None:
    assert denied(policies(in_front, rbac(WRITE))) is expected


def test_filters_behind_change_nothing_about_a_denial() -> None:
    found = policies(rbac(WRITE), item_filter("lua.v3.Lua"))
    assert denied(found) is True
    assert denied(found, name="read") is None


def test_another_config_of_a_route_can_not_be_told() -> None:
    disabled = {"rbac": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}
    assert denied(policies(rbac(WRITE), envoy={"typed_per_filter_config": disabled})) is None


def test_the_namespace_of_envoys_own_filter_has_the_same() -> None:
    assert denied(policies(rbac(denying(is_("params.name", "a__write", "envoy.filters.http.mcp"))))) is True


# -- Callers ------------------------------------------------------------------------------------------------------------------


KEYED = Principal("key", "api_keys", "alice")


@pytest.mark.parametrize(
    ("principal", "rule", "expected"),
    [
        (alice(), is_("principal", "alice"), True),
        (alice(), is_("principal", "bob"), False),
        (alice(), is_("issuer", "https://idp.example"), True),
        (ANONYMOUS, is_("principal", "alice"), False),
        (alice(claims={"tenant": "acme"}), is_("payload.tenant", "acme", "envoy.filters.http.jwt_authn"), True),
        (KEYED, is_("payload.tenant", "acme", "envoy.filters.http.jwt_authn"), None),
        (KEYED, is_("api_key", "alice", "mcp_principal"), True),
        (alice(), is_("api_key", "alice", "mcp_principal"), None),
        (Principal("certificate", "mtls", "alice"), is_("certificate", "alice", "mcp_principal"), True),
        (Principal("existing", "", "alice"), is_("issuer", "x"), None),
        (Principal("external", "external", "alice"), is_("external", "alice", "mcp_principal"), None),
    ],
)
def test_who_calls(principal: Principal, rule: Any, expected: Any) -> None:
    assert denied(policies(rbac(denying({"any": True}, rule))), principal) is expected


def test_callers_for_whom_policies_say_the_same_are_of_one_kind() -> None:
    found = policies(rbac(denying(is_("tool", "write"), is_("principal", "alice"))))
    assert found is not None
    bob, carol = (Principal("token", "i", name) for name in ("bob", "carol"))
    assert found.of(bob) is found.of(carol) is found.of(ANONYMOUS)
    assert found.of(alice()) is not found.of(bob)


def test_a_verdict_is_found_once_for_all_callers_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    found = policies(rbac(WRITE))
    assert denied(found) is True
    monkeypatch.setattr(found, "judge", None)
    assert denied(found, alice()) is True


def test_a_list_made_for_one_caller_is_not_given_to_another() -> None:
    rig = following(rbac(denying(is_("tool", "write"), is_("principal", "alice"))), who=alice())
    assert len(rig.lists("tools/list")) == 4
    rig.who = Principal("token", "https://idp.example", "bob")
    rig.token, rig.session = rig.sealer.seal(rig.state())
    assert len(rig.lists("tools/list")) == 6


def test_policies_are_part_of_what_lists_are_made_of() -> None:
    before, after = (catalog_of(config(envoy={"http_filters": [rbac(one)]})) for one in (WRITE, denying({"any": True})))
    assert before.checksum != after.checksum
    assert (
        catalog_of(config()).checksum
        == catalog_of(config(envoy={"http_filters": [item_filter("lua.v3.Lua")]})).checksum
    )
