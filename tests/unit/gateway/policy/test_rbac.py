"""RBAC, judged before Envoy does: yes, no, or not to be told. Envoy itself is asked in tests/e2e/test_followed_policies.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.policy.rbac import ABSENT, UNTOLD, Call, Reader, Told

CALL = Call(
    {
        "facts": {
            "method": "tools/call",
            "tool": "Read",
            "prompt": ABSENT,
            "params": {"name": "a__Read"},
            "id": UNTOLD,
        },
        "claims": {
            "payload": {"roles": ["x", "y"], "level": 3.0, "on": True, "none": None, "sub": "alice", "city": "MÜNCHEN"}
        },
    },
    {"mcp-name": "Read"},
)
ANY = [{"any": True}]


def denied(rbac: Any, call: Call = CALL, *, only_facts: bool = False) -> Told:
    reader = Reader(["facts"], ["principal"])
    test = reader.filter(rbac, only_facts=only_facts).denies
    return test(call._replace(of_caller=[one(call) for one in reader.about_callers]))


def denying(permission: Any, *principals: Any, **more: Any) -> dict[str, Any]:
    policy = {"permissions": [permission], "principals": list(principals) or ANY, **more}
    return {"rules": {"action": "DENY", "policies": {"p": policy}}}


def metadata(path: str, value: Any, **more: Any) -> dict[str, Any]:
    namespace, *keys = path.split()
    return {"metadata": {"filter": namespace, "path": [{"key": key} for key in keys], "value": value, **more}}


def text(**how: Any) -> dict[str, Any]:
    return {"string_match": how}


IS_READ = metadata("facts tool", text(exact="Read"))
NO = metadata("facts tool", text(exact="other"))
UNKNOWN = {"url_path": {"path": {"exact": "/"}}}


@pytest.mark.parametrize(
    ("rbac", "expected"),
    [
        ({}, False),
        ({"rules": {}}, True),
        ({"rules": {"action": "DENY"}}, False),
        ({"rules": {"action": 1, "policies": {}}}, False),
        ({"rules": {"action": "LOG", "policies": {"p": {"permissions": ANY, "principals": ANY}}}}, False),
        ({"rules": {"action": "NEW"}}, None),
        ({"rules": {"action": "DENY"}, "matcher": {}}, None),
        ({"shadow_rules": denying({"any": True})["rules"]}, False),
        ({"rules": {"policies": {"p": {"permissions": [IS_READ], "principals": ANY}}}}, False),
        ({"rules": {"policies": {"p": {"permissions": [NO], "principals": ANY}}}}, True),
        ({"rules": {"policies": {"p": {"permissions": [NO, UNKNOWN], "principals": ANY}}}}, None),
        ({"rules": {"policies": {"p": {"permissions": [NO], "principals": [UNKNOWN]}}}}, True),
        ({"rules": {"policies": {"p": {"permissions": ANY, "principals": ANY, "new": 1}}}}, None),
        ({"rules": []}, None),
    ],
)
def test_a_filter(rbac: Any, expected: Told) -> None:
    assert denied(rbac) is expected


@pytest.mark.parametrize("name", ["condition", "checked_condition", "checkedCondition", "cel_config"])
def test_a_condition_can_not_be_told_unless_all_else_says_no(name: str) -> None:
    assert denied(denying(IS_READ, **{name: {"x": 1}})) is None
    assert denied(denying(NO, **{name: {"x": 1}})) is False


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"any": True}, True),
        ({"any": False}, None),
        ({"not_rule": IS_READ}, False),
        ({"notRule": NO}, True),
        ({"not_rule": UNKNOWN}, None),
        ({"and_rules": {"rules": [IS_READ, UNKNOWN]}}, None),
        ({"and_rules": {"rules": [NO, UNKNOWN]}}, False),
        ({"orRules": {"rules": [IS_READ, UNKNOWN]}}, True),
        ({"or_rules": {"rules": [NO, UNKNOWN]}}, None),
        ({"or_rules": {"rules": [NO], "more": 1}}, None),
        ({"sourced_metadata": {"metadata_matcher": IS_READ["metadata"]}}, True),
        ({"sourcedMetadata": {"metadataMatcher": IS_READ["metadata"], "metadataSource": "DYNAMIC"}}, True),
        ({"sourced_metadata": {"metadata_matcher": IS_READ["metadata"], "metadata_source": "ROUTE"}}, None),
        *(({kind: {}}, None) for kind in (
            "destination_ip", "destination_port", "requested_server_name", "uri_template", "matcher", "authenticated",
            "source_ip", "remote_ip", "filter_state", "custom",
        )),
        ({**IS_READ, "any": True}, None),
        ("any", None),
    ],
)  # fmt: skip
def test_a_rule(rule: Any, expected: Told) -> None:
    assert denied(denying(rule)) is expected
    assert denied(denying({"any": True}, rule)) is expected


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("facts tool", text(exact="Read"), True),
        ("facts tool", text(exact="read"), False),
        ("facts tool", text(exact="READ", ignore_case=True), True),
        ("facts tool", {"stringMatch": {"prefix": "re", "ignoreCase": True}}, True),
        ("facts tool", text(prefix="ead"), False),
        ("facts tool", text(suffix="ad"), True),
        ("facts tool", text(contains="ea"), True),
        ("facts tool", text(safe_regex={"regex": "R.*"}), True),
        ("facts tool", text(safeRegex={"regex": "ea"}), False),
        ("facts tool", text(safe_regex={"regex": "(?i)READ|x"}), True),
        ("facts tool", text(safe_regex={"regex": "("}), None),
        ("facts tool", text(custom={}), None),
        ("facts tool", text(exact="a", prefix="b"), None),
        ("facts prompt", text(exact=""), False),
        ("facts prompt", {"present_match": True}, False),
        ("facts tool", {"present_match": True}, True),
        ("facts tool", {"present_match": False}, None),
        ("facts params name", text(exact="a__Read"), True),
        ("facts params other", {"present_match": True}, False),
        ("facts params name deeper", {"present_match": True}, False),
        ("facts id", text(exact="1"), None),
        ("facts new", {"present_match": True}, None),
        ("nowhere x", {"present_match": True}, None),
        ("claims payload level", {"double_match": {"exact": 3}}, True),
        ("claims payload level", {"double_match": {"range": {"start": 3, "end": 4}}}, True),
        ("claims payload level", {"double_match": {"range": {"end": 3}}}, False),
        ("claims payload on", {"double_match": {"exact": 1}}, False),
        ("claims payload on", {"bool_match": True}, True),
        ("claims payload level", {"bool_match": True}, False),
        ("claims payload none", {"null_match": {}}, True),
        ("claims payload nothing", {"null_match": {}}, False),
        ("claims payload roles", {"list_match": {"one_of": text(exact="y")}}, True),
        ("claims payload roles", {"listMatch": {"oneOf": text(exact="z")}}, False),
        ("claims payload sub", {"list_match": {"one_of": text(exact="alice")}}, False),
        ("claims payload sub", {"or_match": {"value_matchers": [text(exact="x"), text(exact="alice")]}}, True),
        ("claims payload sub", {"or_match": {"value_matchers": [text(exact="alice"), {"new": 1}]}}, None),
        ("claims payload sub", {"new_match": 1}, None),
        ("claims payload city", text(exact="mÜnchen", ignore_case=True), True),
        ("claims payload city", text(exact="münchen", ignore_case=True), False),
    ],
)
def test_metadata(path: str, value: Any, expected: Told) -> None:
    assert denied(denying(metadata(path, value))) is expected
    assert denied(denying(metadata(path, value, invert=True))) is (None if expected is None else not expected)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"name": "MCP-Name"}, True),
        ({"name": "mcp-name", "present_match": True}, True),
        ({"name": "mcp-name", "presentMatch": False}, False),
        ({"name": "mcp-name", "string_match": {"exact": "Read"}}, True),
        ({"name": "mcp-name", "exact_match": "Read"}, True),
        ({"name": "mcp-name", "prefix_match": "X"}, False),
        ({"name": "mcp-name", "safe_regex_match": {"regex": "R.+"}}, True),
        ({"name": "mcp-name", "range_match": {"start": 1, "end": 2}}, None),
        ({"name": "user-agent", "string_match": {"exact": "x"}}, None),
        ({"name": "x-mcp-other", "present_match": True}, None),
        ({"present_match": True}, None),
    ],
)
def test_headers(header: Any, expected: Told) -> None:
    assert denied(denying({"header": header})) is expected
    inverted = {**header, "invert_match": True}
    assert denied(denying({"header": inverted})) is (None if expected is None else not expected)


def test_behind_filters_that_change_more_only_the_facts_are_known() -> None:
    of_claims = metadata("claims payload sub", text(exact="alice"))
    for rule, expected in ((IS_READ, True), (of_claims, None), ({"header": {"name": "mcp-name"}}, None)):
        assert denied(denying(rule), only_facts=True) is expected


def test_what_a_route_has_instead() -> None:
    reader = Reader(["facts"], [])
    assert reader.per_route({}, only_facts=False).denies(CALL) is False
    assert reader.per_route({"rbac": {"rules": {}}}, only_facts=False).denies(CALL) is True
    assert reader.per_route({"rbac": 7}, only_facts=False).denies(CALL) is None


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "rules", "action", "policies", "permissions", "principals", "any", "metadata", "filter", "path", "key", "value",
            "string_match", "exact", "safe_regex", "regex", "not_rule", "and_rules", "header", "name", "or_match",
            "list_match", "one_of", "double_match", "range", "value_matchers", "sourced_metadata", "metadata_matcher", "rbac",
        ]),
        inner, max_size=3,
    ),
    max_leaves=20,
)  # fmt: skip


@given(_anything)
def test_whatever_is_written_is_told_or_not(rbac: Any) -> None:
    """What is wrong in it, Envoy says."""
    for config in (
        rbac,
        {"rules": rbac},
        denying(rbac),
        denying(metadata("facts tool", rbac)),
        denying({"header": rbac}),
    ):
        assert denied(config) in (True, False, None)
