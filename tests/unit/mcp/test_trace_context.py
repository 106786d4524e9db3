"""W3C Trace Context in headers and in `_meta`."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from mcp_extproc.mcp.trace_context import (
    MAX_STATE_BYTES,
    Origin,
    RequestSpans,
    SpanContext,
    begin,
    context_of,
    is_kept,
    origin,
    spans_of,
    with_context,
    with_traceparent,
)

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN, NEW = "b7ad6b7169203331", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_header() -> None:
    found = context_of({"traceparent": PARENT, "tracestate": "a=1,b=2"})
    assert found == SpanContext(TRACE, SPAN, sampled=True, state="a=1,b=2")
    assert found.traceparent == PARENT
    assert found.child(NEW) == SpanContext(TRACE, NEW, sampled=True, state="a=1,b=2")


@pytest.mark.parametrize(
    "text",
    [
        None, 7, "", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-0g",
        f"{PARENT}\n", f" {PARENT}",
    ],
)  # fmt: skip
def test_what_is_as_nothing(text: object) -> None:
    assert context_of({"traceparent": text, "tracestate": "a=1"}) is None


def test_a_later_version_may_have_more() -> None:
    assert context_of({"traceparent": f"cc-{TRACE}-{SPAN}-09-what"}) == SpanContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    "state",
    [
        "x" * (MAX_STATE_BYTES + 1), "a=1\r\nx: y", "ü", 7, "=", "a", "a=", "A=1", "a=b=c", "a=1,b", "a=1,a=2", "a@b@c=1",
        ",".join(f"a{number}=1" for number in range(33)),
    ],
)  # fmt: skip
def test_a_state_that_is_not_passed_on(state: object) -> None:
    assert context_of({"traceparent": PARENT, "tracestate": state}) == SpanContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize("state", ["a=1", "a=1, b=~\t,,1@v=x y", ",".join(f"a{number}=1" for number in range(32)), ""])
def test_a_state_that_is_passed_on(state: str) -> None:
    """As it is, and exporters don't complain about it: they would, with a line in the log for each span."""
    found = context_of({"traceparent": PARENT, "tracestate": state})
    assert found is not None
    assert found.state == state
    assert len(TraceState.from_header([state])) == len([member for member in state.split(",") if member])


def test_meta_is_the_parent_and_the_header_a_link() -> None:
    meta, header = SpanContext(TRACE, SPAN, sampled=True), SpanContext(OTHER, SPAN, sampled=False)
    in_meta, in_header = {"traceparent": meta.traceparent}, {"traceparent": header.traceparent}
    assert origin(in_header, in_meta) == Origin(meta, header)
    assert origin(in_header, {}) == Origin(header)
    assert origin({}, in_meta) == Origin(meta)
    assert origin(in_meta, in_meta) == Origin(meta)
    assert origin(in_header, {"traceparent": "nonsense"}) == Origin(header)
    assert origin({}, {}) == Origin()


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.5, 1.0])
def test_the_part_that_is_kept(ratio: float) -> None:
    traces = [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in range(1, 20_001)]
    kept = sum(is_kept(trace, ratio) for trace in traces) / len(traces)
    assert kept == pytest.approx(ratio, abs=0.01)


def test_a_trace_begins_here() -> None:
    assert begin(Origin(), TRACE, NEW, 1, parent_based=True) == SpanContext(TRACE, NEW, sampled=True)
    assert not begin(Origin(), TRACE, NEW, 0, parent_based=True).sampled


@pytest.mark.parametrize("sampled", [True, False])
def test_the_parents_decision_counts(sampled: bool) -> None:
    found = Origin(SpanContext(OTHER, SPAN, sampled=sampled, state="a=1"))
    ratio = float(not sampled)
    assert begin(found, TRACE, NEW, ratio, parent_based=True) == SpanContext(OTHER, NEW, sampled=sampled, state="a=1")
    assert begin(found, TRACE, NEW, ratio, parent_based=False).sampled is not sampled


@pytest.mark.parametrize(
    "spans",
    [
        RequestSpans(SpanContext(TRACE, SPAN, sampled=True)),
        RequestSpans(SpanContext(TRACE, SPAN, sampled=True), "", NEW),
        RequestSpans(SpanContext(TRACE, SPAN, sampled=True, state="a=1"), "", NEW),
        RequestSpans(SpanContext(TRACE, SPAN, sampled=False), "", NEW),
        RequestSpans(SpanContext(TRACE, SPAN, sampled=True), "", NEW, SpanContext(OTHER, SPAN, sampled=True)),
        RequestSpans(SpanContext(TRACE, SPAN, False, "a=1"), NEW, "1" * 16, SpanContext(OTHER, SPAN, sampled=True)),
    ],
)
def test_spans_are_told(spans: RequestSpans) -> None:
    assert spans_of(spans.text, spans.own.state) == spans


@pytest.mark.parametrize(
    "text", ["", ",,,", PARENT, f"{PARENT},,", f"{PARENT},x,,", f"{PARENT},,1,", f"{PARENT},,,,", "1" * 63, "X" * 64]
)
def test_spans_that_nobody_wrote(text: str) -> None:
    assert spans_of(text) is None


CONTEXT = SpanContext("a" * 32, "b" * 16, sampled=True, state='v="\t')


@pytest.mark.parametrize(
    "text",
    [
        b'{"params":{}}',
        b' {"id": 1.50, "params": {"a": "\\u0041", "_meta" : { } } , "z":[1, 2]}\n',
        b'{"params":{"_meta":{"progressToken":7,"traceparent":"x","tracestate":""},"b":{"_meta":{"traceparent":"y"}}}}',
        b' {\n"id": 1, "params" : { }}',
        b'{"x":{"params":{"b":1}},"params":{"a":1}}',
        b'{"id":"\\"params\\":{","method":"params","params":{"a":[{}]}}',
        b'{"params":{"a":{"params":{}}},"x":{"params":{}}}',
        b'{"params":{"a":"_meta"}}',
        b'{"id":"{","params":{"a":1}}',
    ],
)
def test_only_the_context_is_written(text: bytes) -> None:
    written = with_context(text, CONTEXT)
    wanted = json.loads(text)
    wanted["params"].setdefault("_meta", {}).update({"traceparent": CONTEXT.traceparent, "tracestate": 'v="\t'})
    assert json.loads(written) == wanted
    assert b'"a": "\\u0041"' in written or b"u0041" not in text
    assert with_context(written, CONTEXT) == written


def _message(members: list[bytes]) -> bytes:
    return b"{" + b",".join(members) + b"}"


MESSAGES = st.lists(
    st.sampled_from([
        b'"jsonrpc":"2.0"', b'"id":1', b'"id":{}', b'"method":"tools/call"', b'"method": "a\\u0041"', b'"x":"params"',
        b'"params":{"name":"t","arguments":{"a":1}}', b'"params":{}', b'"params":{ }', b'"params": {"a":1}',
        b'"params":{ "a":{"params":{}}}', b'"params":{"\\u0061":1}', b'"params":5', b'"params":{"_meta":{"a":1}}',
        b'"params":{"arguments":{"_meta":{}}}', b'"x":[1,{}]', b'"x\\"params":{"a":1}', b'"_meta":{}',
    ]),
    max_size=4,
).map(_message)  # fmt: skip
"""Of members that it matters where they stand."""


@given(MESSAGES)
@example(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}')
@example(b'{"x\\"params":{"a":1}}')
@example(b'[{"params":{"a":1}}]')
@example(b'{"params":{"')
@example(b'{"x":"params","params":{"a":1}}')
@example(b'{"params":5,"params":{"a":1}}')
def test_a_context_without_state_is_written_as_any_other(text: bytes) -> None:
    context = SpanContext(TRACE, NEW, sampled=True)
    assert with_traceparent(text, context.traceparent.encode()) == with_context(text, context)


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"{}", b'{"params":[]}', b'{"params":{"_meta":5}}', b'{"params":{"_meta":{},"_meta":{}}}']
)
def test_what_has_no_place_for_it_stays_whole(text: bytes) -> None:
    assert with_context(text, CONTEXT) == text
