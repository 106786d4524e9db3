"""What the audit has of arguments."""

from __future__ import annotations

import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.audited import MAX_BYTES, MAX_READ_BYTES, TOO_LARGE, Hasher, key_of, redacted


def test_a_hash_is_the_same_on_each_worker_and_needs_the_key() -> None:
    key = key_of(b"s" * 32)
    hashed, same, other = Hasher(key), Hasher(key_of(b"s" * 32)), Hasher(key_of(b"t" * 32))
    assert hashed(b'{"a":1}') == same(b'{"a":1}') == hashed(b'{"a":1}')
    assert hashed(b'{"a":1}') != hashed(b'{"a":2}')
    assert hashed(b'{"a":1}') != other(b'{"a":1}')
    assert b"s" * 32 not in key


@pytest.mark.parametrize(
    ("arguments", "masked"),
    [
        ({}, {}),
        ({"a": "hunter2", "b": 7, "c": None, "d": True}, dict.fromkeys("abcd", "***")),
        ({"a": {"b": ["hunter2", "hunter3", {"c": 1}]}}, {"a": {"b": ["***", {"c": "***"}]}}),
        ({"a": [[["hunter2"]]]}, {"a": [[["***"]]]}),
    ],
)
def test_names_stay_and_values_go(arguments: object, masked: object) -> None:
    found = redacted(json.dumps(arguments).encode())
    assert json.loads(found) == masked
    assert "hunter" not in found


def test_it_is_bounded() -> None:
    assert redacted(json.dumps({"x" * MAX_BYTES: 1}).encode()) == TOO_LARGE
    assert redacted(json.dumps({"a": "x" * MAX_READ_BYTES}).encode()) == TOO_LARGE
    many = redacted(json.dumps({"a": [{str(number): 1} for number in range(100)]}).encode())
    assert len(json.loads(many)["a"]) == 20
    deep = "hunter2"
    for _ in range(50):
        deep = {"a": deep}  # type: ignore[assignment]
    assert redacted(json.dumps(deep).encode()).count("a") == 8


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": 1e999}',
        b'{"a": %s}' % (b"9" * 60_000),
        b'{"a": "\\ud800", "b": %s}' % (b"[" * 20_000 + b"]" * 20_000),
    ],
)
def test_attack_whatever_json_allows_harms_no_call(arguments: bytes) -> None:
    """orjson reads less than that: a call with such arguments failed."""
    found = redacted(arguments)
    assert found == TOO_LARGE or set(json.loads(found).values()) == {"***"}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_hash_is_an_hmac(key: bytes, arguments: bytes) -> None:
    """RFC 2104, with any key."""
    assert Hasher(key)(arguments) == "hmac-sha256:" + hmac.digest(key, arguments, "sha256").hex()
