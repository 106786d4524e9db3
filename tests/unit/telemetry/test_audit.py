"""Lines of the audit."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.telemetry import audit as audit_module
from mcp_extproc.telemetry.audit import MAX_ARGUMENTS_BYTES, MAX_TEXT_BYTES, bounded, fields, is_audited, line, shape_of
from mcp_extproc.telemetry.exchange import Exchange
from tests.unit.telemetry.support import CALL


def but(**changes: Any) -> Exchange:
    return msgspec.structs.replace(CALL, **changes)


def as_line(exchange: Exchange) -> bytes:
    shape = shape_of(exchange)
    assert shape is not None
    found = line(exchange, shape)
    assert json.loads(found) == json.loads(json.dumps(fields(exchange))), "what is sent as a log record"
    return found


def test_a_call() -> None:
    assert json.loads(as_line(CALL)) == {
        "time": "2026-09-21T14:13:20.123Z", "principal": "alice", "issuer": "https://idp", "method": "tools/call",
        "endpoint": "readonly", "server": "notes", "tool": "add", "verdict": "allow", "request_id": "r-1",
        "jsonrpc.request.id": "7ü", "session": "0123456789abcdef", "client_address": "10.0.0.1", "duration": 0.03,
    }  # fmt: skip


def test_a_denial() -> None:
    found = json.loads(as_line(but(reason="not_authorized", code=-32600, decided_by="no-writes", arguments="hmac:1")))
    assert (found["verdict"], found["rule"], found["error.type"]) == ("deny", "no-writes", "-32600")
    assert found["arguments"] == "hmac:1"


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "a\r\nb",
        "a\u2028b",
        "a\x85b",
        "a\x1b[31m",
        "a\x7fb",
        "a\ud800b",
        '"}\n{"verdict":"allow"',
        "ü\U0001f600",
    ],
)
def test_a_line_is_one_line(name: str) -> None:
    written = as_line(but(tool=name, principal=name))
    text = written.decode()
    assert text.splitlines() == [text.removesuffix("\n")]
    assert text.removesuffix("\n").isprintable()
    assert json.loads(written)["tool"] == name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=2000))
def test_a_line_is_bounded(text: str) -> None:
    texts = dict.fromkeys(
        ("principal", "issuer", "method", "endpoint", "server", "tool", "prompt", "uri", "request_id"), text
    )
    written = as_line(but(**texts, id=text, session=text, arguments=text, decided_by=text, reason=text))
    assert len(written) <= 15 * MAX_TEXT_BYTES + MAX_ARGUMENTS_BYTES + 400
    assert written.count(b"\n") == 1


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(6, 40))
def test_what_is_cut(text: str, limit: int) -> None:
    found = bounded(text, limit)
    assert len(json.dumps(found)) - 2 <= limit
    assert found == text or (found.endswith("…") and text.startswith(found[:-1]))
    assert found == text or len(json.dumps(text)) - 2 > limit


@pytest.mark.parametrize(
    ("changes", "audited"),
    [
        ({}, True),
        ({"method": "notifications/initialized"}, True),
        ({"method": None, "reason": "parse_error", "code": -32700}, True),
        ({"http_method": "GET", "method": None}, False),
        ({"http_method": "GET", "method": None, "reason": "invalid_token"}, True),
        ({"batch": 2}, False),
    ],
)
def test_what_is_audited(changes: dict[str, Any], audited: bool) -> None:
    assert is_audited(but(**changes)) is audited


def test_a_long_text_is_not_cut_character_by_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client chooses names and keys of arguments, and the collector has others' lines to write."""
    seen = 0

    def dumps(text: str) -> str:
        nonlocal seen
        seen += 1
        return json.dumps(text)

    monkeypatch.setattr(audit_module, "json", SimpleNamespace(dumps=dumps))
    text = '"\n\u00e9\U0001f600x' * 500
    cut = bounded(text, 1000)
    assert seen < 20
    assert text.startswith(cut[:-1])
    assert 1000 - 12 < len(json.dumps(cut)) - 2 <= 1000
