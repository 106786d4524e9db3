"""Who a caller is, and when two are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcp_extproc.gateway.facts import NOTHING, of_caller
from mcp_extproc.gateway.principal import ANONYMOUS, MAX_SHOWN, Principal, groups_of, of_claims, scopes_of

ALICE = Principal("token", "https://idp.example", "alice")


def test_two_are_equal_where_the_same_is_proven_in_the_same_way() -> None:
    later = Principal("token", "https://idp.example", "alice", frozenset({"more"}), frozenset(), "client", {"exp": 2.0})
    assert (later, later.key) == (ALICE, ALICE.key)
    others = [
        replace(ALICE, proven="key"),
        replace(ALICE, issuer="https://other.example"),
        replace(ALICE, subject="bob"),
        Principal("token", "", "https://idp.examplealice"),
        Principal("tokenhttps", "://idp.example", "alice"),
        ANONYMOUS,
    ]
    assert ALICE not in others
    assert len({ALICE.key, *(other.key for other in others)}) == 1 + len(others)


def test_nobody_is_a_principal_without_a_key() -> None:
    assert (ANONYMOUS.key, of_caller(ANONYMOUS)) == ("", NOTHING)


def test_claims() -> None:
    claims = {"iss": "https://idp.example", "sub": "alice", "scope": "a b", "scp": ["c", 1], "azp": "client"}
    found = of_claims("token", claims, "sub", "groups")
    assert (found, set(found.scopes), found.client_id) == (ALICE, {"a", "b", "c"}, "client")
    assert of_claims("token", {**claims, "client_id": "other"}, "sub", "groups").client_id == "other"
    assert of_claims("token", {**claims, "https://ns/user": "carol"}, "https://ns/user", "groups").subject == "carol"


@pytest.mark.parametrize("subject", [None, "", 7.0, ["alice"], {"a": "alice"}])
def test_claims_that_name_nobody(subject: object) -> None:
    assert of_claims("token", {"iss": "https://idp.example", "sub": subject}, "sub", "groups") == ANONYMOUS


@pytest.mark.parametrize(
    ("value", "scopes"),
    [("a b", {"a", "b"}), (["a", "b c", 7], {"a", "b c"}), ("", set()), (None, set()), (7.0, set()), ({"a": 1}, set())],
)
def test_scopes(value: object, scopes: set[str]) -> None:
    assert scopes_of(value) == scopes


KEYCLOAK = {
    "realm_access": {"roles": ["offline_access", "dev"]},
    "resource_access": {"gateway": {"roles": ["admin"]}, "my.client": {"roles": ["reader"]}},
    "groups": ["/platform", "/dev team"],
    "https://example.com/roles": ["writer"],
    "group": "one of them",
    "a.b": None,
    "a": {"b": ["c"]},
}


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("groups", {"/platform", "/dev team"}),
        ("realm_access.roles", {"offline_access", "dev"}),
        ("resource_access.gateway.roles", {"admin"}),
        ("resource_access.my.client.roles", {"reader"}),
        ("https://example.com/roles", {"writer"}),
        ("group", {"one of them"}),
        ("a.b", set()),
        ("realm_access", set()),
        ("groups.x", set()),
        ("realm_access.roles.0", set()),
        ("other", set()),
        ("resource_access..roles", set()),
    ],
)
def test_groups(name: str, groups: set[str]) -> None:
    """Dots lead into objects; a claim whose own name has dots comes first."""
    claims = {"iss": "https://idp.example", "sub": "alice", **KEYCLOAK}
    assert of_claims("token", claims, "sub", name).groups == groups


@pytest.mark.parametrize("value", ["", None, 7.0, {"a": 1}, [], [7.0, None, {"a": 1}]])
def test_what_names_no_group(value: object) -> None:
    assert groups_of(value) == frozenset()


def test_what_is_shown_is_bounded() -> None:
    long = replace(ALICE, subject="x" * 1000)
    assert of_caller(long).metadata() == {"principal": "x" * MAX_SHOWN, "issuer": "https://idp.example"}
    assert long.key != replace(long, subject="x" * 999).key


def test_a_principal_in_text_has_no_claims() -> None:
    assert "hush" not in repr(replace(ALICE, claims={"email": "hush"}))
