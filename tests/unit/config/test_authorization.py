"""Authorization in the configuration: what is accepted, and what is refused at which place with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcp_extproc.config.authorization import KINDS, Authorization, Selector
from mcp_extproc.config.problems import problems_of

SERVERS: dict[str, object] = {"github": {}, "local": {}}


def rules(*given: dict[str, Any], **more: Any) -> Authorization:
    return Authorization.model_validate({"rules": [{"action": "allow", **rule} for rule in given], **more})


def problem(*given: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        rules(*given, **more)
    [found] = problems_of(caught.value, Authorization, ("authorization",))
    return str(found)


def test_what_was_meant_is_said() -> None:
    assert problem(default="Deny") == "authorization.default: expected 'allow' or 'deny', did you mean deny?"
    for written, suggested in (
        ("Allow", ", did you mean allow?"),
        ("denied", ", did you mean deny?"),
        ("yes", ""),
        (7, ""),
    ):
        assert problem({"action": written}) == f"authorization.rules[0].action: expected 'allow' or 'deny'{suggested}"


def test_nothing_is_allowed_by_leaving_things_out() -> None:
    found = Authorization()
    assert (found.default, found.rules, found.step_up) == ("deny", (), False)


def test_the_keys_of_the_documentation() -> None:
    found = Authorization.model_validate(
        {
            "default": "deny",
            "step_up": True,
            "rules": [
                {"name": "admins", "action": "allow", "principals": {"groups": ["admin"]}},
                {
                    "name": "no-writes", "action": "deny", "servers": ["github"], "annotations": {"readOnlyHint": False},
                    "principals": {"not": {"scopes": ["mcp:write"]}},
                },
                {"action": "allow", "principals": {"scopes": ["mcp:read"]}, "tools": ["issue_*", {"regex": "^search_"}]},
                {
                    "action": "allow", "principals": {"claims": {"tenant": ["acme", "umbrella"], "level": 3}},
                    "tools": [{"exact": "re*port"}],
                    "when": "request.mcp.params.arguments.tenant == request.auth.jwt.claims.tenant",
                },
            ],
        }
    )  # fmt: skip
    admins, writes, readers, tenants = found.rules
    assert admins.principals is not None
    assert admins.principals.groups == ("admin",)
    assert writes.principals is not None
    assert writes.principals.excluded is not None
    assert writes.principals.excluded.scopes == ("mcp:write",)
    assert writes.annotations is not None
    assert writes.annotations.asked == {"readOnlyHint": False}
    assert readers.tools == (Selector("glob", "issue_*"), Selector("regex", "^search_"))
    assert tenants.principals is not None
    assert tenants.principals.claims == {"tenant": ("acme", "umbrella"), "level": (3,)}
    assert tenants.condition is not None
    assert tenants.condition.names_params


@pytest.mark.parametrize(
    ("selector", "yes", "no"),
    [
        ("issue_read", ["issue_read"], ["issue_reader", "an issue_read", "ISSUE_READ"]),
        ("issue_*", ["issue_", "issue_read", "issue_a/b"], ["issue", "an issue_read"]),
        ("*", ["", "a", "a/b"], []),
        ("file:*/a*.md", ["file:///x/y/a.md", "file:/ab.md"], ["file:///x.md", "file:///a.md?x"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("a?b.c[d]", ["a?b.c[d]"], ["axb.c[d]", "a?bxc[d]"]),
        ({"exact": "a*"}, ["a*"], ["ab"]),
        ({"regex": "search"}, ["search", "re_search_it"], ["seek"]),
        ({"regex": "^a(b|c)$"}, ["ab", "ac"], ["abc"]),
    ],
)
def test_selectors(selector: Any, yes: list[str], no: list[str]) -> None:
    [found] = rules({"tools": [selector]}).rules[0].tools
    matches = found.matcher()
    assert [name for name in (*yes, *no) if matches(name)] == yes


def test_a_rule_that_names_kinds_concerns_these() -> None:
    def concerned(**rule: Any) -> list[str]:
        [found] = rules(rule).rules
        return [kind for kind in KINDS if found.selectors(kind) != ()]

    assert concerned() == ["tools", "prompts", "resources"]
    assert concerned(tools=["*"]) == ["tools"]
    assert concerned(prompts=["*"], resources=["*"]) == ["prompts", "resources"]
    assert concerned(annotations={"readOnlyHint": True}) == ["tools"]
    assert concerned(annotations={"readOnlyHint": True}, tools=["a"]) == ["tools"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "maybe"}, "authorization.rules[0].action: expected 'allow' or 'deny'"),
        ({"tool": ["x"]}, "authorization.rules[0].tool: unknown key, did you mean tools?"),
        ({"tools": []}, "rules[0].tools: expected at least one, or leave the key out"),
        ({"tools": None}, "rules[0].tools: expected at least one, or leave the key out"),
        ({"tools": [{"regexp": "x"}]}, "rules[0].tools[0]: expected a name, in which * stands for any characters"),
        ({"tools": [{"regex": "a", "glob": "b"}]}, "rules[0].tools[0]: expected a name"),
        ({"tools": [""]}, "rules[0].tools[0]: expected a name"),
        ({"tools": [7]}, "rules[0].tools[0]: expected a name"),
        ({"tools": [{"regex": "(?=x)"}]}, "rules[0].tools[0]: not a regular expression of RE2"),
        ({"principals": {}}, "rules[0].principals: it is empty"),
        ({"principals": {"authenticated": None}}, "rules[0].principals: it is empty"),
        ({"principals": {"not": {}}}, "rules[0].principals.not: it is empty"),
        ({"principals": {"not": {"not": {"groups": ["a"]}}}}, "rules[0].principals.not.not: unknown key"),
        ({"principals": {"subjects": []}}, "rules[0].principals.subjects: expected at least one"),
        ({"principals": {"subjects": [""]}}, "rules[0].principals.subjects[0]: expected text that is not empty"),
        ({"principals": {"scopes": ["a b"]}}, "rules[0].principals.scopes: expected scopes"),
        ({"principals": {"claims": {}}}, "rules[0].principals.claims: expected names of claims"),
        ({"principals": {"claims": {"scope": "a"}}}, "rules[0].principals.claims: scope and scp are lists of scopes"),
        ({"principals": {"claims": {"a": []}}}, "rules[0].principals.claims.a: expected a text, a number"),
        ({"principals": {"claims": {"a": {"b": 1}}}}, "rules[0].principals.claims.a: expected a text, a number"),
        ({"annotations": {}}, "rules[0].annotations: expected readOnlyHint, destructiveHint"),
        ({"annotations": {"readonlyHint": True}}, "rules[0].annotations.readonlyHint: unknown key, did you mean readOnly"),
        ({"annotations": {"readOnlyHint": True}, "prompts": ["a"]}, "rules[0].annotations: only tools have annotations"),
        ({"when": "request.mcp.tool =="}, "rules[0].when: not an expression of CEL, at line 1"),
        ({"when": "request.a.all(x, request.b.all(y, true))"}, "rules[0].when: "),
        ({"name": ""}, "rules[0].name: expected text that is not empty"),
    ],
)  # fmt: skip
def test_what_is_refused(rule: dict[str, Any], words: str) -> None:
    assert words in problem(rule)


def test_names_of_rules_are_distinct() -> None:
    assert "authorization.rules[1].name: another rule has the same name" in problem({"name": "a"}, {"name": "a"})


@pytest.mark.parametrize(
    ("rule", "identified", "expected"),
    [
        ({"servers": ["github", "lo*", {"regex": "^x"}]}, True, []),
        ({"servers": ["local", "nowhere"]}, True, ["rules[0].servers[1]: no server has this name"]),
        ({"servers": ["locale"]}, True, ["rules[0].servers[0]: no server has this name, did you mean local?"]),
        ({"principals": {"authenticated": False}}, False, []),
        ({"principals": {"groups": ["a"]}}, True, []),
        ({"principals": {"groups": ["a"]}}, False, ["rules[0].principals: needs authentication"]),
        ({"principals": {"not": {"scopes": ["a"]}}}, False, ["rules[0].principals: needs authentication"]),
    ],
)
def test_contradictions_to_other_sections(rule: dict[str, Any], identified: bool, expected: list[str]) -> None:
    found = [str(one) for one in rules(rule).problems(SERVERS, identified=identified)]
    assert [one[: len(words)] for one, words in zip(found, expected, strict=True)] == expected
