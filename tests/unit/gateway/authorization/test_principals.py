"""Which callers a rule is about."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.config.authorization import Principals
from mcp_extproc.gateway.authorization.principals import PrincipalTest
from mcp_extproc.gateway.principal import ANONYMOUS, Principal

ALICE = Principal(
    "token",
    "https://idp",
    "alice",
    frozenset({"read", "write"}),
    frozenset({"dev", "ops"}),
    claims={"tenant": "acme", "roles": ["admin", "user"], "level": 3.0, "staff": True, "realm": {"org": "x"}},
)
KEY = Principal("key", "api_keys", "alice")


def is_meant(principals: dict[str, Any], principal: Principal = ALICE) -> bool:
    test = PrincipalTest(Principals.model_validate(principals))
    return test.matches(test.fit(principal), principal.scopes)


@pytest.mark.parametrize(
    ("principals", "expected"),
    [
        ({"subjects": ["bob", "alice"]}, True),
        ({"subjects": ["Alice"]}, False),
        ({"scopes": ["read"]}, True),
        ({"scopes": ["read", "write"]}, True),
        ({"scopes": ["read", "admin"]}, False),
        ({"groups": ["ops", "sales"]}, True),
        ({"groups": ["sales"]}, False),
        ({"claims": {"tenant": "acme"}}, True),
        ({"claims": {"tenant": ["umbrella", "acme"]}}, True),
        ({"claims": {"tenant": "umbrella"}}, False),
        ({"claims": {"roles": ["admin"]}}, True),
        ({"claims": {"roles": ["root"]}}, False),
        ({"claims": {"level": 3}}, True),
        ({"claims": {"level": "3"}}, False),
        ({"claims": {"staff": True}}, True),
        ({"claims": {"staff": 1}}, False),
        ({"claims": {"level": True}}, False),
        ({"claims": {"realm.org": "x"}}, True),
        ({"claims": {"realm": "x"}}, False),
        ({"claims": {"nothing": ["x"]}}, False),
        ({"claims": {"tenant": "acme", "level": 4}}, False),
        ({"authenticated": True}, True),
        ({"authenticated": False}, False),
        ({"subjects": ["alice"], "groups": ["sales"]}, False),
        ({"not": {"scopes": ["admin"]}}, True),
        ({"not": {"scopes": ["read"]}}, False),
        ({"not": {"scopes": ["read", "admin"]}}, True),
        ({"not": {"scopes": ["read"], "groups": ["sales"]}}, True),
        ({"not": {"authenticated": True}}, False),
        ({"groups": ["dev"], "not": {"subjects": ["bob"]}}, True),
    ],
)
def test_who_is_meant(principals: dict[str, Any], expected: bool) -> None:
    assert is_meant(principals) is expected


def test_a_key_of_the_same_name_has_nothing_of_the_token() -> None:
    assert is_meant({"subjects": ["alice"]}, KEY)
    for principals in ({"scopes": ["read"]}, {"groups": ["dev"]}, {"claims": {"tenant": "acme"}}):
        assert not is_meant(principals, KEY)


def test_anonymous_callers_are_nobody() -> None:
    assert is_meant({"authenticated": False}, ANONYMOUS)
    assert is_meant({"not": {"scopes": ["read"]}}, ANONYMOUS)
    for principals in (
        {"authenticated": True},
        {"subjects": ["alice"]},
        {"scopes": ["read"]},
        {"claims": {"tenant": "acme"}},
    ):
        assert not is_meant(principals, ANONYMOUS)


def test_scopes_are_judged_apart() -> None:
    test = PrincipalTest(Principals.model_validate({"scopes": ["a"], "not": {"scopes": ["b"]}}))
    fit = test.fit(ALICE)
    assert [test.matches(fit, frozenset(held)) for held in ("", "a", "ab")] == [False, True, False]
