"""The same answers on lines as over HTTP, and the load client's check of them."""

from __future__ import annotations

import io

import orjson

from bench.http1 import Reader
from bench.requests import Request, requests
from bench.slices import Kind, Order
from bench.stdio_server import serve
from bench.tools import EVENTS
from bench.upstream import Server

ID = 100_000_007


def request(kind: Kind = "echo", content: int = 0, result: int = 0) -> Request:
    tool = {"echo": "echo", "event": "count", "events": "count", "list": "echo"}[kind]
    order = Order(
        port=1,
        sessions=({},),
        kind=kind,
        tools=(tool,),
        content=content,
        result=result,
        warm_up=0,
        seconds=1,
        clocks={},
    )
    return requests(order)[0]


def answered(*lines: bytes) -> list[bytes]:
    written = io.BytesIO()
    serve(lines, written)
    return written.getvalue().splitlines()


def over_http(call: Request) -> bytes:
    """The body of the answer of a server without sessions."""
    (message,) = Reader().feed(call.with_id(ID, b""))
    answer = Server(stateless=True).answer(message)
    assert isinstance(answer, bytes)
    return Reader().feed(answer)[0].body


def test_both_transports_have_the_same_answers() -> None:
    for call in (request(), request(content=3000), request(result=3000)):
        assert answered(call.line(ID)) == [over_http(call)]


def test_a_request_is_one_line_whatever_is_in_it() -> None:
    line = request(content=3000).line(ID)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")


def test_notifications_are_not_answered() -> None:
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}
    lines = [orjson.dumps(initialize), orjson.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})]
    (answer,) = answered(*lines)
    assert orjson.loads(answer)["result"]["protocolVersion"] == "2025-06-18"


def test_a_call_with_progress_has_a_line_for_each_event() -> None:
    lines = [orjson.loads(line) for line in answered(request("events").line(ID))]
    assert len(lines) == EVENTS
    assert [line.get("method") for line in lines[:2]] == ["notifications/progress"] * 2
    assert lines[-1]["id"] == ID
