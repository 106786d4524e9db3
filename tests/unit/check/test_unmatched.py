"""What ``check`` says of rules, entries of ``vetting`` and policies that are about nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mcp_extproc.check.tool_names import Names
from mcp_extproc.check.unmatched import problems
from mcp_extproc.config import GatewayConfig

LISTED: Mapping[str, Names] = {
    "a": {"tools": ["create", "delete"], "prompts": ["greet"]},
    "b": {"tools": ["search"], "prompts": [], "resources": ["file:///x"]},
}


def found(listed: Mapping[str, Names] = LISTED, **sections: Any) -> list[tuple[str, str]]:
    servers = {name: {"url": f"http://localhost/{name}", **sections.pop(name, {})} for name in "ab"}
    config = GatewayConfig.model_validate({"servers": servers, **sections})
    assert all(problem.server is None for problem in problems(config, listed))
    return [(problem.kind, problem.text) for problem in problems(config, listed)]


def denying(**about: Any) -> dict[str, Any]:
    return {"authorization": {"default": "allow", "rules": [{"action": "deny", **about}]}}


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"tools": ["delet"]}, "tools[0] 'delet' matches none of the tools: did you mean 'delete'?"),
        (
            {"tools": ["delete", "drop"]},
            "tools[1] 'drop' matches none of the tools: is there a typo, or was it renamed at",
        ),
        ({"tools": ["drop_*"]}, "tools[0] 'drop_*' matches none of the tools: "),
        ({"tools": [{"regex": "^delet$"}]}, "tools[0] '^delet$' matches none of the tools: "),
        ({"tools": [{"exact": "*"}]}, "tools[0] '*' matches none of the tools: "),
        ({"tools": ["search"], "servers": ["a"]}, "tools[0] 'search' matches none of the tools: "),
        ({"tools": ["delete"], "servers": ["a", "c*"]}, "servers[1] 'c*' matches none of the servers: "),
        ({"prompts": ["gret"]}, "prompts[0] 'gret' matches none of the prompts: did you mean 'greet'?"),
    ],
)
def test_rules_about_nothing(about: dict[str, Any], told: str) -> None:
    [(kind, text)] = found(**denying(**about))
    assert (kind, text.startswith(f"authorization.rules[0].{told}")) == ("rule_matches_nothing", True), text


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"tools": ["*", "delete", {"regex": "^sea"}, "*ea*"]},
        {"tools": ["search"], "servers": ["b"]},
        {"prompts": ["greet"]},
        # Nothing is there of which it could be a misspelling.
        {"prompts": ["grep"], "servers": ["b"]},
        # There without standing in a list.
        {"resources": ["file:///y", "file:///{path}"]},
        {"annotations": {"readOnlyHint": True}},
    ],
)
def test_rules_about_something(about: dict[str, Any]) -> None:
    assert found(**denying(**about)) == []


def test_a_server_that_is_not_known_may_have_it() -> None:
    only_a = {"a": LISTED["a"]}
    assert found(only_a, **denying(tools=["delet"])) == []
    assert found(only_a, **denying(tools=["delet"], servers=["b"])) == []
    assert len(found(only_a, **denying(tools=["delet"], servers=["a"]))) == 1


def test_rules_of_a_virtual_server_are_about_its_servers() -> None:
    rules = denying(tools=["search"])["authorization"]
    [(kind, text)] = found(virtual_servers={"v": {"servers": {"a": "all"}, "authorization": rules}})
    assert kind == "rule_matches_nothing"
    assert text.startswith("virtual_servers.v.authorization.rules[0].tools[0] 'search' matches none of the tools")
    assert found(virtual_servers={"v": {"servers": {"b": "all"}, "authorization": rules}}) == []


def test_vetting_of_nothing() -> None:
    vetting = [{"tools": ["delete"]}, {"tools": ["delet"]}, {"servers": ["b"]}]
    assert found(vetting=vetting) == [
        ("vetting_matches_nothing", "vetting[1].tools[0] 'delet' matches none of the tools: did you mean 'delete'?")
    ]


# -- Policies -------------------------------------------------------------------------------------------------------------


def rbac(path: str, value: Any, *, type: str = "RBAC", namespace: str = "mcp_proxy") -> dict[str, Any]:
    matcher = {"filter": namespace, "path": [{"key": key} for key in path.split()], "value": value}
    permission = {"and_rules": {"rules": [{"metadata": matcher}, {"any": True}]}}
    rules = {"action": "DENY", "policies": {"no-deletes": {"permissions": [permission], "principals": [{"any": True}]}}}
    return {
        "@type": f"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.{type}",
        **({"rules": rules} if type == "RBAC" else {"rbac": {"rules": rules}}),
    }


def exact(text: str) -> dict[str, Any]:
    return {"string_match": {"exact": text}}


def filtered(message: dict[str, Any]) -> dict[str, Any]:
    return {"envoy": {"http_filters": [{"name": "f", "typed_config": message}]}}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("tool", exact("delet"), "'delet' matches none of the tools: did you mean 'delete'?"),
        ("tool", {"stringMatch": {"prefix": "drop_"}}, "'drop_' matches none of the tools: "),
        ("tool", {"string_match": {"safe_regex": {"regex": "dele"}}}, "'dele' matches none of the tools: "),
        (
            "tool",
            {"or_match": {"value_matchers": [exact("delete"), exact("drop")]}},
            "'drop' matches none of the tools: ",
        ),
        ("prompt", exact("gret"), "'gret' matches none of the prompts: did you mean 'greet'?"),
        ("server", exact("c"), "'c' matches none of the servers: "),
        (
            "params name",
            exact("delete"),
            "'delete' matches none of the names that clients use: did you mean 'a__delete'?",
        ),
    ],
)
def test_policies_about_nothing(path: str, value: Any, told: str) -> None:
    place = "envoy.http_filters[0].typed_config.rules.policies.no-deletes"
    [(kind, text)] = found(**filtered(rbac(path, value)))
    assert (kind, text.startswith(f"{place} {told}")) == ("policy_matches_nothing", True), text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tool", exact("delete")),
        ("tool", {"string_match": {"exact": "DELETE", "ignore_case": True}}),
        ("tool", {"present_match": True}),
        ("server", exact("a")),
        ("prompt", exact("greet")),
        ("params name", exact("a__delete")),
        ("params name", exact("a__greet")),
        ("params uri", exact("file:///y")),
        ("method", exact("tools/list")),
        ("principal", exact("alice")),
    ],
)
def test_policies_about_something(path: str, value: Any) -> None:
    assert found(**filtered(rbac(path, value))) == []


def test_policies_of_which_nothing_can_be_told() -> None:
    message = rbac("tool", exact("delet"))
    assert found({"a": LISTED["a"]}, **filtered(message)) == [], "b may have it"
    assert found(**filtered(message), pass_through={}) == [], "others' servers may"
    assert found(**filtered(rbac("tool", exact("delet"), namespace="other"))) == []
    assert (
        found(**filtered({**message, "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}))
        == []
    )


def test_policies_of_a_server_are_about_its_tools() -> None:
    per_route = rbac("tool", exact("search"), type="RBACPerRoute")
    known = filtered(rbac("tool", exact("search")))
    assert [kind for kind, _ in found(**known, a={"typed_per_filter_config": {"f": per_route}})] == [
        "policy_matches_nothing"
    ]
    assert found(**known, b={"typed_per_filter_config": {"f": per_route}}) == []


def test_names_with_bare_names_and_new_names() -> None:
    assert found(**filtered(rbac("params name", exact("delete"))), bare_names=True) == []
    virtual = {"v": {"servers": {"a": "all"}, "rename": {"tools": {"a__delete": "remove"}}}}
    assert found(**filtered(rbac("params name", exact("remove"))), virtual_servers=virtual) == []
