"""What a worker keeps until it is told, and how it is told: once, in messages that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE, SpanContext, context_of
from mcp_extproc.telemetry import accumulator
from mcp_extproc.telemetry.accumulator import MAX_SERIES, MAX_SPANS, Accumulator
from mcp_extproc.telemetry.instruments import BY_NAME
from mcp_extproc.telemetry.observer import Exchanged, Sent
from mcp_extproc.telemetry.report import MAX_BYTES, MAX_ITEMS, Report, State
from tests.unit.telemetry.support import ONWARD, SPAN, STARTED, TRACE

PARENT = SpanContext(TRACE, SPAN, sampled=True, state="v=1")
STATE = State(at=2.0, started=1.0, streams=2, sessions=3, rss=None, lag=0.0)


def new() -> Accumulator:
    return Accumulator(7, lambda size: "1" * (2 * size))


def sent(**changes: Any) -> Sent:
    told = {
        "method": "tools/list",
        "server": "notes",
        "version": "2025-11-25",
        "start": STARTED,
        "end": STARTED + 10**9,
    }
    return Sent(**{"error_type": None, "parent": PARENT, "span": ONWARD, **told, **changes})


def taken(observer: Accumulator) -> Sequence[Report]:
    return [*observer.take(STATE)]


def test_a_request_of_ours() -> None:
    observer = new()
    observer.sent(sent())
    observer.sent(sent(error_type="-32602", parent=None))
    first, last = taken(observer)
    [span] = first.spans
    assert (span.name, span.context, span.parent) == ("tools/list", PARENT.child(ONWARD), SPAN)
    assert (span.start, span.end, span.failed) == (STARTED, STARTED + 10**9, False)
    assert [dict(each.labels).get("error.type") for each in first.durations] == [None, "-32602"]
    assert dict(first.durations[1].labels)["rpc.response.status_code"] == "-32602"
    assert [(each.name, each.sum) for each in first.durations] == [("mcp.client.operation.duration", 1.0)] * 2
    assert (last.pid, last.state, last.is_last) == (7, STATE, False)


def test_what_servers_are_told_by_clients_is_no_label() -> None:
    observer = new()
    observer.sent(sent(method="notifications/made up by a client"))
    first, _ = taken(observer)
    assert first.spans[0].name == "other"
    assert dict(first.durations[0].labels)["mcp.method.name"] == "other"


def test_counts() -> None:
    observer = new()
    for _ in range(3):
        observer.leg("notes", "list", None)
    observer.leg("", "batch", "timeout")
    observer.repaired("notes", None)
    observer.looked_up("merged_lists", 2, 0)
    observer.lagged(0.5)
    first, _ = taken(observer)
    assert [(each.name, dict(each.labels), each.number) for each in first.counts] == [
        ("mcp.gateway.legs", {"mcp.server": "notes", "mcp.leg": "list"}, 3),
        ("mcp.gateway.legs", {"mcp.leg": "batch", "error.type": "timeout"}, 1),
        ("mcp.gateway.repairs", {"mcp.server": "notes"}, 1),
        ("mcp.gateway.cache.lookups", {"mcp.cache": "merged_lists", "mcp.result": "hit"}, 2),
    ]
    assert [(each.name, each.sum) for each in first.durations] == [("mcp.gateway.event_loop.lag", 0.5)]


def test_a_token_exchange() -> None:
    observer = new()
    observer.exchanged(Exchanged("notes", ("idp.example", 8443), STARTED, STARTED + 10**9, "401", PARENT))
    first, _ = taken(observer)
    [span] = first.spans
    assert (span.name, span.parent, span.failed) == ("token_exchange", SPAN, True)
    assert span.attributes == {
        "mcp.server": "notes", "error.type": "401", "http.request.method": "POST", "server.address": "idp.example",
        "server.port": 8443,
    }  # fmt: skip


def test_it_is_told_once() -> None:
    observer = new()
    observer.leg("notes", "list", None)
    observer.expired("s", None, 60.0)
    assert len(taken(observer)) == 2
    assert [report.state for report in taken(observer)] == [STATE]
    assert [report.is_last for report in observer.take(None)] == [True]


def test_what_there_is_no_room_for_is_counted() -> None:
    observer = new()
    for _ in range(MAX_SPANS + 5):
        observer.sent(sent())
    reports = taken(observer)
    assert sum(len(report.spans) for report in reports) == MAX_SPANS
    assert reports[-1].spans_lost == 5


def test_messages_fit() -> None:
    """Whatever the length of names, up to what configurations and servers may have."""
    observer = new()
    long = SpanContext(TRACE, SPAN, sampled=True, state="x" * 512)
    for number in range(MAX_ITEMS * 2):
        observer.sent(sent(server="s" * 64, error_type=str(-number), parent=long))
        observer.leg("s" * 64, "list", str(number))
    reports = taken(observer)
    assert len(reports) == 3
    assert all(len(msgspec.json.encode(report)) < MAX_BYTES for report in reports)
    assert [msgspec.json.decode(msgspec.json.encode(report), type=Report) for report in reports] == reports


def test_errors_without_end_are_one(monkeypatch: Any) -> None:
    """A server may answer with any code."""
    monkeypatch.setattr(accumulator, "MAX_SERIES", 10)
    assert MAX_SERIES > 10
    observer = new()
    for number in range(20):
        observer.sent(sent(error_type=str(-number - 1), parent=None))
    durations = [each for report in taken(observer) for each in report.durations]
    assert len(durations) == 11
    assert dict(durations[-1].labels)["error.type"] == "other"
    assert sum(sum(each.counts) for each in durations) == 20


def test_every_label_is_in_the_table() -> None:
    observer = new()
    observer.sent(sent(error_type="-1"))
    observer.leg("a", "open", "x")
    observer.repaired("a", "x")
    observer.exchanged(Exchanged("a", ("h", None), 0, 1, "x", None))
    observer.looked_up("c", 1, 1)
    observer.lagged(0.0)
    first, _ = taken(observer)
    for name, labels, *_ in map(msgspec.structs.astuple, (*first.counts, *first.durations)):
        assert {label for label, _ in labels} <= {*BY_NAME[name].labels}


def test_the_largest_message_fits_by_far() -> None:
    """With long names of servers, and the longest state that a caller can have passed on."""
    observer = new()
    state = ",".join(f"{key}=" + '"' * 253 for key in "ab")
    parent = context_of({TRACEPARENT: f"00-{TRACE}-{SPAN}-01", TRACESTATE: state})
    assert parent is not None
    assert len(parent.state) > 500
    for number in range(100):
        server = f"{number:064}"
        observer.sent(sent(server=server, error_type="-32000", parent=parent))
        observer.leg(server, "list", "-32000")
        observer.repaired(server, "timeout")
        observer.expired("0123456789abcdef", "2025-11-25", 3600.0)
    assert max(len(msgspec.json.encode(report)) for report in taken(observer)) < 96 << 10
