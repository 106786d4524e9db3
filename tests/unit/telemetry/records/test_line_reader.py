"""Records as lines of a log, read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry.exchange import Exchange, Peer
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.telemetry.records.line_format import START, line_format
from mcp_extproc.telemetry.records.line_reader import MAX_LINE_BYTES, LineReader
from tests.unit.telemetry.support import CALL, FACTS, SPAN, STARTED, TRACE, note_of

WRITTEN: Mapping[str, str] = {
    "START_TIME(%s%9f)": str(STARTED),
    "COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)": "30000000",
    "DURATION": "31",
    "COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ns)": "5000000",
    "COMMON_DURATION(DS_RX_BEG:US_RX_END:ns)": "25000000",
    "BYTES_RECEIVED": "100",
    "BYTES_SENT": "200",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": "1",
    "REQ(:METHOD):16": "POST",
    "PROTOCOL": "HTTP/1.1",
    "RESPONSE_CODE": "200",
    "UPSTREAM_REMOTE_ADDRESS": "10.0.0.2:8080",
    "DOWNSTREAM_REMOTE_ADDRESS": "10.0.0.1:4242",
    "REQ(X-REQUEST-ID):128": "r-1",
    "DYNAMIC_METADATA(mcp_telemetry:record)": note_of(FACTS),
    "RESPONSE_CODE_DETAILS": "via_upstream",
}
"""What Envoy puts into a line of :data:`CALL`, by what it stands for; what is missing is empty."""
UNSEEN: Mapping[str, str] = {
    **WRITTEN,
    **dict.fromkeys((name for name in WRITTEN if "US_" in name or "UPSTREAM" in name or "DYNAMIC" in name), ""),
    "DOWNSTREAM_REMOTE_ADDRESS": "/run/a.sock",
    "RESP(x-mcp-error):64": "invalid_token",
    "RESPONSE_CODE": "401",
    "RESPONSE_CODE_DETAILS": "jwt_authn_access_denied{Jwt_is_expired}",
    "REQ(traceparent):256": f"00-{TRACE}-{SPAN}-01",
    "REQ(tracestate):513": "v=2",
}
"""The same of a request that a filter refused before a worker saw it."""


def line(written: Mapping[str, str] = WRITTEN, **more: str) -> bytes:
    """A line as Envoy writes it. A name in ``more`` is the beginning of what it stands for."""
    values = {**written}
    for start, value in more.items():
        values |= {name: value for name in [*values, "RESP(x-mcp-error):64"] if name.startswith(start)}
    text = line_format(has_traces=True)
    assert all(f"%{name}%" in text for name in values)
    return _COMMAND.sub(lambda command: values.get(command[1], ""), text).encode("latin-1")


_COMMAND = re.compile(r"%([A-Z_]+(?:\(.*?\))?(?::\d+)?)%")


def read(*lines: bytes) -> list[Exchange]:
    """What they say, but for the number of the kind."""
    found = [*LineReader().feed(b"".join(lines))]
    return [_without_kind(each) for each in found]


def _without_kind(exchange: Exchange) -> Exchange:
    assert exchange.kind is not None
    return msgspec.structs.replace(exchange, kind=None)


def test_a_call() -> None:
    """It is the same as from a message."""
    assert read(line()) == [msgspec.structs.replace(CALL, details="via_upstream")]


def test_what_no_worker_saw() -> None:
    [found] = read(line(UNSEEN))
    assert (found.method, found.spans, found.upstream, found.upstream_peer) == (None, None, None, None)
    assert (found.reason, found.status, found.rule) == ("invalid_token", 401, "jwt_authn")
    assert found.client == Peer("/run/a.sock")
    assert found.header == SpanContext(TRACE, SPAN, sampled=True, state="v=2")


@pytest.mark.parametrize(
    ("more", "attribute", "value"),
    [
        ({"COMMON_DURATION(DS_RX_BEG:DS_TX_END": ""}, "duration", 31_000_000),
        ({"COMMON_DURATION(DS_RX_BEG:US_RX_END": ""}, "upstream", (5_000_000, 30_000_000)),
        ({"REQ(:METHOD)": "BREW"}, "http_method", "_OTHER"),
        ({"PROTOCOL": "HTTP/2"}, "http_version", "2"),
        ({"RESPONSE_CODE_DETAILS": "x" * 10_000}, "details", "x" * 256),
        ({"RESPONSE_CODE_DETAILS": "a\x1fb\x1e"}, "details", "a\x1fb\x1e"),
        ({"RESP(x-mcp-error)": "hunter2"}, "reason", None),
        ({"RESP(x-mcp-error)": "denied"}, "reason", "denied"),
        ({"REQ(X-REQUEST-ID)": "\xfc"}, "request_id", "\xfc"),
    ],
)
def test_values(more: Any, attribute: str, value: object) -> None:
    [found] = read(line(**more))
    assert getattr(found, attribute) == value


@pytest.mark.parametrize(
    ("code", "number"),
    [("1e+06", 1_000_000), ("-2.5e+07", -25_000_000), ("1e+14", 10**14), ("-0", 0), ("1.5", None), ("x", None)],
)
def test_attack_no_code_of_a_server_costs_its_line(code: str, number: int | None) -> None:
    [found] = read(line({**WRITTEN, "DYNAMIC_METADATA(mcp_proxy:error_code)": code}))
    assert found.code == number


def test_what_became_of_it() -> None:
    written: dict[str, Any] = {
        **WRITTEN,
        "DYNAMIC_METADATA(mcp_proxy:error_reason)": "server_error",
        "DYNAMIC_METADATA(mcp_proxy:error_code)": "-32602",
        "DYNAMIC_METADATA(mcp_proxy:consent)": "given",
    }
    [found] = read(line(written))
    assert (found.reason, found.code, found.consent) == ("server_error", -32602, "given")


def test_a_line_comes_in_parts() -> None:
    lines, text = LineReader(), line() * 3
    found = [exchange for at in range(0, len(text), 7) for exchange in lines.feed(text[at : at + 7])]
    assert [each.started for each in found] == [STARTED] * 3
    assert lines.unreadable == 0


def test_what_is_torn_is_nobodys() -> None:
    """Of two readers each may have a part of a line, wherever it was torn: no record is made of parts of two."""
    whole = line()
    for at in range(1, len(whole)):
        lines = LineReader()
        found = [*lines.feed(whole[at:] + whole[:at] + whole)]
        assert [each.started for each in found] == [], at
        assert lines.unreadable == 2, at


def test_what_has_no_end_is_dropped() -> None:
    lines = LineReader()
    assert [*lines.feed(START.encode() + b"x" * (MAX_LINE_BYTES + 1))] == []
    assert [*lines.feed(b"\n" + line())] != []
    assert lines.unreadable == 1


@pytest.mark.parametrize("name", ["a\nb", "\x1d", "a\x1fb", "\x1e", '"', "\\", "%s", "\u2028", "ü"])
def test_no_name_breaks_a_line(name: str) -> None:
    facts = {**FACTS, "tool": name, "principal": name, "method": name, "id_json": json.dumps(name)}
    note = note_of(facts, {"rule": name}).encode()
    text = line({**WRITTEN, "DYNAMIC_METADATA(mcp_telemetry:record)": note.decode("latin-1")})
    [found] = read(text)
    assert (found.tool, found.principal, found.method, found.id, found.decided_by) == (name,) * 5


def test_exchanges_of_a_kind() -> None:
    """Those that differ in what metrics have of them are of different kinds."""
    lines = LineReader()
    texts = [
        line(), line(), line(RESPONSE_CODE="503"), line(UPSTREAM_REMOTE="10.0.0.3:1"), line(PROTOCOL="HTTP/2"),
        line(UNSEEN), line({**WRITTEN, "DYNAMIC_METADATA(mcp_telemetry:record)": note_of({**FACTS, "tool": "x"})}),
        line({**WRITTEN, "DYNAMIC_METADATA(mcp_telemetry:record)": note_of({**FACTS, "session": "x"})}),
    ]  # fmt: skip
    kinds = [exchange.kind for exchange in lines.feed(b"".join(texts))]
    assert kinds == [1, 1, 2, 3, 4, 5, 6, 1]


def test_without_traces_their_headers_are_not_in_it() -> None:
    assert "traceparent" not in line_format(has_traces=False)
    assert line_format(has_traces=False).count(worker_note.SEPARATOR) == line_format(has_traces=True).count(
        worker_note.SEPARATOR
    )
