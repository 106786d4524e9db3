"""Requests of our own, as an observer is told of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcp_extproc.gateway.request import NO_CONTEXT, RequestContext
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.upstreams.client import CredentialsRefused, ErrorAnswer, SessionLost, UnexpectedStatus, UpstreamError
from mcp_extproc.upstreams.observed import sending
from mcp_extproc.upstreams.token_exchange import NotExchanged
from tests.unit.gateway.support import catalog_of, config
from tests.unit.upstreams.fake_client import Told

ENTRY = catalog_of(config({"a": {}})).entries["a"]
SPAN = SpanContext("a" * 32, "b" * 16, sampled=True, state="v=1")
TRACED = RequestContext((("traceparent", SPAN.traceparent), ("tracestate", "v=1")), "alice", span=SPAN)


def test_the_server_gets_its_span_as_parent() -> None:
    told = Told()
    with sending(told, "tools/list", ENTRY, "2025-11-25", TRACED) as context:
        assert context.span == SPAN.child(f"{1:016x}")
        assert context.headers == (("traceparent", context.span.traceparent), ("tracestate", "v=1"))
        assert context.principal == "alice"
    [sent] = told.requests
    assert (sent.method, sent.server, sent.version, sent.error_type) == ("tools/list", "a", "2025-11-25", None)
    assert (sent.parent, sent.span) == (SPAN, f"{1:016x}")
    assert 0 < sent.start <= sent.end


def test_what_is_not_kept_goes_as_it_is() -> None:
    told = Told()
    with sending(told, "tools/list", ENTRY, None, NO_CONTEXT) as context:
        assert context is NO_CONTEXT
    assert [(sent.parent, sent.span) for sent in told.requests] == [(None, "")]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (UpstreamError("connect", "is down"), "connect"),
        (SessionLost(), "session_lost"),
        (UnexpectedStatus(503), "503"),
        (ErrorAnswer("error", "no", "-32602"), "-32602"),
        (ErrorAnswer("error", "no", '"made up"'), "error"),
        (ErrorAnswer("error", "no", "1234567"), "error"),
        (NotExchanged("no", "timeout"), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError(), "internal"),
    ],
)
def test_what_went_wrong(error: BaseException, word: str) -> None:
    told = Told()
    with pytest.raises(type(error)), sending(told, "tools/list", ENTRY, None, TRACED):
        raise error
    assert [sent.error_type for sent in told.requests] == [word]


def test_a_status_that_credentials_are_refused_with() -> None:
    class Response:
        status = 403
        headers: Any = type("Headers", (), {"getall": lambda *_: ()})()

    assert CredentialsRefused(Response(), ENTRY).error_type == "403"  # type: ignore[arg-type]
