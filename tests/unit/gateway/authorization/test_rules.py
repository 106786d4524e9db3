"""What holds of an item for a caller: the first rule that matches, in lists as on calls."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config.authorization import Authorization, Kind
from mcp_extproc.config.virtual_servers import Offered
from mcp_extproc.gateway.authorization.conditions import Params, Question
from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, Item
from mcp_extproc.gateway.authorization.rules import DEFAULT, Outcome, Rules, Verdict
from mcp_extproc.gateway.principal import ANONYMOUS, Principal

READ_ONLY = DEFAULTS._replace(readOnlyHint=True)


def compiled(*rules: dict[str, Any], default: str = "deny", supported: tuple[str, ...] = (), **more: Any) -> Rules:
    return Rules(Authorization.model_validate({"rules": rules, "default": default, **more}), supported)


def who(scopes: str = "", **more: Any) -> Principal:
    return Principal("token", "https://idp", "alice", frozenset(scopes.split()), **more)


def tool(name: str = "x", server: str = "a") -> Item:
    return Item("tools", server, name)


def verdict(
    rules: Rules,
    principal: Principal,
    item: Item | None = None,
    hints: Hints | None = DEFAULTS,
    params: str | None = None,
    use: str | None = None,
) -> Verdict:
    given = None if params is None else Params(b'{"params":%b}' % params.encode(), 65536)
    question = Question(principal, use=use, params=given)
    return rules.of(principal).verdict(item or tool(), hints, question)


def outcome(*arguments: Any, **more: Any) -> Outcome:
    return verdict(*arguments, **more).outcome


# -- The first rule that matches --------------------------------------------------------------------------------------------


def test_without_a_rule_the_default_holds() -> None:
    assert verdict(compiled(), who()) == (Outcome.DENIED, DEFAULT, ())
    assert verdict(compiled(default="allow"), who()) == (Outcome.ALLOWED, DEFAULT, ())


def test_the_first_rule_that_matches_decides() -> None:
    rules = compiled(
        {"action": "deny", "tools": ["delete_*"]},
        {"name": "ops", "action": "allow", "principals": {"groups": ["ops"]}},
        {"action": "allow", "tools": ["delete_*", "issue_*"]},
    )
    ops = who(groups=frozenset({"ops"}))
    assert verdict(rules, ops, tool("delete_all"))[:2] == (Outcome.DENIED, "1")
    assert verdict(rules, ops, tool("issue_read"))[:2] == (Outcome.ALLOWED, "ops")
    assert verdict(rules, who(), tool("issue_read"))[:2] == (Outcome.ALLOWED, "3")
    assert verdict(rules, who(), tool("other"))[:2] == (Outcome.DENIED, DEFAULT)


def test_a_rule_may_be_called_as_another_ones_number() -> None:
    rules = compiled(
        {"name": "2", "action": "allow", "principals": {"scopes": ["a"]}},
        {"action": "allow", "principals": {"scopes": ["b"]}},
    )
    assert [outcome(rules, who(scopes)) for scopes in ("a", "b", "c")] == [
        Outcome.ALLOWED,
        Outcome.ALLOWED,
        Outcome.DENIED,
    ]


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({}, ["tools", "prompts", "resources"]),
        ({"tools": ["x"]}, ["tools"]),
        ({"prompts": ["x"], "resources": ["x"]}, ["prompts", "resources"]),
        ({"tools": ["y"], "prompts": ["x"]}, ["prompts"]),
        ({"annotations": {"destructiveHint": True}}, ["tools"]),
        ({"servers": ["a"]}, ["tools", "prompts", "resources"]),
        ({"servers": ["b"]}, []),
        ({"servers": ["b", {"regex": "a|c"}], "tools": ["*"]}, ["tools"]),
    ],
)
def test_what_a_rule_concerns(rule: dict[str, Any], allowed: list[Kind]) -> None:
    rules = compiled({"action": "allow", **rule})
    kinds: tuple[Kind, ...] = ("tools", "prompts", "resources")
    assert [kind for kind in kinds if outcome(rules, who(), Item(kind, "a", "x")) is Outcome.ALLOWED] == allowed


def test_a_template_is_selected_by_its_own_text() -> None:
    rules = compiled({"action": "allow", "resources": [{"exact": "file:///{path}"}]})
    assert outcome(rules, who(), Item("resources", "a", "file:///{path}")) is Outcome.ALLOWED
    assert outcome(rules, who(), Item("resources", "a", "file:///x")) is Outcome.DENIED


# -- Annotations ------------------------------------------------------------------------------------------------------------


def test_annotations() -> None:
    rules = compiled(
        {"action": "allow", "tools": ["free"]},
        {"action": "allow", "annotations": {"readOnlyHint": True, "openWorldHint": True}},
    )
    assert outcome(rules, who(), hints=READ_ONLY) is Outcome.ALLOWED
    assert outcome(rules, who(), hints=DEFAULTS) is Outcome.DENIED
    assert outcome(rules, who(), hints=READ_ONLY._replace(openWorldHint=False)) is Outcome.DENIED


def test_annotations_are_asked_for_only_where_they_decide() -> None:
    rules = compiled(
        {"action": "allow", "tools": ["free"]},
        {"action": "deny", "servers": ["b"]},
        {"action": "allow", "annotations": {"readOnlyHint": True}},
    )
    assert outcome(rules, who(), tool("free"), None) is Outcome.ALLOWED
    assert outcome(rules, who(), tool("x", "b"), None) is Outcome.DENIED
    assert outcome(rules, who(), tool("x"), None) is Outcome.NEEDS_HINTS
    assert outcome(rules, who(), Item("prompts", "a", "x"), None) is Outcome.DENIED


# -- Conditions -------------------------------------------------------------------------------------------------------------

TENANT = "request.mcp.params.arguments.tenant == 'acme'"


def test_a_condition_that_is_false_goes_on_to_the_next_rule() -> None:
    rules = compiled(
        {"action": "deny", "when": "request.auth.jwt.claims.tenant == 'evil'"},
        {"action": "allow", "when": "request.mcp.tool == 'x'"},
    )
    assert verdict(rules, who(claims={"tenant": "acme"}), tool("x"))[:2] == (Outcome.ALLOWED, "2")
    assert verdict(rules, who(claims={"tenant": "acme"}), tool("y"))[:2] == (Outcome.DENIED, DEFAULT)
    assert verdict(rules, who(claims={"tenant": "evil"}), tool("x"))[:2] == (Outcome.DENIED, "1")


@pytest.mark.parametrize("action", ["allow", "deny"])
def test_a_condition_that_can_not_be_told_denies_at_once(action: str) -> None:
    rules = compiled({"action": action, "when": "request.auth.jwt.claims.tenant == 'acme'"}, default="allow")
    assert verdict(rules, who())[:2] == (Outcome.DENIED, "1")
    assert verdict(rules, ANONYMOUS)[:2] == (Outcome.DENIED, "1")


def test_a_condition_is_judged_last() -> None:
    broken = {"action": "deny", "when": "request.auth.jwt.claims.nothing == 1"}
    rules = compiled(
        {**broken, "tools": ["y"]},
        {**broken, "servers": ["b"]},
        {**broken, "principals": {"scopes": ["a"]}},
        {**broken, "annotations": {"readOnlyHint": True}},
        default="allow",
    )
    assert outcome(rules, who()) is Outcome.ALLOWED
    for scopes, item, hints in [("a", tool(), DEFAULTS), ("", tool("y"), DEFAULTS), ("", tool(), READ_ONLY)]:
        assert outcome(rules, who(scopes), item, hints) is Outcome.DENIED


@pytest.mark.parametrize(
    ("rules", "default", "shown"),
    [
        ([{"action": "allow", "when": TENANT}], "deny", Outcome.OPEN),
        ([{"action": "deny", "when": TENANT}], "allow", Outcome.OPEN),
        ([{"action": "deny", "when": TENANT}], "deny", Outcome.DENIED),
        ([{"action": "deny", "when": TENANT}, {"action": "allow"}], "deny", Outcome.OPEN),
        ([{"action": "deny", "tools": ["x"]}, {"action": "allow", "when": TENANT}], "deny", Outcome.DENIED),
        ([{"action": "allow", "tools": ["y"], "when": TENANT}], "deny", Outcome.DENIED),
    ],
)
def test_arguments_leave_open_what_they_may_allow(rules: list[dict[str, Any]], default: str, shown: Outcome) -> None:
    assert outcome(compiled(*rules, default=default), who()) is shown


def test_arguments_decide_on_use() -> None:
    rules = compiled({"action": "allow", "when": TENANT})
    assert outcome(rules, who(), params='{"arguments":{"tenant":"acme"}}') is Outcome.ALLOWED
    assert outcome(rules, who(), params='{"arguments":{"tenant":"evil"}}') is Outcome.DENIED
    assert outcome(rules, who(), params='{"arguments":{}}') is Outcome.DENIED
    assert outcome(compiled({"action": "deny", "when": TENANT}, default="allow"), who(), params="{}") is Outcome.DENIED


def test_conditions_see_the_method_of_the_use() -> None:
    rules = compiled({"action": "allow", "when": "request.mcp.method == 'resources/read'"})
    item = Item("resources", "a", "file:///x")
    assert outcome(rules, who(), item) is Outcome.ALLOWED
    assert outcome(rules, who(), item, use="resources/subscribe") is Outcome.DENIED


# -- Kinds of callers ---------------------------------------------------------------------------------------------------------


def test_callers_of_one_kind_share_what_is_resolved() -> None:
    rules = compiled({"action": "allow", "principals": {"scopes": ["read"]}}, {"action": "deny"})
    assert rules.of(who("read other")) is rules.of(Principal("key", "k", "bob", frozenset({"read"})))
    assert rules.of(who("read")) is not rules.of(who("other"))
    assert rules.of(ANONYMOUS) is not rules.of(who())
    assert not rules.of(who()).has_conditions


def test_scopes_that_change_within_a_session_count() -> None:
    rules = compiled({"action": "allow", "principals": {"scopes": ["read"]}})
    before, after = who(), who("read")
    assert before == after
    assert [outcome(rules, one) for one in (before, after, before)] == [Outcome.DENIED, Outcome.ALLOWED, Outcome.DENIED]


def test_what_is_resolved_without_conditions_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = compiled({"action": "allow", "tools": ["x"]})
    alice = who()
    access = rules.of(alice)
    assert access.verdict(tool(), None, Question(alice)).outcome is Outcome.ALLOWED
    monkeypatch.setattr(access, "_judge", None)
    assert access.verdict(tool(), None, Question(alice)).outcome is Outcome.ALLOWED


@pytest.mark.parametrize(
    ("rules", "default", "expected"),
    [
        ([], "allow", False),
        ([], "deny", True),
        ([{"action": "allow"}], "deny", False),
        ([{"action": "allow", "resources": ["*"]}], "deny", True),
        (
            [{"action": "deny", "tools": ["*"]}, {"action": "deny", "annotations": {"readOnlyHint": True}}],
            "allow",
            False,
        ),
        ([{"action": "deny", "resources": ["x"]}], "allow", True),
        ([{"action": "allow", "servers": ["a"]}], "deny", True),
        ([{"action": "allow", "principals": {"scopes": ["read"]}}], "deny", False),
        ([{"action": "allow", "principals": {"scopes": ["write"]}}], "deny", True),
        ([{"action": "allow", "when": "request.mcp.tool == ''"}], "deny", True),
    ],
)
def test_who_may_have_resources_hidden(rules: list[dict[str, Any]], default: str, expected: bool) -> None:
    access = compiled(*rules, default=default).of(who("read"))
    assert access.may_hide_resources is expected


def test_a_kind_is_enough_to_judge_by_where_no_condition_asks_for_more() -> None:
    rules = compiled({"action": "allow", "principals": {"groups": ["ops"]}})
    ops = who(groups=frozenset({"ops"}))
    assert rules.of_kind(rules.of(ops).kind) is rules.of(ops)


# -- Step-up ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "held", "missing"),
    [
        ([{"action": "allow", "principals": {"scopes": ["a", "b"]}}], "a", ("b",)),
        ([{"action": "allow", "principals": {"scopes": ["a", "b"]}}], "", ("a", "b")),
        (
            [
                {"action": "allow", "principals": {"scopes": ["a", "b"]}},
                {"action": "allow", "principals": {"scopes": ["c"]}},
            ],
            "",
            ("c",),
        ),
        ([{"action": "deny", "principals": {"not": {"scopes": ["w"]}}}, {"action": "allow"}], "", ("w",)),
        (
            [
                {"action": "deny", "principals": {"not": {"scopes": ["w"]}}},
                {"action": "allow", "principals": {"scopes": ["r"]}},
            ],
            "",
            ("r", "w"),
        ),
        (
            [
                {"action": "deny", "principals": {"scopes": ["a"]}},
                {"action": "allow", "principals": {"scopes": ["a"]}},
                {"action": "allow", "principals": {"scopes": ["b", "c"]}},
            ],
            "",
            ("b", "c"),
        ),
        ([{"action": "allow", "principals": {"scopes": ["a"]}, "when": TENANT}], "", ("a",)),
        ([{"action": "allow", "when": "'a' in request.auth.jwt.scopes", "principals": {"scopes": ["a"]}}], "", ("a",)),
    ],
)
def test_the_fewest_scopes_that_would_do(rules: list[dict[str, Any]], held: str, missing: tuple[str, ...]) -> None:
    found = verdict(compiled(*rules, step_up=True), who(held))
    assert (found.outcome, found.scopes) == (Outcome.NEEDS_SCOPE, missing)
    assert outcome(compiled(*rules), who(held)) is Outcome.DENIED
    assert outcome(compiled(*rules, step_up=True), who(" ".join([held, *missing]))).name in ("ALLOWED", "OPEN")


@pytest.mark.parametrize(
    ("rules", "supported"),
    [
        ([{"action": "deny", "principals": {"scopes": ["a"]}}], ()),
        ([{"action": "deny", "tools": ["x"]}, {"action": "allow", "principals": {"scopes": ["a"]}}], ()),
        ([{"action": "allow", "tools": ["y"], "principals": {"scopes": ["a"]}}], ()),
        ([{"action": "allow", "principals": {"scopes": ["a"], "groups": ["ops"]}}], ()),
        ([{"action": "allow", "principals": {"scopes": ["a"]}}], ("b", "c")),
        ([{"action": "allow", "principals": {"scopes": ["a"]}, "annotations": {"readOnlyHint": True}}], ()),
    ],
)
def test_what_no_scope_opens_is_denied(rules: list[dict[str, Any]], supported: tuple[str, ...]) -> None:
    assert outcome(compiled(*rules, step_up=True, supported=supported), who()) is Outcome.DENIED


def test_anonymous_callers_are_not_told_of_scopes() -> None:
    rules = compiled({"action": "allow", "principals": {"scopes": ["a"]}}, step_up=True)
    assert outcome(rules, ANONYMOUS) is Outcome.DENIED


def test_arguments_that_are_wrong_are_no_matter_of_scopes() -> None:
    rules = compiled({"action": "allow", "principals": {"scopes": ["a"]}, "when": TENANT}, step_up=True)
    assert outcome(rules, who(), params='{"arguments":{"tenant":"acme"}}') is Outcome.NEEDS_SCOPE
    assert outcome(rules, who(), params='{"arguments":{"tenant":"evil"}}') is Outcome.DENIED


def test_annotations_are_asked_for_where_scopes_would_need_them() -> None:
    rules = compiled(
        {"action": "allow", "principals": {"scopes": ["a"]}, "annotations": {"readOnlyHint": True}}, step_up=True
    )
    assert outcome(rules, who(), hints=None) is Outcome.NEEDS_HINTS
    assert outcome(rules, who(), hints=READ_ONLY) is Outcome.NEEDS_SCOPE


# -- For any rules ------------------------------------------------------------------------------------------------------------

SCOPES = ("a", "b", "c")
NAMES = ("x", "y", "issue_read", "file:///x")
_some_scopes = st.lists(st.sampled_from(SCOPES), min_size=1, max_size=2, unique=True)
_principals = st.fixed_dictionaries(
    {},
    optional={
        "scopes": _some_scopes,
        "groups": st.just(["g"]),
        "claims": st.just({"tenant": ["acme"]}),
        "authenticated": st.booleans(),
        "not": st.fixed_dictionaries({}, optional={"scopes": _some_scopes, "groups": st.just(["g"])}).filter(bool),
    },
).filter(bool)
_selectors = st.lists(
    st.sampled_from(["x", "issue_*", "*", "file:*", {"regex": "^[xy]$"}, {"exact": "y"}]), min_size=1, max_size=2
)
_conditions = st.sampled_from(
    [
        "request.mcp.tool == 'x'",
        "'a' in request.auth.jwt.scopes",
        "request.auth.jwt.claims.tenant == 'acme'",
        "request.mcp.backend == 'a'",
        "request.mcp.method != 'prompts/get'",
    ]
)
_rules = st.lists(
    st.fixed_dictionaries(
        {"action": st.sampled_from(["allow", "deny"])},
        optional={
            "principals": _principals,
            "servers": st.sampled_from([["a"], ["b"], ["*"]]),
            "tools": _selectors,
            "when": _conditions,
        }
        | {"annotations": st.fixed_dictionaries({"readOnlyHint": st.booleans()})},
    ),
    max_size=6,
)
_callers = st.one_of(
    st.just(ANONYMOUS),
    st.builds(
        lambda scopes, groups, claims: Principal(
            "token", "i", "s", frozenset(scopes), frozenset(groups), claims=claims
        ),
        st.lists(st.sampled_from(SCOPES), unique=True),
        st.sampled_from([(), ("g",)]),
        st.sampled_from([{}, {"tenant": "acme"}, {"tenant": "other"}]),
    ),
)
_kinds: st.SearchStrategy[Kind] = st.sampled_from(["tools", "prompts", "resources"])
_items = st.builds(Item, _kinds, st.sampled_from(["a", "b"]), st.sampled_from(NAMES))
_hints = st.builds(Hints, st.booleans())
_USES = {"tools": "tools/call", "prompts": "prompts/get", "resources": "resources/read"}


@given(_rules, st.sampled_from(["allow", "deny"]), st.booleans(), _callers, _items, _hints)
def test_what_is_listed_may_be_used_and_nothing_else(
    rules: list[dict[str, Any]], default: str, step_up: bool, caller: Principal, item: Item, hints: Hints
) -> None:
    """Without conditions on arguments there are three verdicts, the same before the use and on it."""
    judged = compiled(*rules, default=default, step_up=step_up)
    listed = verdict(judged, caller, item, hints)
    assert listed == verdict(judged, caller, item, hints, params='{"name":"x"}', use=_USES[item.kind])
    assert listed.outcome in (Outcome.ALLOWED, Outcome.DENIED, Outcome.NEEDS_SCOPE)
    unknown = verdict(judged, caller, item, None)
    assert unknown.outcome is Outcome.NEEDS_HINTS or unknown == listed


@given(_rules, st.sampled_from(["allow", "deny"]), _callers, _items, _hints)
def test_step_up_names_a_set_that_would_do_and_no_smaller_one_does(
    rules: list[dict[str, Any]], default: str, caller: Principal, item: Item, hints: Hints
) -> None:
    found = verdict(compiled(*rules, default=default, step_up=True), caller, item, hints)
    plain = compiled(*rules, default=default)

    def is_allowed_with(*more: str) -> bool:
        richer = Principal(
            caller.proven, caller.issuer, caller.subject, caller.scopes.union(more), caller.groups, claims=caller.claims
        )
        return outcome(plain, richer, item, hints) is Outcome.ALLOWED

    if found.outcome is Outcome.NEEDS_SCOPE:
        assert not is_allowed_with()
        assert is_allowed_with(*found.scopes)
        fewer = [more for size in range(len(found.scopes)) for more in combinations(SCOPES, size)]
        named = {s for rule in rules for part in _parts(rule) for s in part.get("scopes", ())}
        assert not any(is_allowed_with(*more) for more in fewer if named.issuperset(more))
    elif found.outcome is Outcome.ALLOWED:
        assert is_allowed_with()


def _parts(rule: dict[str, Any]) -> list[dict[str, Any]]:
    principals = rule.get("principals", {})
    return [principals, principals.get("not", {})]


# -- URIs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "file:///secret/a",
        "FILE:///secret/a",
        "file:/secret/a",
        "file:////secret/a",
        "file://localhost/secret/a",
        "file:///%73ecret/a",
        "file:///./secret/a",
        "file:///open/../secret/a",
        "file:///open/%2e%2E/secret/a",
        "file:///open%2F..%2fsecret%2Fa",
        "file:///open\\..\\secret\\a",
        "file:\\\\\\secret\\a",
        "file:///secret/a#x",
        "file:///secret/a?x",
    ],
)
def test_other_spellings_of_a_uri_are_denied_as_well(uri: str) -> None:
    """Parsers of URLs, as in the TypeScript SDK, make the same of them, or servers do."""
    item = Item("resources", "a", uri)
    for pattern in ("file:///secret/*", {"regex": "^file:///secret/a$"}, {"exact": "file:///secret/a"}):
        rules = compiled({"action": "deny", "resources": [pattern]}, default="allow")
        assert outcome(rules, who(), item) is Outcome.DENIED, pattern
    rules = compiled({"action": "allow", "resources": ["file:///open*", {"regex": "open"}]})
    assert outcome(rules, who(), item) is Outcome.DENIED


def test_spellings_that_lead_to_the_same_place_stay_allowed() -> None:
    for pattern, uri in (
        ("file:///My%20Files/*", "file:///My%20Files/a"),
        ("file:///my files/*", "file:///my files/a"),
        ("note://Work/*", "note://Work/1%2F2"),
        ("https://x", "https://x"),
        ("proxy://https://x/*", "proxy://https://x/a"),
        ("file:///open/*", "file:///open/a/../b"),
        ("file:///{+path}", "file:///{+path}"),
    ):
        rules = compiled({"action": "allow", "resources": [pattern]})
        assert outcome(rules, who(), Item("resources", "a", uri)) is Outcome.ALLOWED, uri


def test_an_encoded_pattern_denies_what_is_not_encoded_and_the_other_way_about() -> None:
    for pattern, uri in (
        ("file:///my%20files/*", "file:///my files/a"),
        ("file:///my files/*", "file:///my%20files/a"),
        ("x://ä/*", "x://%C3%A4/a"),
        ("https://x/*", "HTTPS://X:443/a"),
    ):
        rules = compiled({"action": "deny", "resources": [pattern]}, default="allow")
        assert outcome(rules, who(), Item("resources", "a", uri)) is Outcome.DENIED, uri


def test_an_offer_is_what_a_uri_leads_to() -> None:
    offered = {"a": Offered.model_validate({"resources": ["file:///open*"]})}
    rules = Rules(Authorization(default="allow"), (), offered)
    for uri, expected in (("file:///open/a", Outcome.ALLOWED), ("file:///open/../secret", Outcome.DENIED)):
        assert outcome(rules, who(), Item("resources", "a", uri)) is expected
