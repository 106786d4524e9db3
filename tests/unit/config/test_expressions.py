"""Conditions in CEL: what they may name and call, what is refused at load, and what fails at run time."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.config.expressions import (
    BACKEND,
    COLLECTS,
    COLLECTS_REQUEST,
    FUNCTIONS,
    LOOPS,
    LOOPS_WITH_REQUEST,
    MAX_CHARS,
    MEMBERS,
    PARAMS,
    Bound,
    ConditionError,
    Path,
    condition,
    replaced,
)

VALUES: dict[Path, Any] = {
    ("method",): "POST",
    ("path",): "/mcp",
    ("host",): "gw.example",
    ("headers_all",): {"x-tenant": ["acme"]},
    ("headers",): {"x-tenant": "acme"},
    ("auth", "jwt", "claims"): {"tenant": "acme", "groups": ["a", "b"]},
    ("auth", "jwt", "scopes"): ["read", "write"],
    ("mcp", "method"): "tools/call",
    ("mcp", "backend"): "github",
    ("mcp", "tool"): "report",
    PARAMS: {"name": "github__report", "arguments": {"tenant": "acme", "n": 3, "items": [1, 2, 3]}},
}


@pytest.mark.parametrize(
    "text",
    [
        'request.method == "POST"',
        'request.headers["x-tenant"] == "acme"',
        'request.path == "/mcp" && request.host == "gw.example" && "acme" in request.headers_all["x-tenant"]',
        "request.mcp.params.arguments.tenant == request.auth.jwt.claims.tenant",
        '"read" in request.auth.jwt.scopes',
        'request.mcp.method == "tools/call" && request.mcp.backend == "github" && request.mcp.tool == "report"',
        "size(request.mcp.params.arguments) == 3",
        "request.mcp.params.arguments.items.all(x, x > 0)",
        "request.mcp.params.arguments.items.map(x, x * 2).exists(y, y == 6)",
        '["acme", "umbrella"].exists(t, t == request.mcp.params.arguments.tenant)',
        '["acme", "x"].exists(t, request.auth.jwt.claims.groups.exists(g, g != t))',
        'request.mcp.tool.matches("^re")',
        "!has(request.mcp.params.arguments.nothing)",
        'request . mcp // a comment with request.nothing( and "a quote\n ["tool"] == r"report"',
        '"""request.nothing""" != "all(x, y)"',
        "request.mcp.params.arguments.n in [1, 2, 3]",
    ],
)
def test_what_holds(text: str) -> None:
    assert condition(text).holds(VALUES) is True


@pytest.mark.parametrize(
    "text",
    [
        "request.mcp.params.arguments.nothing == 1",
        "request.auth.jwt.claims.nothing.x == 1",
        "1 / 0 == 1",
        "request.mcp.tool > 3",
        "request.auth.jwt.claims.tenant",
        "true ? 'x' : true",
        "request.mcp.params.arguments.items[7] == 1",
    ],
)
def test_what_can_not_be_told(text: str) -> None:
    with pytest.raises(ConditionError):
        condition(text).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("'true'", "a text"),
        ("5", "a number"),
        ("1.5", "a number"),
        ("null", "null"),
        ("duration('1s')", "a duration"),
        ("[true]", "a list"),
        ("{'a': true}", "a mapping"),
        ("timestamp('2026-01-01T00:00:00Z')", "a time"),
        ("request.mcp.tool", "a text"),
        ("request.method + 'x'", "a text"),
        ("request.headers['x-admin']", "a text"),
        ("request.headers", "a mapping"),
        ("request.headers_all['x-admin']", "a list"),
        ("request.auth.jwt.scopes", "a list"),
        ("size(request.headers)", "a number"),
        ("request.auth.jwt.scopes.filter(s, s == 'a')", "a list"),
    ],
)
def test_what_is_never_true_or_false_is_refused(text: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"it is {kind}, and never true or false"):
        condition(text)


def test_a_text_that_is_no_unicode_is_an_error() -> None:
    with pytest.raises(ConditionError):
        condition('request.mcp.tool == "x"').holds({("mcp", "tool"): "\ud800"})


@pytest.mark.parametrize(
    "text",
    [
        "request.mcp.params.name == 'x'",
        'request.mcp["params"].name == "x"',
        "request['mcp']['params'].name == 'x'",
        'request["m" + "cp"].params.name == "x"',
        'request["\\x6dcp"].params.name == "x"',
        "request.mcp[request.mcp.tool].name == 'x'",
        "size(request) > 1",
        "size(request.mcp) > 1",
        "[request].all(r, r.mcp.params.name == 'x')",
        "has(request.mcp.params)",
        "request.mcp.all(k, k != 'x')",
        "request // mcp\n.mcp\n.params.x == 1",
    ],
)
def test_arguments_are_noticed_in_any_spelling(text: str) -> None:
    assert condition(text).names_params


@pytest.mark.parametrize(
    "text",
    [
        'request.mcp.tool == "params"',
        'request.auth.jwt.claims.params == "request.mcp.params"',
        'request["mcp"]["tool"] == "x"',
        'request.headers["params"] == "x"',
        "request.auth == request.auth",
        "true",
    ],
)
def test_what_names_no_arguments(text: str) -> None:
    assert not condition(text).names_params


def test_what_it_does_not_name_is_not_shown_to_it() -> None:
    assert condition("request.auth.jwt.scopes.size() == 2").names == {("auth", "jwt", "scopes")}
    found = condition("request.auth.all(k, k == 'jwt')")
    assert found.names == {("auth", "jwt", "claims"), ("auth", "jwt", "scopes")}
    assert found.holds(VALUES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an expression of CEL, at line 1, character 1"),
        ("request.mcp.tool ==", "not an expression of CEL, at line 1, character"),
        ("(" * 2000 + "true" + ")" * 2000, "not an expression of CEL"),
        ("true && " * 1000 + "true", f"at most {MAX_CHARS} characters"),
        ("user == 'x'", "an unknown name, at character 1"),
        ("request.mcp.params.x.all(x, y == 1)", "an unknown name, at character 29"),
        ("request.tool == 'x'", "an unknown member of request, at character 1: expected request.method"),
        ("request.mcp.prompt == 'x'", "an unknown member of request"),
        ("frobnicate(request.mcp.tool)", "an unknown function, at character 1"),
        ("request.mcp.tool.frobnicate()", "an unknown function, at character 18"),
        ("all(request.mcp.tool, x)", "an unknown function, at character 1"),
        ("[1].all(request, request == 1)", "a loop's variable is called request"),
        ('request.mcp.tool.matches("(")', "not a regular expression, at character 26"),
        ("request.mcp.tool.matches(request.mcp.backend)", "matches, at character 18: expected a text"),
        ("matches(request.mcp.tool, 'x')", "matches, at character 1: expected a text"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        condition(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "request.mcp.params.a.all(x, request.mcp.params.a.all(y, request.mcp.params.a.all(z, x + y + z > 0)))",
        "request.mcp.params.a.all(x, x.b.exists(y, y == 1))",
        "request.mcp.params.a.all(x, request.auth.jwt.claims.groups.exists(y, y == x))",
        "request.mcp.params.a.filter(x, x > 1).all(y, request.mcp.params.b.exists_one(z, z == y))",
        "request.mcp.params.a.map(x, request.mcp.params.a.map(y, y)).size() > 0",
        "[request.mcp.params.a][0].all(x, x.all(y, y == 1))",
        "[1].map(x, x).all(y, request.mcp.params.a.all(z, z == y))",
        "[1, 2].all(x, [1, 2].all(y, [1, 2].all(z, x == y || y == z)))",
    ],
)
def test_loops_in_loops_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a loop in a loop, at character"):
        condition(text)


_DATA = {
    PARAMS: "request.mcp.params",
    ("headers",): "request.headers",
    ("headers_all",): "request.headers_all",
    ("auth", "jwt", "claims"): "request.auth.jwt.claims",
}


@pytest.mark.parametrize("data", _DATA, ids=lambda path: path[-1])
@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("DATA.all(x, x != '')", LOOPS),
        ("['a', 'b'].exists(x, x in DATA)", LOOPS),
        ("DATA.map(x, x + x).all(x, x != '')", COLLECTS),
        ("DATA.filter(x, x != '') != []", COLLECTS),
        ("DATA.all(x, x != request.mcp.tool)", LOOPS_WITH_REQUEST),
        ("DATA.map(x, request.mcp.tool) != []", COLLECTS_REQUEST),
        ("DATA.map(x, x).all(x, DATA != [x])", COLLECTS_REQUEST),
    ],
)
def test_what_is_looped_over_is_bounded_whoever_says_it(text: str, bound: Bound, data: Path) -> None:
    """A worker would be busy for seconds with a token of 5000 groups."""
    asked = condition(text.replace("DATA", _DATA[data]))

    def of(count: int, size: int = 1) -> dict[Path, Any]:
        return {("mcp", "tool"): "report", data: {f"{number:0{size}}": "" for number in range(count)}}

    found = "in DATA" not in text
    assert asked.bound == bound
    assert asked.holds(of(bound.values)) is found
    with pytest.raises(ConditionError, match="too many values"):
        asked.holds(of(bound.values + 1))
    if bound.copied is not None:
        with pytest.raises(ConditionError, match="too large"):
            asked.holds(of(bound.values, bound.copied // bound.values**2 + 1))


def test_without_a_loop_nothing_is_counted() -> None:
    asked = condition("size(request.auth.jwt.claims.groups) == 5000")
    assert asked.bound is None
    assert asked.holds({("auth", "jwt", "claims"): {"groups": ["g"] * 5000}})


def test_values_are_counted_wherever_they_stand() -> None:
    asked = condition("request.mcp.params.all(x, x != '') && request.headers.all(x, x != '')")
    values = {PARAMS: {"a": [[1, 2], {"b": [3]}]}, ("headers",): {str(number): "" for number in range(993)}}
    assert asked.holds(values)  # a, two elements, 1, 2, b, 3
    with pytest.raises(ConditionError):
        asked.holds({**values, PARAMS: {"a": [[1, 2], {"b": [3, 4]}]}})


def test_no_error_repeats_the_expression() -> None:
    for text in ("secret ==", "secret == 1", "secret(1)", "request.secret", "request.mcp.tool.matches('(secret')"):
        with pytest.raises(ValueError, match=r".") as caught:
            condition(text)
        assert "secret" not in str(caught.value)


_CALLS = {
    "all": "[1].all(x, true)",
    "exists": "[1].exists(x, true)",
    "exists_one": "[1].exists_one(x, true)",
    "existsOne": "[1].existsOne(x, true)",
    "map": "[1].map(x, x) == [1]",
    "filter": "[1].filter(x, true) == [1]",
    "bytes": "bytes('a') == b'a'",
    "contains": "'abc'.contains('b')",
    "double": "double(1) == 1.0",
    "duration": "duration('1s') < duration('2s')",
    "dyn": "dyn(1) == 1",
    "endsWith": "'abc'.endsWith('c')",
    "has": "has({'a': 1}.a)",
    "int": "int('1') == 1",
    "matches": "'abc'.matches('b')",
    "size": "size('abc') == 3",
    "startsWith": "'abc'.startsWith('a')",
    "string": "string(1) == '1'",
    "timestamp": "timestamp('2026-01-01T00:00:00Z') > timestamp('2025-01-01T00:00:00Z')",
    "uint": "uint(1) == 1u",
    **{name: f"timestamp('2026-01-01T00:00:00Z').{name}() >= 0" for name in FUNCTIONS if name.startswith("get")},
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_library_has_each_function(name: str) -> None:
    assert condition(_CALLS[name]).holds({}) is True


@pytest.mark.parametrize("path", MEMBERS)
def test_each_member_is_there(path: Path) -> None:
    assert condition(f"request.{'.'.join(path)} == request.{'.'.join(path)}").holds(VALUES) is True


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("request.mcp.backend == 'a'", "X == 'a'"),
        ("""request["mcp"].backend in ['request.mcp.backend', "b"]""", """X in ['request.mcp.backend', "b"]"""),
        ("request.mcp.backend.startsWith('a') && request . mcp . backend != ''", "X.startsWith('a') && X != ''"),
        ("has(request.mcp.backend) && request.mcp.tool == 'x'", "has(request.mcp.backend) && request.mcp.tool == 'x'"),
        ("request.mcp.params.request.mcp.backend == 1", "request.mcp.params.request.mcp.backend == 1"),
        ("size(request.mcp) > 1", None),
        ("request['mcp']['back' + 'end'] == 'a'", None),
    ],
)
def test_a_member_is_replaced_wherever_it_is_named(text: str, found: str | None) -> None:
    assert replaced(text, BACKEND, "X") == found
