"""What is read as a message, and what is refused as which error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp.envelope import (
    MAX_ID_BYTES,
    MAX_METHOD_CHARS,
    Message,
    Notification,
    Request,
    Response,
    check,
    is_batch,
    parse,
    reading_any,
    split_batch,
    usual,
)
from mcp_extproc.mcp.errors import INVALID_REQUEST, PARSE_ERROR, McpError, render
from mcp_extproc.slices import whole
from tests.unit.mcp.strategies import join_members, json_texts, string_texts

DEPTH = 100
MEMBERS = 100_000


def refused(body: bytes, depth: int = DEPTH) -> McpError:
    with pytest.raises(McpError) as caught:
        parse(body, depth, MEMBERS)
    return caught.value


def call(arguments: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"x","arguments":{arguments}}}}}'.encode()


# -- What is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id",
    ["0", "1", "-1", "9007199254740993", "1" * 1000, '"0"', '""', '"\\u0031"', r'"\""', '"\U0001f600"', '"a\x7fb"'],
)
def test_ids_come_back_digit_for_digit(id: str) -> None:
    """`0` and `"0"` are two ids, and an id above 2**53 keeps its digits."""
    request = parse(f'{{"jsonrpc":"2.0", "id" : {id} ,"method":"ping"}}'.encode(), DEPTH, MEMBERS)
    assert isinstance(request, Request)
    assert request.id == id.encode()
    answer = render(McpError(-32601, "no", reason="x", id=request.id))
    assert answer.startswith(b'{"jsonrpc":"2.0","id":' + id.encode() + b',"error"')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"jsonrpc":"2.0","id":1,"method":"ping"}', Request),
        ('{"method":"ping","jsonrpc":"2.0","id":1}', Request),
        ('{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"more":[1]}', Request),
        (' \t\r\n{"jsonrpc":"2.0","id":1,"method":"ping"}\n', Request),
        ('{"jsonrpc":"2.0","method":"notifications/initialized"}', Notification),
        ('{"jsonrpc":"2.0","id":1,"result":{}}', Response),
        ('{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":"m"}}', Response),
    ],
)
def test_kinds_of_messages(body: str, expected: type[Message]) -> None:
    message = parse(body.encode(), DEPTH, MEMBERS)
    assert type(message) is expected
    assert message.body == body.encode()


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ('{"name":"a\\u0062"}', "ab"),
        ('{"name":1}', None),
        ('{"name":null}', None),
        ('{"name":["a"]}', None),
        ("{}", None),
    ],
)
def test_strings_of_params(params: str, found: str | None) -> None:
    request = parse(f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}'.encode(), DEPTH, MEMBERS)
    assert isinstance(request, Request)
    assert request.text("name") == found


@pytest.mark.parametrize(
    "body",
    [
        call('"hidden"'),
        b'{"jsonrpc":"2.0","method":"m","params":{"a":"hidden"}}',
        b'{"jsonrpc":"2.0","id":7,"result":"hidden"}',
    ],
)
def test_what_is_printed_of_a_message_holds_no_values(body: bytes) -> None:
    assert "hidden" not in repr(parse(body, DEPTH, MEMBERS))


# -- Not JSON -------------------------------------------------------------------------------------------------------------

# What no JSON value looks like, tried in the midst of the arguments, where nothing of ours reads.
NO_VALUES = [
    "", "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "-", "1e", "0x10", "1_0", "'a'", "tru", "True", "undefined",
    '"a\nb"', '"\t"', '"\0"', r'"\q"', r'"\u12G4"', r'"\u12"', r'"\x41"', '"a', "[1,]", "[,1]", "[1 2]", "[1", '{"a":1,}',
    '{"a" 1}', '{"a"}', "{1:2}", "{a:1}", '{"a":}', "/**/1", "1//", "\ufeff1", "\f1", "\u00a01", '{"\n":1}', "1]", "1}",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_VALUES)
def test_no_json_in_the_arguments(value: str) -> None:
    """Wherever it is, the whole message is none."""
    error = refused(call(value))
    assert (error.code, error.status, error.reason, error.id) == (PARSE_ERROR, 400, "parse_error", None)


WHOLE = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"\x00", b"hello", b"<html>", b"[1] x", b"[NaN]", b"[1,]", b"nul", b"{", b'{"jsonrpc"',
        WHOLE[:-1], WHOLE + b"x", WHOLE + b"\x00", WHOLE + WHOLE, WHOLE + b",", b"\xef\xbb\xbf" + WHOLE,
        WHOLE.decode().encode("utf-16"), WHOLE.replace(b"ping", b"\xff"), WHOLE.replace(b"ping", b"\xed\xa0\x80"),
        WHOLE.replace(b"ping", b"\xc0\xaf"), WHOLE.replace(b'"ping"', b'"\xc3"'), b'"\xff"', b"\xff",
        WHOLE.replace(b'"id"', b'"\xff"'),
    ],
)  # fmt: skip
def test_no_json(body: bytes) -> None:
    """Junk before or after, a byte order mark, another encoding, broken UTF-8."""
    error = refused(body)
    assert (error.code, error.status, error.id) == (PARSE_ERROR, 400, None)
    assert b'"id"' not in render(error)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_nesting_is_bounded_exactly(brackets: str) -> None:
    def nested(levels: int) -> str:
        opening = '{"a":' if brackets == "{}" else "["
        return opening * (levels - 1) + brackets + brackets[1] * (levels - 1)

    assert isinstance(parse(call(nested(DEPTH - 2)), DEPTH, MEMBERS), Request)
    # Brackets side by side are many, but not deep.
    assert isinstance(parse(call("[" + (brackets + ",") * 500 + nested(DEPTH - 3) + "]"), DEPTH, MEMBERS), Request)
    error = refused(call(nested(DEPTH - 1)))
    assert (error.code, error.id) == (PARSE_ERROR, None)
    assert "100 levels" in error.message


@pytest.mark.parametrize("body", [b"[" * 90_000, b'{"a":' * 90_000, b"[" * 90_000 + b"]" * 90_000])
def test_nesting_without_end(body: bytes) -> None:
    assert refused(body).code == PARSE_ERROR


def test_brackets_in_strings_are_no_nesting() -> None:
    assert isinstance(parse(call(json.dumps("[{" * 500 + '"\\' * 50)), DEPTH, MEMBERS), Request)


# -- JSON, but no message -------------------------------------------------------------------------------------------------


def members(**changed: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping", **changed}).encode()


NO_ID: list[Any] = [None, True, False, 1.5, 1.0, {}, {"a": 1}, [], [1], "x" * MAX_ID_BYTES]


@pytest.mark.parametrize("id", NO_ID, ids=lambda value: repr(value)[:20])
def test_ids_that_are_none(id: Any) -> None:
    """Neither a notification nor an answer that nobody can match."""
    error = refused(members(id=id))
    assert (error.code, error.status, error.id) == (INVALID_REQUEST, 400, None)
    assert b'"id"' not in render(error).replace(b'\\"id\\"', b"")


@pytest.mark.parametrize("id", ["1e2", "1E2", "-0.0", "1.0"])
def test_numbers_that_are_no_integers_as_written(id: str) -> None:
    """An id is a string or an integer (MCP basic, Requests)."""
    assert refused(f'{{"jsonrpc":"2.0","id":{id},"method":"ping"}}'.encode()).code == INVALID_REQUEST


BAD = [
    members(jsonrpc="1.0"), members(jsonrpc=2.0), members(jsonrpc=None), members(jsonrpc="2.0 "), b'{"id":7,"method":"ping"}',
    members(method=1), members(method=None), members(method=[]), members(method={}), members(method=""), members(method="a b"),
    members(method="a\nb"), members(method="a\0"), members(method="\u00e9"), members(method="m" * (MAX_METHOD_CHARS + 1)),
    members(params=[]), members(params=[{}]), members(params="x"), members(params=1),
    members(result={}), members(error={}), b'{"jsonrpc":"2.0","id":7}', b'{"jsonrpc":"2.0","id":7,"result":1,"error":1}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=lambda body: body.decode()[:60])
def test_no_message_but_an_id(body: bytes) -> None:
    """Whoever sent it can tell which of its messages was refused."""
    error = refused(body)
    assert (error.code, error.status, error.reason, error.id) == (INVALID_REQUEST, 400, "invalid_request", b"7")
    assert json.loads(render(error))["id"] == 7


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"1",
        b'"x"',
        b"true",
        b"{}",
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","result":{}}',
        b'{"jsonrpc":"2.0","method":1}',
    ],
)
def test_no_message_and_no_id(body: bytes) -> None:
    error = refused(body)
    assert (error.code, error.status, error.id) == (INVALID_REQUEST, 400, None)


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"[" + WHOLE + b"]", b"\n[" + WHOLE + b"," + WHOLE + b"]"])
def test_batches(body: bytes) -> None:
    """An array is no message."""
    error = refused(body)
    assert (error.code, error.status, error.id) == (INVALID_REQUEST, 400, None)
    assert "batches" in error.message


def test_the_longest_id_and_method() -> None:
    request = parse(members(id="x" * (MAX_ID_BYTES - 2), method="m" * MAX_METHOD_CHARS), DEPTH, MEMBERS)
    assert isinstance(request, Request)


# -- Two meanings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "twice", "id"),
    [
        ('{"jsonrpc":"2.0","jsonrpc":"2.0","id":7,"method":"a"}', "jsonrpc", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","method":"b"}', "method", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","method":"a"}', "method", b"7"),
        ('{"method":"a","jsonrpc":"2.0","id":7,"method":"a"}', "method", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{},"params":{"name":"b"}}', "params", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"name":"a","name":"b"}}', "name", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"name":"a", "n\\u0061me":"b"}}', "name", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"name":"a","x":1,"name":"a"}}', "name", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"n":12,"n":1}}', "n", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"n":1,"n":12}}', "n", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"n":1.5,"n":1}}', "n", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","params":{"arguments":{},"arguments":{}}}', "arguments", b"7"),
        ('{"jsonrpc":"2.0","id":7,"method":"a","":1,"":2}', "", b"7"),
        # Nobody can tell which of two ids to answer.
        ('{"jsonrpc":"2.0","id":7,"id":8,"method":"a"}', "id", None),
        ('{"jsonrpc":"2.0","id":7,"id":7,"method":"a"}', "id", None),
        ('{"id":7,"jsonrpc":"2.0","method":"a","id":8}', "id", None),
    ],
)
def test_a_member_given_twice(body: str, twice: str, id: bytes | None) -> None:
    error = refused(body.encode())
    assert (error.code, error.status, error.id) == (INVALID_REQUEST, 400, id)
    assert f'the member "{twice}" is given twice' in error.message


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":7,"method":"a","Method":"b"}',
        '{"jsonrpc":"2.0","id":7,"METHOD":"b"}',
        '{"jsonrpc":"2.0","id":7,"method":"a","PARAMS":{"name":"b"}}',
        '{"jsonrpc":"2.0","id":7,"method":"a","param\u017f":{}}',
        '{"jsonrpc":"2.0","id":7,"method":"a","Id":8}',
        '{"jsonrpc":"2.0","id":7,"method":"a","params":{"name":"a","Name":"b"}}',
        '{"jsonrpc":"2.0","id":7,"method":"a","params":{"Arguments":{}}}',
        '{"jsonrpc":"2.0","id":7,"method":"a","params":{"_META":{}}}',
        '{"jsonrpc":"2.0","id":7,"method":"a","params":{"protocolversion":"x"}}',
    ],
)
def test_a_member_that_differs_only_in_case(body: str) -> None:
    """Servers in Go would read it as the member that policy did not see."""
    error = refused(body.encode())
    assert (error.code, error.status, error.id) == (INVALID_REQUEST, 400, b"7")


def test_arguments_may_hold_what_the_envelope_may_not() -> None:
    assert isinstance(parse(call('{"Name":1,"name":2,"name":3,"PARAMS":[]}'), DEPTH, MEMBERS), Request)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ref", '{"type":"ref/prompt","type":"ref/resource","name":"a"}'),
        ("ref", '{"type":"ref/prompt","name":"a","name":"b"}'),
        ("ref", '{"type":"ref/prompt","name":"a","Name":"b"}'),
        ("ref", '{"type":"ref/resource","uri":"a","URI":"b"}'),
        ("_meta", '{"progressToken":1,"progressToken":2}'),
        ("_meta", '{"progressToken":1,"ProgressToken":2}'),
    ],
)
def test_a_second_meaning_inside_of_what_is_read(name: str, text: str) -> None:
    request = parse(f'{{"jsonrpc":"2.0","id":7,"method":"m","params":{{"{name}":{text}}}}}'.encode(), DEPTH, MEMBERS)
    assert isinstance(request, Request)
    with pytest.raises(McpError) as caught:
        request.object(name)
    assert (caught.value.code, caught.value.status) == (INVALID_REQUEST, 400)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("ref", '{ "type" : "x" }', {"type": b'"x"'}),
        # Only what is read there counts: the rest is the client's and the server's business.
        ("ref", '{"type":"x","Arguments":1}', {"type": b'"x"', "Arguments": b"1"}),
        ("_meta", '{"progressToken":1.50,"Name":"a"}', {"progressToken": b"1.50", "Name": b'"a"'}),
        ("ref", "{}", {}),
        ("ref", "[]", None),
        ("ref", '"x"', None),
        ("ref", "null", None),
        ("other", "{}", None),
    ],
)
def test_objects_of_params(name: str, text: str, found: dict[str, bytes] | None) -> None:
    member = "ref" if name == "other" else name
    request = parse(f'{{"jsonrpc":"2.0","id":7,"method":"m","params":{{"{member}":{text}}}}}'.encode(), DEPTH, MEMBERS)
    assert isinstance(request, Request)
    got = request.object(name)
    assert (None if got is None else {key: bytes(raw) for key, raw in got.items()}) == found


# -- Batches --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[]", True),
        (b" \t\r\n[", True),
        (b"[1", True),
        (b"{}", False),
        (b"", False),
        (b" ", False),
        (b"\xef\xbb\xbf[]", False),
    ],
)
def test_what_begins_like_a_batch(body: bytes, expected: bool) -> None:
    assert is_batch(body) is expected


def batch(body: bytes, most: int) -> list[bytes]:
    check(body, DEPTH, MEMBERS)
    return split_batch(body, most)


def test_the_messages_of_a_batch_stay_as_they_are() -> None:
    texts = [b'{ "id":1.50 }', b"1", b'"]"', b"[ [] ]", b"null"]
    assert batch(b" [" + b" ,\n".join(texts) + b"] ", 5) == texts


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[]", INVALID_REQUEST),
        (b"[1,2,3]", INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b"[1", PARSE_ERROR),
        (b"[1,]", PARSE_ERROR),
        (b"[1]]", PARSE_ERROR),
        (b"[NaN]", PARSE_ERROR),
        (b'["\xff"]', PARSE_ERROR),
        (b'["\xed\xa0\x80"]', PARSE_ERROR),
        (b"[" * 200 + b"]" * 200, PARSE_ERROR),
        (b"[" * 90_000, PARSE_ERROR),
    ],
)
def test_what_is_no_batch(body: bytes, found: int) -> None:
    """Neither an empty one (JSON-RPC 2.0, section 6) nor what is no JSON."""
    with pytest.raises(McpError) as caught:
        batch(body, 2)
    assert (caught.value.code, caught.value.status, caught.value.id) == (found, 400, None)


@given(st.lists(json_texts, min_size=1, max_size=4), st.binary(max_size=2))
def test_any_batch_is_split_or_refused(texts: list[str], junk: bytes) -> None:
    body = b"[" + ",".join(texts).encode() + b"]" + junk
    try:
        found = batch(body, 100)
    except McpError:
        return
    assert found == [text.encode() for text in texts]
    assert json.loads(body) is not None


# -- Anything at all ------------------------------------------------------------------------------------------------------


def strict(body: bytes) -> Any:
    """As Python's own reader has it, without its leniency."""
    return json.loads(body.decode("utf-8"), parse_constant=lambda constant: int(f"no number: {constant}"))


@given(st.one_of(st.binary(max_size=60), json_texts.map(str.encode)))
def test_any_bytes_are_a_message_or_an_error(body: bytes) -> None:
    error: McpError | None = None
    try:
        parse(body, DEPTH, MEMBERS)
    except McpError as raised:
        error = raised
    assert error is None or (error.status == 400 and (error.code != PARSE_ERROR or error.id is None))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    envelope = [
        ('"jsonrpc"', '"2.0"'),
        ('"id"', "7"),
        ('"method"', '"m"'),
        ('"params"', '{"a":' + draw(json_texts) + "}"),
    ]
    body = bytearray(join_members(draw, envelope).encode())
    at = draw(st.integers(0, len(body)))
    body[at : at + draw(st.integers(0, 2))] = draw(
        st.one_of(st.binary(max_size=2), st.sampled_from(list(b'{}[]",:\\0')).map(lambda b: bytes([b])))
    )
    return bytes(body)


@given(damaged())
def test_nothing_is_read_that_another_reader_refuses(body: bytes) -> None:
    try:
        message = parse(body, DEPTH, MEMBERS)
    except McpError:
        return
    assert strict(body)["jsonrpc"] == "2.0"
    assert message.body == body


@pytest.mark.parametrize(
    "text", ['{"jsonrpc":"2.0","id":1,"method":"ping","params":null}', '{"jsonrpc":"2.0","method":"x","params": null }']
)
def test_params_that_are_null_are_none(text: str) -> None:
    """As SDKs read them."""
    message = parse(text.encode(), 64, MEMBERS)
    assert not isinstance(message, Response)
    assert message.params == {}
    assert message.rewritten({}) == text.encode()


def test_an_error_that_is_null_beside_a_result_is_none() -> None:
    assert isinstance(parse(b'{"jsonrpc":"2.0","id":"x","result":{},"error":null}', 64, MEMBERS), Response)
    with pytest.raises(McpError):
        parse(b'{"jsonrpc":"2.0","id":"x","result":null,"error":{}}', 64, MEMBERS)


@st.composite
def compact_calls(draw: st.DrawFn) -> bytes:
    """Requests as SDKs write them, in any order, and such that are nearly the same."""
    params = {
        "name": draw(string_texts), "arguments": draw(json_texts), "_meta": draw(json_texts), "task": "{}", "Name": '"x"',
    }  # fmt: skip
    inner = draw(st.permutations(draw(st.lists(st.sampled_from(["name", "name", *params]), max_size=4))))
    members = {
        "jsonrpc": '"2.0"', "id": draw(st.just("7") | json_texts), "method": draw(st.sampled_from(_METHODS)),
        "params": "{{{}}}".format(",".join(f'"{name}":{params[name]}' for name in inner)), "error": "null",
    }  # fmt: skip
    more = draw(st.lists(st.sampled_from([*members]), max_size=1))
    outer = draw(st.permutations(["jsonrpc", "id", "method", "params", *more]))
    return ("{{{}}}".format(",".join(f'"{name}":{members[name]}' for name in outer))).encode()


_METHODS = ['"tools/call"', '"tools/call"', '"x"', r'"tools\/call"']


@given(compact_calls())
def test_what_is_read_in_one_pass_is_read_as_otherwise(body: bytes) -> None:
    read = usual(body)
    if read is not None:
        other = whole(reading_any(body))
        assert isinstance(other, Request)
        assert (read.method, read.id, read.body) == (other.method, other.id, other.body)
        assert {name: bytes(raw) for name, raw in read.params.items()} == {
            name: bytes(raw) for name, raw in other.params.items()
        }
        assert [*read.members] == [*other.members]
        assert read.places is other.places is None
