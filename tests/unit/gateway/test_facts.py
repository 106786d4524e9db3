"""Which facts make a call like most others."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.gateway.facts import ORDINARY, RequestFacts, id_metadata

CALL = RequestFacts(
    method="tools/call", params={"name": "a__x"}, session="s", protocol_version="v", client="c", server="a",
    named=("tool", "x"),
)  # fmt: skip


def paths(facts: dict[str, Any]) -> set[str]:
    return {f"{name}:{key}" for name, value in facts.items() if isinstance(value, dict) for key in value} | {
        name for name, value in facts.items() if not isinstance(value, dict)
    }


def test_all_that_most_have() -> None:
    assert CALL.are_ordinary
    assert paths(CALL.metadata() | id_metadata(b"1")) - {"id"} == set(ORDINARY)


@pytest.mark.parametrize(
    "missing", ["method", "params", "session", "protocol_version", "client", "server", "named"], ids=str
)
def test_one_of_them_is_missing(missing: str) -> None:
    assert not CALL.but(**{missing: None}).are_ordinary


@pytest.mark.parametrize(
    "more",
    [
        {"named": ("prompt", "x")}, {"params": {"uri": "u"}}, {"params": {"name": "n", "uri": "u"}}, {"batch": 1},
        {"consent": "given"}, {"unavailable": ("a",)}, {"error": (-1, "r")},
    ],
    ids=str,
)  # fmt: skip
def test_something_of_which_others_have_nothing(more: dict[str, Any]) -> None:
    assert not CALL.but(**more).are_ordinary


@pytest.mark.parametrize("more", [{"principal": "p", "issuer": "i"}, {"principal": "p"}, {"endpoint": "e"}], ids=str)
def test_who_calls_and_where_may_be_said_besides(more: dict[str, Any]) -> None:
    assert CALL.but(**more).are_ordinary
