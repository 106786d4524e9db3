"""A server's own error, taken out of a body: whole, bounded, and without what is secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.relay.refused import MAX_BODY_BYTES, MAX_DATA_BYTES, MAX_MESSAGE_CHARS, error_in
from tests.unit.gateway.support import catalog_of, config

ENTRY = catalog_of(config({"a": {"headers": {"authorization": "Bearer s3cret-value"}}})).entries["a"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (b'{"code":-32602,"message":"no"}', b'{"code":-32602,"message":"no"}'),
        (b'{"message":"no","code":1,"more":2}', b'{"code":1,"message":"no"}'),
        (b'{"code":1,"message":"no","data":null}', b'{"code":1,"message":"no","data":null}'),
        (b'{"code":1,"message":"","data":{"n": 1.50e40}}', b'{"code":1,"message":"","data":{"n": 1.50e40}}'),
        (b'{"code":1,"message":"","data":1e999}', b'{"code":1,"message":""}'),
        (b'{"code":1,"message":"is s3cret-value"}', b'{"code":1,"message":"is [redacted]"}'),
        (b'{"code":1,"message":"","data":{"a":"s3cret-value","a":"b"}}', b'{"code":1,"message":""}'),
        (rb'{"code":1,"message":"","data":[{"a":"s3cret-value","\u0061":"b"}]}', b'{"code":1,"message":""}'),
        (rb'{"code":1,"message":"","data":["\u00733cret-value"]}', b'{"code":1,"message":"","data":["[redacted]"]}'),
    ],
)
def test_what_is_told(error: bytes, told: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":null,"error":%b}' % error
    found = error_in(body, ENTRY, b'"\\u0041"')
    assert found is not None
    assert found == (json.loads(told)["code"], b'{"jsonrpc":"2.0","id":"\\u0041","error":%b}' % told)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no", b"[]", b"{}", b'{"error":null}', b'{"error":"no"}', b'{"error":{"code":1}}', b'{"error":{"message":"no"}}',
        b'{"error":{"code":"1","message":"no"}}', b'{"error":{"code":1.5,"message":"no"}}', b"\xff", b"[" * 40 + b"]" * 40,
        b'{"error":{"code":99999999999999999999,"message":"no"}}', b'{"error":{"code":%b,"message":"no"}}' % (b"9" * 400),
        b'{"error":{"code":1,"message":"no","data":[%b]}}' % b",".join([b"1"] * 2000),
        b'{"error":{"code":1,"message":"%b"}}' % (b"x" * MAX_BODY_BYTES),
    ],
)  # fmt: skip
def test_what_is_no_error(body: bytes) -> None:
    assert error_in(body, ENTRY, b"1") is None


def test_bounds() -> None:
    body = json.dumps({"error": {"code": 1, "message": "m" * 5000, "data": "d" * MAX_DATA_BYTES}}).encode()
    found = error_in(body, ENTRY, b"1")
    assert found is not None
    assert json.loads(found[1])["error"] == {"code": 1, "message": "m" * MAX_MESSAGE_CHARS}


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
).map(lambda value: json.dumps({"error": {"code": 1, "message": "m", "data": value}}).encode()))  # fmt: skip
def test_any_body_has_an_error_or_none(body: bytes) -> None:
    found = error_in(body, ENTRY, b"1")
    assert found is None or json.loads(found[1])["error"]["code"] == found[0]
