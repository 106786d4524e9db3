"""What of a client's request travels to the requests that are made for its sake."""

from __future__ import annotations

import pytest

from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.request import RequestContext, RequestHead, context_of
from mcp_extproc.mcp.trace_context import SpanContext

ALICE = Principal("token", "https://idp.example", "alice")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def headers(**fields: str) -> dict[str, str]:
    return dict(context_of(RequestHead("POST", "/mcp", fields)).headers)


def test_the_trace_travels() -> None:
    assert headers(traceparent=PARENT, tracestate="a=1,b=2") == {"traceparent": PARENT, "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "fields",
    [
        {"traceparent": "x"},
        {"traceparent": PARENT.upper()},
        {"traceparent": PARENT + "-" + "x" * 65},
        {"traceparent": PARENT + "\n"},
        {"tracestate": "x" * 513},
        {"tracestate": "\xe9"},
        {"tracestate": "a\x01"},
        {"tracestate": ""},
        {"baggage": "a=1"},
        {"authorization": "a"},
        {"cookie": "a"},
    ],
)
def test_what_does_not(fields: dict[str, str]) -> None:
    """Nothing that a client could fill at will, or that concerns one server alone."""
    assert headers(**fields) == {}


def test_whose_it_is() -> None:
    head = RequestHead("POST", "/mcp", {}, ALICE)
    assert context_of(head, b"7") == RequestContext(principal=ALICE.key, request_id=b"7")


def test_what_is_known_of_a_head_stays_known_within_its_span() -> None:
    """But for the trace, which is its own then."""
    client = RequestHead("POST", "/mcp", {"traceparent": f"00-{'1' * 32}-{'2' * 16}-00", "tracestate": "v=1", "x": "y"})
    client.found.caller = caller = object()
    assert client.trace
    own = SpanContext("a" * 32, "b" * 16, sampled=True)
    head = client.within(own)
    assert (head.span, head.trace) == (own, (("traceparent", own.traceparent),))
    assert head.found.caller is caller
    head.found.caller = other = object()
    assert client.found.caller is other, "and what is found out about either is known of both"
    assert (head.headers, head.form) == (client.headers, client.form)
    assert (client.span, len(client.trace)) == (None, 2)
    state = SpanContext("a" * 32, "b" * 16, sampled=True, state="v=2")
    assert dict(client.within(state).trace)["tracestate"] == "v=2"
