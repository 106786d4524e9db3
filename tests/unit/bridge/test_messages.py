from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.bridge.messages import Kind, cancelled_id, key_of, read, reading, token_of
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.envelope import Request


@pytest.mark.parametrize(
    ("line", "kind", "id"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', Kind.RESPONSE, b"1"),
        (b'{"id":"a","error":{"code":1,"message":""}, "jsonrpc" : "2.0"}', Kind.RESPONSE, b'"a"'),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', Kind.REQUEST, b"1"),
        (b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}', Kind.NOTIFICATION, None),
    ],
)
def test_kinds(line: bytes, kind: Kind, id: bytes | None) -> None:
    [message] = read(line) or []
    assert (message.kind, message.id, message.text) == (kind, id, line)


@pytest.mark.parametrize(
    "line",
    [
        b"Listening on stdio", b"{}", b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"1.0","id":1,"result":1}', b"[1]", b'"x"',
        b'{"jsonrpc":"2.0","id":null,"method":"x"}', b'{"jsonrpc":"2.0","result":1}', b'{"jsonrpc":"2.0","id":1.5,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"result":"\xff"}', b"[" * 100_000, b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_message(line: bytes) -> None:
    assert read(line) is None


def test_a_batch_without_end() -> None:
    message = b'{"jsonrpc":"2.0","method":"x"}'
    assert len(read(b"[" + b",".join([message] * 1000) + b"]") or []) == 1000
    assert read(b"[" + b",".join([message] * 1001) + b"]") is None


def test_a_batch() -> None:
    found = read(b'[{"jsonrpc":"2.0","id":1,"result":1}, {"jsonrpc":"2.0","method":"x"}]')
    assert found is not None
    assert [message.kind for message in found] == [Kind.RESPONSE, Kind.NOTIFICATION]


def test_a_large_message_is_read_in_slices() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"result":[%b]}' % b",".join([b"[]"] * 450_000)
    slices = sum(1 for _ in reading(line))
    assert slices > 3
    assert read(line) is not None


def test_progress() -> None:
    line = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":0}}'
    [message] = read(line) or []
    assert message.progress == b"0"
    again = message.with_progress(b'"mine"')
    assert again.text == line.replace(b'Token":0', b'Token":"mine"')


def test_another_id() -> None:
    [message] = read(b'{"jsonrpc": "2.0", "id": 1,  "result": {"id": 1}}') or []
    assert message.with_id(b'"x"').text == b'{"jsonrpc": "2.0", "id": "x",  "result": {"id": 1}}'


def test_keys() -> None:
    assert key_of(b"1") != key_of(b'"1"')
    assert key_of(b'"\\u00e9"') == key_of('"é"'.encode())
    assert key_of(b"9" * 100) == (int, int("9" * 100))


@given(st.integers() | st.text(), st.booleans())
def test_a_key_is_the_value(value: int | str, ascii_only: bool) -> None:
    assert key_of(json.dumps(value, ensure_ascii=ascii_only).encode()) == (type(value), value)


def parsed(body: bytes) -> envelope.Message:
    return envelope.parse(body, 100, 1000)


def test_what_clients_refer_to() -> None:
    call = parsed(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":"t"}}}')
    assert isinstance(call, Request)
    assert token_of(call) == b'"t"'
    assert cancelled_id(call) is None
    cancel = parsed(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}')
    assert cancelled_id(cancel) == b"7"
