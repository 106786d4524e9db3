"""What conditions are asked about, and what of a request they can't be asked about."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from mcp_extproc.config.expressions import ConditionError, condition
from mcp_extproc.gateway.authorization.conditions import Params, Question
from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.request import RequestHead

ALICE = Principal(
    "token", "https://idp", "alice", frozenset({"a", "b"}), claims={"tenant": "acme", "level": 3.0, "scope": "a b"}
)
TOOL = Item("tools", "github", "report")
HEAD = RequestHead(
    "POST",
    "/mcp/readonly?key=1",
    {"host": "GW.example:8443", "x-tenant": "acme", "x-team": "a, b"},
    repeated={"x-team": ("a", "b")},
)


def asked(text: str, question: Question, item: Item = TOOL) -> bool:
    return question.holds(condition(text), item, question.principal.scopes)


def params(text: str, most_bytes: int = 65536) -> Question:
    return Question(ALICE, use="tools/call", params=Params(b'{"params":%b}' % text.encode(), most_bytes))


@pytest.mark.parametrize(
    "text",
    [
        'request.method == "POST"',
        'request.headers["x-tenant"] == "acme"',
        'request.headers["x-team"] == "a, b"',
        'request.headers_all["x-team"] == ["a", "b"] && request.headers_all["x-tenant"] == ["acme"]',
        'request.path == "/mcp/readonly"',
        'request.host == "gw.example:8443"',
        "request.auth.jwt.claims.tenant == 'acme' && request.auth.jwt.claims.level == 3",
        "!has(request.auth.jwt.claims.scope)",
        'request.auth.jwt.scopes == ["a", "b"]',
        'request.mcp.method == "tools/call" && request.mcp.backend == "github" && request.mcp.tool == "report"',
    ],
)
def test_members_of_a_request(text: str) -> None:
    assert asked(text, Question(ALICE, HEAD))


@pytest.mark.parametrize(
    "text",
    ["request.path != '/admin'", "request.host != 'x'", "!('x-a' in request.headers)", "!has(request.headers_all.a)"],
)
def test_an_http_request_that_is_not_known_is_not_an_empty_one(text: str) -> None:
    """For what servers send of their own accord."""
    assert asked(text, Question(ALICE, HEAD))
    with pytest.raises(ConditionError, match="not known"):
        asked(text, Question(ALICE))
    assert asked('request.method == "POST"', Question(ALICE))


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


def test_a_loop_is_bounded_over_whatever_is_asked_about() -> None:
    """``params`` of a client, and the token that an issuer wrote."""
    looping = "request.mcp.params.a.all(x, x == 1) && request.auth.jwt.claims.all(x, x != '')"
    assert asked(looping, params(json.dumps({"a": [1] * 997})))
    with pytest.raises(ConditionError, match="too many values"):
        asked(looping, params(json.dumps({"a": [1] * 998})))
    many = Principal("token", "https://idp", "alice", claims={"groups": ["g"] * 1000})
    with pytest.raises(ConditionError, match="too many values"):
        asked("request.auth.jwt.claims.groups.exists(x, x == 'g')", Question(many))


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("request.auth.jwt.claims.tenant == 'acme'", 1),
        ("request.auth.jwt.claims.nothing == 'acme'", 1),
        ("'a' in request.auth.jwt.scopes && request.mcp.tool != ''", 3),
        ("request.mcp.backend == 'github'", 3),
    ],
)
def test_what_is_about_no_item_is_asked_once(text: str, times: int) -> None:
    """For a list of a thousand tools, too."""
    made, asked_with = condition(text), []

    def counted(values: dict[str, Any]) -> Any:
        asked_with.append(values)
        return made._execute(values)

    counting = dataclasses.replace(made, _execute=counted)
    question = Question(ALICE)
    for item in (TOOL, Item("tools", "gitlab", "report"), Item("prompts", "github", "x")):
        try:
            expected = Question(ALICE).holds(made, item, ALICE.scopes)
        except ConditionError:
            with pytest.raises(ConditionError):
                question.holds(counting, item, ALICE.scopes)
        else:
            assert question.holds(counting, item, ALICE.scopes) == expected
    assert len(asked_with) == times
