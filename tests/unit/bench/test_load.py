"""The load client's requests against the upstream's answers, without a network; and that wrong answers are noticed."""

from __future__ import annotations

import orjson
import pytest

from bench.errors import BenchError
from bench.http1 import Message, Reader
from bench.load import Request
from bench.slices import Order
from bench.upstream import Server

ID = 100_000_007


def initialized() -> tuple[Server, dict[str, str]]:
    server = Server()
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = parse(server.answer(post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, {})))
    session = answer.header(b"mcp-session-id")
    assert session is not None
    return server, {"mcp-session-id": session.decode()}


def post(message: object, headers: dict[str, str]) -> Message:
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    return Message(f"POST /mcp HTTP/1.1{lines}".encode(), orjson.dumps(message))


def parse(data: bytes) -> Message:
    (message,) = Reader().feed(data)
    return message


def request(headers: dict[str, str], *, tool: str = "echo", content: int = 0) -> Request:
    order = Order(port=1, headers=headers, tools=(tool,), content=content, connections=1, seconds=1, clocks={})
    return Request(order, tool)


@pytest.mark.parametrize("content", [0, 1, 5_000])
def test_request_and_answer_fit(content: int) -> None:
    server, headers = initialized()
    call = request(headers, content=content)
    sent = parse(call.with_id(ID))
    arguments = orjson.loads(sent.body)["params"]["arguments"]
    assert len(arguments.get("content", "")) == content
    call.check(ID, parse(server.answer(sent)))


def test_another_calls_answer_is_wrong() -> None:
    server, headers = initialized()
    call = request(headers)
    answer = parse(server.answer(parse(call.with_id(ID))))
    with pytest.raises(BenchError, match="id 100000008"):
        call.check(ID + 1, answer)


def test_a_right_id_with_another_calls_content_is_wrong() -> None:
    server, headers = initialized()
    call = request(headers)
    answer = parse(server.answer(parse(call.with_id(ID))))
    mixed = Message(answer.head, answer.body.replace(b'"id":100000007', b'"id":100000008'))
    with pytest.raises(BenchError, match="expected the content"):
        call.check(ID + 1, mixed)


def test_arguments_cut_short_are_seen() -> None:
    server, headers = initialized()
    call = request(headers, content=100)
    message = orjson.loads(parse(call.with_id(ID)).body)
    message["params"]["arguments"]["content"] = "x" * 99
    with pytest.raises(BenchError, match=":99"):
        call.check(ID, parse(server.answer(post(message, headers))))


@pytest.mark.parametrize(
    ("headers", "tool", "status"),
    [
        pytest.param({}, "echo", 404, id="no session"),
        pytest.param({"mcp-session-id": "bench-1"}, "echo", 404, id="unknown session"),
        pytest.param({"mcp-session-id": "bench-0"}, "one__echo", 200, id="name not rewritten"),
    ],
)
def test_calls_that_the_upstream_refuses_are_wrong(headers: dict[str, str], tool: str, status: int) -> None:
    server, _ = initialized()
    call = request(headers, tool=tool)
    answer = parse(server.answer(parse(call.with_id(ID))))
    assert answer.status == status
    with pytest.raises(BenchError, match=f"status {status}"):
        call.check(ID, answer)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id":100000007}', b'{"id":100000007,"result":null}'])
def test_answers_of_another_shape_are_wrong(body: bytes) -> None:
    with pytest.raises(BenchError, match="wrong answer"):
        request({}).check(ID, Message(b"HTTP/1.1 200 OK", body))
