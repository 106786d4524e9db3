"""Records as Envoy writes them, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_extproc.contract import NAMESPACE, RECORD_FACTS, RECORD_KEY, TELEMETRY_NAMESPACE
from mcp_extproc.mcp.trace_context import RequestSpans, SpanContext
from mcp_extproc.telemetry import _pb as pb
from mcp_extproc.telemetry.exchange import Exchange, Peer
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.telemetry.records.messages import exchange

STARTED = 1_790_000_000_123_456_789
TRACE, SPAN, ONWARD, PARENT, OTHER = "a" * 32, "b" * 16, "c" * 16, "d" * 16, "e" * 32
SPANS = RequestSpans(
    SpanContext(TRACE, SPAN, sampled=True, state="v=1"), PARENT, ONWARD, SpanContext(OTHER, SPAN, sampled=False)
)
FACTS: Mapping[str, Any] = {
    "method": "tools/call", "id_json": '"7\\u00fc"', "id": "7ü", "session": "0123456789abcdef", "server": "notes",
    "protocol_version": "2025-11-25", "principal": "alice", "issuer": "https://idp", "endpoint": "readonly",
    "tool": "add", "params": {"name": "notes__add"},
}  # fmt: skip
CALL = Exchange(
    started=STARTED,
    duration=30_000_000,
    upstream=(5_000_000, 25_000_000),
    attempts=1,
    http_version="1.1",
    status=200,
    request_bytes=100,
    response_bytes=200,
    request_id="r-1",
    client=Peer("10.0.0.1", 4242),
    upstream_peer=Peer("10.0.0.2", 8080),
    method="tools/call",
    id="7ü",
    session="0123456789abcdef",
    protocol_version="2025-11-25",
    principal="alice",
    issuer="https://idp",
    endpoint="readonly",
    server="notes",
    tool="add",
    spans=SPANS,
)
"""What :func:`record` is by default."""


def record(
    facts: Mapping[str, Any] = FACTS, more: Mapping[str, Any] | None = None, **response: Any
) -> pb.HTTPAccessLogEntry:
    """A record of a call. Members of ``response`` are those of the message."""
    entry = pb.HTTPAccessLogEntry(protocol_version="HTTP11")
    common = entry.common_properties
    common.start_time.FromNanoseconds(STARTED)
    common.duration.FromMilliseconds(30)
    common.time_to_first_upstream_tx_byte.FromMilliseconds(5)
    common.time_to_last_upstream_rx_byte.FromMilliseconds(25)
    common.upstream_request_attempt_count = 1
    common.downstream_remote_address.socket_address.address = "10.0.0.1"
    common.downstream_remote_address.socket_address.port_value = 4242
    common.upstream_remote_address.socket_address.address = "10.0.0.2"
    common.upstream_remote_address.socket_address.port_value = 8080
    told = {RECORD_KEY: note_of(facts, more)} if facts or more is None or more else {}
    outcome = {name: value for name, value in facts.items() if name in RECORD_FACTS}
    for namespace, values in ((NAMESPACE, outcome), (TELEMETRY_NAMESPACE, told)):
        if values:
            common.metadata.filter_metadata[namespace].update(dict(values))
    entry.request.request_method = 3
    entry.request.request_id = "r-1"
    entry.request.request_body_bytes = 100
    entry.response.response_code.value = response.pop("status", 200)
    entry.response.response_body_bytes = 200
    entry.response.response_code_details = response.pop("details", "")
    for name, value in response.items():
        entry.response.response_headers[name.replace("_", "-")] = value
    return entry


def note_of(facts: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> str:
    """What a worker notes.

    Args:
        facts: of the request, under the names that policies see.
        more: members of :class:`worker_note.Kind` and :class:`worker_note.More`, ``arguments``, and ``spans``; by default
            :data:`SPANS`.
    """
    told: dict[str, Any] = {"spans": SPANS} if more is None else dict(more)
    names = ("method", "server", "tool", "prompt", "endpoint", "protocol_version", "batch")
    shared: dict[str, Any] = {name: facts[name] for name in names if name in facts}
    shared |= {name: told[name] for name in ("rule", "passed_on", "is_listed") if name in told}
    kind = worker_note.Kind(**shared)
    spans, params = told.get("spans"), facts.get("params", {})
    asked_for = None if "tool" in facts or "prompt" in facts else params.get("name")
    state = "" if spans is None else spans.own.state
    rest = worker_note.More(asked_for, params.get("uri"), told.get("session_seconds"), state)
    id = facts.get("id_json")
    who = worker_note.Who(*map(facts.get, ("session", "principal", "issuer")))
    return worker_note.text(
        worker_note.shared(kind, who),
        None if id is None else id.encode(),
        spans,
        told.get("arguments"),
        worker_note.NOTHING_MORE if rest == worker_note.NOTHING_MORE else rest,
    )


def read(facts: Mapping[str, Any] = FACTS, more: Mapping[str, Any] | None = None, **response: Any) -> Exchange:
    """The same, read."""
    return exchange(record(facts, more, **response))
