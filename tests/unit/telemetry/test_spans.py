"""Spans by the conventions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import pytest

from mcp_extproc.mcp.trace_context import RequestSpans, SpanContext
from mcp_extproc.telemetry.exchange import Peer
from mcp_extproc.telemetry.spans import Kind, Span, Tracing, spans_of
from tests.unit.telemetry.support import CALL, ONWARD, OTHER, PARENT, SPAN, SPANS, STARTED, TRACE

ALL = Tracing(1, parent_based=True)


def spans(tracing: Tracing = ALL, **changes: Any) -> Sequence[Span]:
    numbers = count(1)
    return [*spans_of(msgspec.structs.replace(CALL, **changes), tracing, lambda size: f"{next(numbers):0{size * 2}x}")]


def test_both_spans_of_a_call() -> None:
    server, client = spans()
    assert (server.name, server.kind) == ("tools/call add", Kind.SERVER)
    assert server.context == SpanContext(TRACE, SPAN, sampled=True, state="v=1")
    assert (server.parent, server.parent_is_remote) == (PARENT, True)
    assert server.link == SpanContext(OTHER, SPAN, sampled=False)
    assert (server.start, server.end) == (STARTED, STARTED + 30_000_000)
    assert server.attributes == {
        "mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "add",
        "mcp.server": "notes", "mcp.endpoint": "readonly", "mcp.protocol.version": "2025-11-25",
        "network.protocol.name": "http", "network.protocol.version": "1.1", "network.transport": "tcp",
        "jsonrpc.request.id": "7ü", "mcp.session.id": "0123456789abcdef", "client.address": "10.0.0.1",
        "client.port": 4242,
    }  # fmt: skip
    assert (client.name, client.kind, client.parent, client.parent_is_remote) == (server.name, Kind.CLIENT, SPAN, False)
    assert client.context == SpanContext(TRACE, ONWARD, sampled=True, state="v=1")
    assert (client.start, client.end) == (STARTED + 5_000_000, STARTED + 25_000_000)
    assert (client.attributes["server.address"], client.attributes["server.port"]) == ("10.0.0.2", 8080)
    assert not {"client.address", "network.protocol.version"} & set(client.attributes)
    assert not server.failed
    assert not client.failed


@pytest.mark.parametrize(
    ("changes", "error_type", "code"),
    [
        ({"reason": "tool_error"}, "tool_error", None),
        ({"reason": "server_error", "code": -32042}, "-32042", "-32042"),
        ({"reason": "parse_error", "code": -32700, "method": None, "status": 400}, "-32700", "-32700"),
        ({"reason": "denied", "status": 200}, "-32600", "-32600"),
        ({"status": 502}, "502", None),
    ],
)
def test_errors(changes: dict[str, Any], error_type: str, code: str | None) -> None:
    server = spans(**changes)[0]
    assert server.failed
    assert server.attributes["error.type"] == error_type
    assert server.attributes.get("rpc.response.status_code") == code


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"method": "prompts/get", "tool": None, "prompt": "summary"}, "prompts/get summary"),
        ({"method": "resources/read", "tool": None, "uri": "file:///secret"}, "resources/read"),
        ({"method": "made/up", "tool": None}, "other"),
        ({"method": None, "tool": None, "status": 403}, "POST"),
    ],
)
def test_names(changes: dict[str, Any], name: str) -> None:
    assert spans(**changes)[0].name == name


def test_what_nobody_read_has_what_http_says() -> None:
    attributes = spans(method=None, tool=None, status=401, reason="invalid_token")[0].attributes
    assert (attributes["http.request.method"], attributes["http.response.status_code"]) == ("POST", 401)


def test_a_request_that_asks_no_server_has_one_span() -> None:
    assert [span.kind for span in spans(server=None)] == [Kind.SERVER]
    assert [span.kind for span in spans(upstream=None)] == [Kind.SERVER]


@pytest.mark.parametrize("changes", [{"http_method": "GET"}, {"method": "__jsonrpc_response"}, {"batch": 2}])
def test_what_has_no_spans(changes: dict[str, Any]) -> None:
    assert spans(**changes) == []


def test_what_is_not_sampled_has_none() -> None:
    assert spans(spans=RequestSpans(SpanContext(TRACE, SPAN, sampled=False))) == []


def test_a_request_that_no_worker_saw_begins_a_trace() -> None:
    [span] = spans(spans=None, upstream=None)
    assert span.context == SpanContext(f"{1:032x}", f"{2:016x}", sampled=True)
    assert span.parent is None
    assert spans(Tracing(0, parent_based=True), spans=None) == []


def test_or_goes_on_with_that_of_its_headers() -> None:
    header = SpanContext(OTHER, PARENT, sampled=True, state="v=2")
    [span] = spans(Tracing(0, parent_based=True), spans=None, upstream=None, header=header)
    assert (span.context.trace, span.parent, span.context.state) == (OTHER, PARENT, "v=2")
    assert spans(Tracing(1, parent_based=True), spans=None, header=SpanContext(OTHER, PARENT, sampled=False)) == []


def test_a_unix_socket() -> None:
    attributes = spans(client=Peer("/run/a.sock"))[0].attributes
    assert (attributes["client.address"], attributes["network.transport"]) == ("/run/a.sock", "unix")
    assert "client.port" not in attributes


def test_what_was_not_chosen_gets_an_id() -> None:
    chosen = RequestSpans(SPANS.own)
    _, client = spans(spans=chosen)
    assert client.context.span == f"{1:016x}"


def test_what_a_worker_does_not_keep_has_none() -> None:
    assert spans(spans=None, is_left_out=True) == []
