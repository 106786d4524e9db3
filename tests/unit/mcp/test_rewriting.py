"""Renaming a tool changes the name and no other byte of the message."""

from __future__ import annotations

import json
from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.envelope import Request, parse, with_id
from tests.unit.mcp.strategies import (
    blanks,
    join_members,
    json_texts,
    other_members,
    spelled,
    string_texts,
    tool_names,
)

DEPTH = 100

ENVELOPE = {"jsonrpc", "id", "method", "params", "result", "error"}
PARAMS = {
    "name", "uri", "ref", "type", "progresstoken", "level", "task",
    "arguments", "_meta", "protocolversion", "capabilities", "clientinfo", "cursor", "requestid",
}  # fmt: skip
MARK = "\N{CIRCLED DIGIT ONE}the name goes here\N{CIRCLED DIGIT ONE}"
member_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
other_params = other_members(member_names, PARAMS, 2)
beside_the_envelope = other_members(member_names, ENVELOPE, 2)
ids = st.one_of(st.integers(-(10**40), 10**40).map(str), string_texts)


@dataclass(frozen=True)
class Call:
    """A tools/call as a client may write it."""

    before: bytes
    name: str
    name_text: bytes
    after: bytes
    id: bytes
    arguments: bytes

    @property
    def body(self) -> bytes:
        return self.before + self.name_text + self.after


@st.composite
def calls(draw: st.DrawFn) -> Call:
    name = draw(tool_names)
    name_text = draw(spelled(name))
    arguments = draw(json_texts)
    id = draw(ids)
    params = [
        *draw(other_params),
        (draw(spelled("name")), MARK),
        (draw(spelled("arguments")), arguments),
    ]
    members = [
        *draw(beside_the_envelope),
        (draw(spelled("jsonrpc")), draw(spelled("2.0"))),
        (draw(spelled("id")), id),
        (draw(spelled("method")), draw(spelled("tools/call"))),
        (draw(spelled("params")), join_members(draw, draw(st.permutations(params)))),
    ]
    text = draw(blanks) + join_members(draw, draw(st.permutations(members))) + draw(blanks)
    before, after = text.split(MARK)
    return Call(before.encode(), name, name_text.encode(), after.encode(), id.encode(), arguments.encode())


@given(calls(), tool_names)
def test_every_byte_but_the_name_stays(call: Call, new: str) -> None:
    request = parse(call.body, DEPTH, 100_000)
    assert isinstance(request, Request)
    assert (request.id, request.method, request.text("name")) == (call.id, "tools/call", call.name)
    assert bytes(request.params["arguments"]) == call.arguments
    assert request.rewritten({"name": orjson.dumps(new)}) == call.before + orjson.dumps(new) + call.after
    assert request.body == call.body


@given(calls(), tool_names)
def test_the_new_message_reads_as_the_new_name(call: Call, new: str) -> None:
    request = parse(call.body, DEPTH, 100_000)
    assert isinstance(request, Request)
    again = parse(request.rewritten({"name": orjson.dumps(new)}), DEPTH, 100_000)
    assert isinstance(again, Request)
    assert (again.text("name"), again.id) == (new, call.id)
    assert {k: bytes(v) for k, v in again.params.items() if k != "name"} == {
        k: bytes(v) for k, v in request.params.items() if k != "name"
    }


@given(calls(), tool_names, st.integers(-(10**30), 10**30) | tool_names)
def test_the_id_can_be_changed_along_with_it(call: Call, new: str, id: int | str) -> None:
    """And it alone, too, byte for byte."""
    request = parse(call.body, DEPTH, 100_000)
    assert isinstance(request, Request)
    text = json.dumps(id).encode()
    body = request.rewritten({"name": orjson.dumps(new)}, text)
    again = parse(body, DEPTH, 100_000)
    assert isinstance(again, Request)
    assert (again.text("name"), again.id) == (new, text)
    assert request.rewritten({}, text) == again.rewritten({"name": call.name_text}, text)
    assert again.rewritten({"name": call.name_text}, call.id) == call.body
    assert request.rewritten({}, call.id) == request.rewritten({}) == call.body


@given(calls())
def test_a_member_can_be_taken_out(call: Call) -> None:
    """The others keep their bytes, and so does what is around the parameters."""
    request = parse(call.body, DEPTH, 100_000)
    assert isinstance(request, Request)
    for name in request.params:
        body = request.rewritten({name: None})
        again = parse(body, DEPTH, 100_000)
        assert isinstance(again, Request)
        assert {key: bytes(raw) for key, raw in again.params.items()} == {
            key: bytes(raw) for key, raw in request.params.items() if key != name
        }
        around = call.body.split(bytes(request.members["params"]), 1)
        assert body == bytes(again.members["params"]).join(around)
    assert json.loads(request.rewritten({"name": None, "arguments": b"1"}))["params"].get("arguments") == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"jsonrpc":"2.0", "id" : 1 ,"result":{"id":1}}', '{"jsonrpc":"2.0", "id" : "n" ,"result":{"id":1}}'),
        ('{"id":1,"result":{"n":1.50}}', '{"id":"n","result":{"n":1.50}}'),
        # Messages of servers are not refused for a doubled member: the last one counts, as for other readers.
        ('{"id":2,"result":{ "id":1 },"id":1}', '{"id":"n","result":{ "id":1 }}'),
    ],
)
def test_a_message_with_another_id(body: str, expected: str) -> None:
    members = jsontext.split(body.encode())
    assert with_id(body.encode(), members, b'"n"') == expected.encode()


def message(arguments: str, name: str = '"gh__x"') -> str:
    return f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name},"arguments":{arguments}}}}}'


@pytest.mark.parametrize(
    "arguments",
    [
        '{"n":9007199254740993}',
        '{"n":1234567890.1234567891}',
        '{"n":12345678901234567890123456789.1}',
        '{"n":1e400,"m":-0,"o":1.0}',
        r'{"a":"\u0041\/\u00e9\ud83d\ude00\"\\"}',
        '{"z":1,"a":2,"m":{"b":1,"a":2}}',
        '{ "a" : [ 1 , 2 ] ,\n\t"b":\r\n{ } }',
        '{"a":1,"a":2}',
        '{"name":"gh__x","params":{"name":"gh__x"}}',
        '{"s":"\\"name\\":\\"gh__x\\""}',
        '{"s":"\x7f\u2028\U0001f600"}',
        "{}",
        "null",
        '"gh__x"',
    ],
)
def test_arguments_that_writers_of_json_change(arguments: str) -> None:
    request = parse(message(arguments).encode(), DEPTH, 100_000)
    assert isinstance(request, Request)
    assert request.rewritten({"name": b'"x"'}) == message(arguments, '"x"').encode()


@pytest.mark.parametrize("name", ["gh__x", "a\r\nb", "a\0b", "\u2028", '"', "\\", "\U0001f600", "=?base64?eA==?="])
def test_names_of_any_characters(name: str) -> None:
    request = parse(message("{}").encode(), DEPTH, 100_000)
    assert isinstance(request, Request)
    body = request.rewritten({"name": orjson.dumps(name)})
    assert json.loads(body)["params"] == {"name": name, "arguments": {}}
    assert b"\r" not in body
    assert b"\0" not in body


def test_a_large_body_is_rewritten_byte_for_byte() -> None:
    arguments = json.dumps({"text": 'x"\\' * 300_000, "numbers": [0.1] * 10_000})
    request = parse(message(arguments).encode(), DEPTH, 100_000)
    assert isinstance(request, Request)
    assert request.rewritten({"name": b'"x"'}) == message(arguments, '"x"').encode()


@pytest.mark.parametrize(
    "params",
    [
        '{"name":"a__x","arguments":{"name":"a__x"}}',
        '{"_meta":{"name":"a__x"},"name":"a__x"}',
        '{"_meta":{"params":{"name":"a__x"}},"name":"a__x"}',
        '{"arguments":{"params":{"name":"a__x"}},"name":"a__x"}',
        '{"name":"a__x","arguments":{"params":{"name":"a__x"}}}',
        r'{"arguments":{"text":"{\"name\":\"a__x\"}"},"name":"a__x"}',
    ],
)
def test_the_same_name_elsewhere_in_a_message_read_in_one_pass(params: str) -> None:
    id = r'"\"params\":{\"name\":\"a__x\""'
    body = f'{{"id":{id},"params":{params},"method":"tools/call","jsonrpc":"2.0"}}'.encode()
    call = parse(body, DEPTH, 100_000)
    assert isinstance(call, Request)
    renamed = json.loads(call.rewritten({"name": b'"x"'}))
    assert renamed == {**json.loads(body), "params": {**json.loads(params), "name": "x"}}
    assert call.rewritten({"name": b'"x"'}, b"2") == call.rewritten({"name": b'"x"'}).replace(id.encode(), b"2", 1)
