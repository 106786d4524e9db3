"""Records of the access log, as a terminal shows them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from mcp_extproc.telemetry.access_line import MAX_RECORD_BYTES, AccessLines, line

CALL = {
    "start_time": "2026-01-01T10:00:00.000Z", "http_method": "POST", "status": 200, "duration_ms": 6, "response_flags": "-",
    "mcp.method.name": "tools/call", "mcp.name": "notes__add", "mcp.client": "agent/1",
}  # fmt: skip


def shown(**fields: Any) -> str:
    """A record's line, without its time."""
    return line(json.dumps(CALL | fields).encode())[8:]


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()


def test_what_was_asked_and_what_came() -> None:
    assert line(json.dumps(CALL).encode()) == "11:00:00 200      6 ms  tools/call notes__add (agent/1)"
    uri = {"mcp.method.name": "resources/read", "mcp.name": "notes__a", "mcp.resource.uri": "notes+file:///x"}
    assert shown(**uri) == " 200      6 ms  resources/read notes__a notes+file:///x (agent/1)"
    assert shown(**{"mcp.batch": 3}) == " 200      6 ms  tools/call notes__add batch of 3 (agent/1)"
    assert 'without ["a"]' in shown(**{"mcp.unavailable": ["a"]})


def test_what_went_wrong() -> None:
    assert shown(status=403, **{"error.type": "forbidden"}).endswith(" tools/call notes__add error forbidden (agent/1)")
    assert shown(status=503, response_flags="UF").endswith(" tools/call notes__add error UF (agent/1)")


def test_what_strangers_write_is_short_and_changes_no_terminal() -> None:
    said = shown(**{"mcp.name": "a\x1b[31m\n\u202e" + "x" * 10_000})
    assert said.startswith(" 200      6 ms  tools/call a\\u001b[31m\\n\\u202exxx")
    assert len(said) < 300


@pytest.mark.parametrize("record", [
    b"not JSON", b"[]", b"{}", b'{"start_time":"yesterday","status":200}', b'{"start_time":1,"status":2}',
    b'{"start_time":"2026-01-01T10:00:00Z","status":"x"}', b"\xff\x1b[2J",
])  # fmt: skip
def test_what_is_no_record_is_shown_as_it_is(record: bytes) -> None:
    assert line(record) == record.decode(errors="replace").replace("\x1b", "\\u001b").replace("\ufffd", "\ufffd")


def test_records_arrive_in_parts() -> None:
    lines, text = AccessLines(), b"\n".join([b"one", b"", b"two", b"three"]) + b"\n"
    assert [shown for at in range(len(text)) for shown in lines.feed(text[at : at + 1])] == ["one", "two", "three"]
    assert list(AccessLines().feed(text)) == ["one", "two", "three"]


def test_what_never_ends_is_not_kept() -> None:
    lines = AccessLines()
    for _ in range(3):
        assert list(lines.feed(b"x" * MAX_RECORD_BYTES)) == []
    assert list(lines.feed(b"y\nnext\n"))[-1] == "next"
