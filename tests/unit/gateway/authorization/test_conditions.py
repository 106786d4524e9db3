"""What conditions are asked about, and what of a request they can't be asked about."""

from __future__ import annotations

import json

import pytest

from mcp_extproc.config.expressions import MAX_LOOPED, MAX_LOOPED_AGAIN, ConditionError, condition
from mcp_extproc.gateway.authorization.conditions import Params, Question
from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.principal import Principal

ALICE = Principal(
    "token", "https://idp", "alice", frozenset({"a", "b"}), claims={"tenant": "acme", "level": 3.0, "scope": "a b"}
)
TOOL = Item("tools", "github", "report")


def asked(text: str, question: Question, item: Item = TOOL) -> bool:
    return question.holds(condition(text), item, question.principal.scopes)


def params(text: str, most_bytes: int = 65536) -> Question:
    return Question(ALICE, use="tools/call", params=Params(b'{"params":%b}' % text.encode(), most_bytes))


@pytest.mark.parametrize(
    "text",
    [
        'request.method == "POST"',
        'request.headers["x-tenant"] == "acme"',
        "request.auth.jwt.claims.tenant == 'acme' && request.auth.jwt.claims.level == 3",
        "!has(request.auth.jwt.claims.scope)",
        'request.auth.jwt.scopes == ["a", "b"]',
        'request.mcp.method == "tools/call" && request.mcp.backend == "github" && request.mcp.tool == "report"',
    ],
)
def test_members_of_a_request(text: str) -> None:
    assert asked(text, Question(ALICE, headers={"x-tenant": "acme"}))


def test_the_method_is_that_of_the_use() -> None:
    assert asked(
        'request.mcp.method == "prompts/get" && request.mcp.tool == ""', Question(ALICE), Item("prompts", "a", "b")
    )
    assert asked('request.mcp.method == "resources/read"', Question(ALICE), Item("resources", "a", "b"))
    subscribing = Question(ALICE, use="resources/subscribe")
    assert asked('request.mcp.method == "resources/subscribe"', subscribing, Item("resources", "a", "b"))
    assert asked('request.mcp.method == "resources/read"', subscribing.before_use, Item("resources", "a", "b"))


def test_params_are_as_the_client_wrote_them() -> None:
    text = 'request.mcp.params.name == "github__report" && request.mcp.params.arguments.n == 9007199254740993'
    assert asked(text, params('{"name":"github__report","arguments":{"n":9007199254740993}}'))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"arguments":{"tenant":"acme","tenant":"evil"}}', "there twice"),
        ('{"arguments":{"tenant":"acme","TENANT":"evil"}}', "there twice"),
        ('{"arguments":[{"a":{"b":1,"b":2}}]}', "there twice"),
        ('{"arguments":{"n":NaN}}', "can't be read"),
        ('{"arguments":{"n":', "can't be read"),
        ('{"arguments":{"text":"\\ud800"}}', "can't be read"),
    ],
)
def test_params_that_mean_different_things_are_not_judged(text: str, why: str) -> None:
    with pytest.raises(ConditionError, match=why):
        asked("true || has(request.mcp.params.arguments)", params(text))
    assert asked("true || has(request.mcp.params.arguments)", params('{"arguments":{"tenant":"acme"}}'))


def test_params_are_bounded_in_bytes() -> None:
    text = '{"a":"b"}'
    assert asked('request.mcp.params.a == "b"', params(text, len(text)))
    with pytest.raises(ConditionError, match="cel_bytes"):
        asked('request.mcp.params.a == "b"', params(text, len(text) - 1))


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("request.mcp.params.a.all(x, x == 1)", MAX_LOOPED),
        ("request.mcp.params.a.filter(x, x == 1).map(x, x).all(x, x == 1)", MAX_LOOPED_AGAIN),
        ("request.mcp.params.a.all(x, x == 1 && request.mcp.tool == 'report')", MAX_LOOPED_AGAIN),
    ],
)
def test_what_is_looped_over_is_bounded(text: str, most: int) -> None:
    def given(count: int) -> Question:
        return params(json.dumps({"a": [1] * count}))

    assert asked(text, given(most - 1))
    with pytest.raises(ConditionError, match="too many values"):
        asked(text, given(most))


def test_what_is_copied_for_each_value_is_bounded() -> None:
    """A worker would be busy for seconds."""
    for text in (
        "request.mcp.params.a.map(x, request.mcp.params.a + request.mcp.params.a) != []",
        "request.mcp.params.a.all(x, request.mcp.tool == 'report')",
    ):
        assert asked(text, params(json.dumps({"a": ["x" * 1000] * 10})))
        with pytest.raises(ConditionError, match="too large"):
            asked(text, params(json.dumps({"a": ["x" * 250] * 190})))
    assert asked("request.mcp.params.a.all(x, x != '')", params(json.dumps({"a": ["x" * 250] * 190})))


def test_values_are_counted_wherever_they_stand() -> None:
    nested = '{"a":[[1,2],{"b":[3]}]}'  # a, two elements, 1, 2, b, 3
    message = b'{"params":%b}' % nested.encode()
    assert Params(message, 100).value(7) == {"a": [[1, 2], {"b": [3]}]}
    with pytest.raises(ConditionError):
        Params(message, 100).value(6)
