"""Words of a command line as arguments of a tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.client.arguments import MAX_ALTERNATIVES, DoesNotFit, arguments_of, described, unknown_in

SCHEMA: dict[str, Any] = {
    "$defs": {"size": {"anyOf": [{"$ref": "#/$defs/size"}, {"type": "number"}]}},
    "properties": {
        "path": {"type": "string"},
        "lines": {"type": "integer"},
        "all": {"type": "boolean"},
        "maybe": {"type": ["string", "null"]},
        "size": {"$ref": "#/$defs/size"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "numbers": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
        "filter": {"type": "object"},
        "level": {"enum": [1, 2]},
        "any": {},
    },
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["path=5"], '{"path":"5"}'),
        (["path="], '{"path":""}'),
        (["path=a=b"], '{"path":"a=b"}'),
        (["lines=5"], '{"lines":5}'),
        (["lines=12345678901234567890123"], '{"lines":12345678901234567890123}'),
        (["all=true"], '{"all":true}'),
        (["maybe=null"], '{"maybe":null}'),
        (["maybe=x"], '{"maybe":"x"}'),
        (["size=1.50"], '{"size":1.50}'),
        (["tags=1"], '{"tags":["1"]}'),
        (["tags=a", "tags=b"], '{"tags":["a","b"]}'),
        (['tags=["a"]'], '{"tags":["a"]}'),
        (["numbers=1", "numbers=2"], '{"numbers":[1,2]}'),
        (['filter={"a": 1}'], '{"filter":{"a": 1}}'),
        (["level=2"], '{"level":2}'),
        (["any=5", "more=x"], '{"any":5,"more":"x"}'),
        ([], "{}"),
    ],
)
def test_values_have_the_types_of_the_schema(words: list[str], expected: str) -> None:
    assert arguments_of(words, SCHEMA) == expected
    json.loads(expected)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["path"], "not KEY=VALUE"),
        (["=5"], "not KEY=VALUE"),
        (["lines=five"], "lines takes integer"),
        (["lines=1.5"], "lines takes integer"),
        (["all=yes"], "all takes boolean"),
        (["size=NaN"], "size takes number"),
        (["numbers=x"], "numbers takes integer"),
        (["filter=[]"], "filter takes object"),
        (["path=a", "path=b"], "given 2 times"),
        (["path=\udcff"], "not UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], why: str) -> None:
    with pytest.raises(DoesNotFit, match=why):
        arguments_of(words, SCHEMA)


def test_arguments_that_are_missing_or_unknown_are_named() -> None:
    schema = {"properties": {"path": {}, "lines": {}}, "required": ["path"], "additionalProperties": False}
    with pytest.raises(DoesNotFit, match=r"^path is required$"):
        arguments_of(["lines=1"], schema)
    with pytest.raises(DoesNotFit, match="line is no argument of this tool, did you mean lines"):
        arguments_of(["path=a", "line=1"], schema)
    with pytest.raises(DoesNotFit, match="there are path, lines"):
        arguments_of(["path=a", "x=1"], schema)


def test_a_schema_is_a_server_s_and_may_be_anything() -> None:
    schemas: tuple[dict[str, Any], ...] = ({"properties": []}, {"required": 5, "properties": {"a": {"type": {}}}})
    for schema in schemas:
        assert arguments_of(["a=x"], schema) == '{"a":"x"}'


def test_attack_a_schema_with_a_million_alternatives() -> None:
    """To which each argument refers. What is behind the first few is the server's to judge."""
    many = {"anyOf": [*({"type": "string"} for _ in range(MAX_ALTERNATIVES * 4)), {"type": "integer"}]}
    schema = {"properties": {"a": {"$ref": "#/$defs/many"}}, "$defs": {"many": many}}
    assert described(schema) == "[a=string]"
    chain: dict[str, Any] = {"type": "integer"}
    for _ in range(MAX_ALTERNATIVES * 4):
        chain = {"allOf": [chain]}
    assert described({"properties": {"a": chain}}) == "[a=any]"


def test_arguments_are_described_by_their_types() -> None:
    assert described({**SCHEMA, "required": ["path"]}).startswith(
        "path=string [lines=integer] [all=boolean] [maybe=string]"
    )
    assert described({"properties": {"any": {}}}) == "[any=any]"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {"lines": {}}}, ["line is no argument of this tool, did you mean lines?"]),
        ({"properties": {}}, ["line is no argument of this tool: there are none"]),
        ({"properties": {"line": {}}}, []),
        ({}, []),
        ({"properties": {"lines": {}}, "additionalProperties": True}, []),
        ({"properties": {"lines": {}}, "additionalProperties": {"type": "string"}}, []),
        ({"properties": {"lines": {}}, "patternProperties": {"^l": {}}}, []),
        ({"properties": {"lines": {}}, "anyOf": [{"properties": {"line": {}}}]}, []),
        ({"properties": 7}, []),
    ],
)
def test_arguments_that_a_schema_does_not_name(schema: dict[str, Any], told: list[str]) -> None:
    assert list(unknown_in(["line=1", "line=2"], schema)) == told
