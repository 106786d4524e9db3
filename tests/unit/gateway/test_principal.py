"""Who a caller is, and when two are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcp_extproc.gateway.facts import NOTHING, of_caller
from mcp_extproc.gateway.principal import ANONYMOUS, MAX_SHOWN, Principal, of_claims, scopes_of

ALICE = Principal("token", "https://idp.example", "alice")


def test_two_are_equal_where_the_same_is_proven_in_the_same_way() -> None:
    later = Principal("token", "https://idp.example", "alice", frozenset({"more"}), "client", {"exp": 2.0})
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
    found = of_claims("token", claims)
    assert (found, set(found.scopes), found.client_id) == (ALICE, {"a", "b", "c"}, "client")
    assert of_claims("token", {**claims, "client_id": "other"}).client_id == "other"
    assert of_claims("token", {**claims, "https://ns/user": "carol"}, "https://ns/user").subject == "carol"


@pytest.mark.parametrize("subject", [None, "", 7.0, ["alice"], {"a": "alice"}])
def test_claims_that_name_nobody(subject: object) -> None:
    assert of_claims("token", {"iss": "https://idp.example", "sub": subject}) == ANONYMOUS


@pytest.mark.parametrize(
    ("value", "scopes"),
    [("a b", {"a", "b"}), (["a", "b c", 7], {"a", "b c"}), ("", set()), (None, set()), (7.0, set()), ({"a": 1}, set())],
)
def test_scopes(value: object, scopes: set[str]) -> None:
    assert scopes_of(value) == scopes


def test_what_is_shown_is_bounded() -> None:
    long = replace(ALICE, subject="x" * 1000)
    assert of_caller(long).metadata() == {"principal": "x" * MAX_SHOWN, "issuer": "https://idp.example"}
    assert long.key != replace(long, subject="x" * 999).key


def test_a_principal_in_text_has_no_claims() -> None:
    assert "hush" not in repr(replace(ALICE, claims={"email": "hush"}))
