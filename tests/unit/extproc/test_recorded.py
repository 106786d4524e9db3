"""What a worker says in the record of a request."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import TELEMETRY_NAMESPACE
from mcp_extproc.extproc.recorded import Begun, Recorder
from mcp_extproc.gateway.decision import Forward, ForwardPlan
from mcp_extproc.gateway.effects import LearnNames, NoteExpiry
from mcp_extproc.gateway.facts import NOTHING, RequestFacts
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp.trace_context import RequestSpans, SpanContext, spans_of
from tests.unit.upstreams.fake_client import Told

TRACE, PARENT, LINKED = "a" * 32, "b" * 16, "c" * 16
FIRST, SECOND, THIRD = f"{1:032x}", f"{2:016x}", f"{3:016x}"
"""Ids in the order in which they are made: of a trace, its span, and the one towards the server."""


def recorder(**sections: Any) -> Recorder:
    sections = sections or {"telemetry": {"traces": {"endpoint": "http://localhost:4317"}}}
    config = GatewayConfig.model_validate({"servers": {"a": {"url": "http://a.test/mcp"}}, **sections})
    numbers = count(1)
    return Recorder(config, "s" * 32, lambda size: f"{next(numbers):0{2 * size}x}")


def head(**headers: str) -> RequestHead:
    return RequestHead("POST", "/mcp", {"host": "a", **headers})


def body(meta: Any = None, arguments: Any = None) -> bytes:
    params = {"name": "t", "arguments": arguments or {}} | ({} if meta is None else {"_meta": meta})
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def forward(text: bytes) -> Forward:
    return Forward(ForwardPlan("a", (), (), NOTHING), text, (("content-length", str(len(text))), ("x-a", "b")))


def said(serialized: bytes) -> dict[str, Any]:
    """What is in the metadata of a record."""
    found = Struct.FromString(serialized).fields[TELEMETRY_NAMESPACE].struct_value
    return {name: getattr(value, value.WhichOneof("kind") or "") for name, value in found.fields.items()}


def traceparent(trace: str = TRACE, span: str = PARENT, flags: str = "01") -> str:
    return f"00-{trace}-{span}-{flags}"


def test_a_trace_begins_here() -> None:
    made = recorder()
    begun = made.begin(head(), body())
    assert begun.spans == RequestSpans(SpanContext(FIRST, SECOND, sampled=True))
    assert dict(begun.head.trace)["traceparent"] == traceparent(FIRST, SECOND), "for what is done for its sake"
    assert begun.head.span == begun.spans.own
    passed = made.passed(begun, forward(body()))
    assert passed.headers == (("traceparent", traceparent(FIRST, THIRD)),)
    assert passed.removed == ("tracestate",)
    assert json.loads(passed.decision.body) == json.loads(body({"traceparent": traceparent(FIRST, THIRD)}))
    assert passed.decision.own_headers == (("content-length", str(len(passed.decision.body))), ("x-a", "b"))
    assert spans_of(said(made.metadata(NOTHING, begun, passed.spans))["spans"]) == passed.spans


def test_meta_is_the_parent() -> None:
    made = recorder()
    meta = {"traceparent": traceparent(), "tracestate": "v=1", "baggage": "k=v", "other": 1}
    begun = made.begin(head(traceparent=traceparent("d" * 32, LINKED), tracestate="v=2"), body(meta))
    assert begun.spans is not None
    assert (begun.spans.own.trace, begun.spans.parent) == (TRACE, PARENT)
    assert begun.spans.link == SpanContext("d" * 32, LINKED, sampled=True, state="v=2")
    passed = made.passed(begun, forward(body(meta)))
    assert [name for name, _ in passed.headers] == ["traceparent", "tracestate", "baggage"]
    assert json.loads(passed.decision.body)["params"]["_meta"] == {**meta, "traceparent": passed.headers[0][1]}
    assert said(made.metadata(NOTHING, begun))["state"] == "v=1"


@pytest.mark.parametrize("in_meta", [False, True])
def test_what_is_not_sampled_stays_as_it_is(in_meta: bool) -> None:
    """The parent that stands in ``_meta`` alone goes on in the header."""
    made = recorder()
    context = traceparent(flags="00")
    text = body({"traceparent": context} if in_meta else None)
    begun = made.begin(head(**({} if in_meta else {"traceparent": context})), text)
    passed = made.passed(begun, forward(text))
    assert passed.decision.body == text
    assert passed.headers == ((("traceparent", context),) if in_meta else ())
    assert begun.head.span is None
    assert said(made.metadata(NOTHING, begun, passed.spans)) == {"sampled": False}


@pytest.mark.parametrize(
    ("traces", "flags", "is_kept"),
    [
        ({}, "01", True),
        ({}, "00", False),
        ({"sample": 0}, "01", True),
        ({"sample": 0, "parent_based": False}, "01", False),
    ],
)
def test_a_request_that_envoy_sends_once_more(traces: dict[str, Any], flags: str, is_kept: bool) -> None:
    """It has the headers that it went on with, and nobody reads its body."""
    made = recorder(telemetry={"traces": {"endpoint": "http://localhost:4317", **traces}})
    before = head(traceparent=traceparent(flags=flags))
    assert made.again(before).span == (SpanContext(TRACE, PARENT, sampled=True) if is_kept else None)
    assert made.again(head()) == head()
    assert recorder(audit={"file": "a"}).again(before) is before


def test_messages_of_batches_come_one_by_one() -> None:
    request = head()
    assert recorder().begin(request, b" [" + body() + b"]") == Begun(request)


@pytest.mark.parametrize(
    "text", [b"{", b"5", b'{"params": 5, "traceparent": 1}', b'{"params": {"_meta": ["traceparent"]}}']
)
def test_what_is_no_request_has_a_span_too(text: bytes) -> None:
    made = recorder()
    begun = made.begin(head(), text)
    assert begun.spans is not None
    assert said(made.metadata(NOTHING, begun))["spans"]


@pytest.mark.parametrize(
    ("how", "start"), [("none", None), ("hash", "hmac-sha256:"), ("redacted", '{"password":"***"}')]
)
def test_arguments(how: str, start: str | None) -> None:
    made = recorder(audit={"file": "a", "arguments": how})
    text = body(arguments={"password": "hush"})
    begun = made.begin(head(), text)
    found = said(made.metadata(NOTHING, begun)).get("arguments")
    assert found is None if start is None else str(found).startswith(start)
    assert (begun.spans, begun.head) == (None, head()), "nothing else is asked for"
    assert made.passed(begun, forward(text)).decision.body == text


def test_a_session_that_has_expired() -> None:
    told = Told()
    config = GatewayConfig.model_validate({"servers": {"a": {"url": "http://a.test/mcp"}}, "session": {"ttl": "1h"}})
    Recorder(config, "s" * 32, observer=told).apply(NoteExpiry("s", "2025-11-25"))
    assert told.expirations == [("s", "2025-11-25", 3600.0)]


def test_what_the_decision_knows() -> None:
    made = recorder(telemetry={"metrics": {"address": "127.0.0.1:0"}})
    made.apply(LearnNames("tools", [("a", "t")]))
    assert said(made.metadata(RequestFacts(server="a", named=("tool", "t"), rule="r"), None)) == {
        "rule": "r",
        "listed": True,
    }
    assert said(made.metadata(RequestFacts(session_seconds=1.5), None)) == {"session_seconds": 1.5}
    assert said(made.metadata(RequestFacts(passed_on="more"), None)) == {"passed_on": "more"}
    for other in (("tool", "u"), ("prompt", "t")):
        assert made.metadata(RequestFacts(server="a", named=other), Begun(head())) == b""
    assert made.metadata(RequestFacts(server="b", named=("tool", "t")), None) == b""
