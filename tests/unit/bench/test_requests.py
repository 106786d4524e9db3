"""The load client's requests against the upstream's answers, without a network; and that wrong answers are noticed."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from bench.errors import BenchError
from bench.http1 import Message, Reader
from bench.requests import Request, header_lines, requests
from bench.slices import Kind, Order
from bench.tools import EVENTS, tool_names
from bench.upstream import Events, Server

ID = 100_000_007


def initialized() -> tuple[Server, dict[str, str]]:
    server = Server()
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = whole(server.answer(post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, {})))
    session = answer.header(b"mcp-session-id")
    assert session is not None
    return server, {"mcp-session-id": session.decode()}


def post(message: object, headers: dict[str, str]) -> Message:
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    return Message(f"POST /mcp HTTP/1.1{lines}".encode(), orjson.dumps(message))


def parse(data: bytes) -> Message:
    (message,) = Reader().feed(data)
    return message


def request(*tools: str, kind: Kind = "echo", content: int = 0) -> Request:
    order = Order(
        port=1,
        sessions=({},),
        kind=kind,
        tools=tools or ("echo",),
        content=content,
        warm_up=0,
        seconds=1,
        clocks={},
    )
    return requests(order)[0]


def answer_to(server: Server, headers: dict[str, str], call: Request) -> Message:
    """What the client reads of the server's answer in this session."""
    return whole(server.answer(parse(call.with_id(ID, header_lines(headers)))))


def whole(answer: bytes | Events) -> Message:
    """The answer as one message."""
    return parse(answer if isinstance(answer, bytes) else b"".join(answer.pieces))


@pytest.mark.parametrize("content", [0, 1, 5_000])
def test_request_and_answer_fit(content: int) -> None:
    server, headers = initialized()
    call = request(content=content)
    sent = parse(call.with_id(ID, b""))
    arguments = orjson.loads(sent.body)["params"]["arguments"]
    assert len(arguments.get("content", "")) == content
    call.check(ID, answer_to(server, headers, call))


def test_another_calls_answer_is_wrong() -> None:
    server, headers = initialized()
    call = request()
    answer = answer_to(server, headers, call)
    with pytest.raises(BenchError, match="id 100000008"):
        call.check(ID + 1, answer)


def test_a_right_id_with_another_calls_content_is_wrong() -> None:
    server, headers = initialized()
    call = request()
    answer = answer_to(server, headers, call)
    mixed = Message(answer.head, answer.body.replace(b'"id":100000007', b'"id":100000008'))
    with pytest.raises(BenchError, match="expected the content"):
        call.check(ID + 1, mixed)


def test_arguments_cut_short_are_seen() -> None:
    server, headers = initialized()
    call = request(content=100)
    message = orjson.loads(parse(call.with_id(ID, b"")).body)
    message["params"]["arguments"]["content"] = "x" * 99
    with pytest.raises(BenchError, match=":99"):
        call.check(ID, whole(server.answer(post(message, headers))))


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
    call = request(tool)
    answer = answer_to(server, headers, call)
    assert answer.status == status
    with pytest.raises(BenchError, match=f"status {status}"):
        call.check(ID, answer)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id":100000007}', b'{"id":100000007,"result":null}'])
def test_answers_of_another_shape_are_wrong(body: bytes) -> None:
    with pytest.raises(BenchError, match="wrong answer"):
        request().check(ID, Message(b"HTTP/1.1 200 OK", body))


@pytest.mark.parametrize(("kind", "events"), [("event", 1), ("events", EVENTS)])
def test_events_and_their_check_fit(kind: Kind, events: int) -> None:
    server, headers = initialized()
    call = request("count", kind=kind)
    answer = answer_to(server, headers, call)
    assert answer.body.count(b"\n\n") == events
    call.check(ID, answer)


@pytest.mark.parametrize("stateless", [True, False])
def test_servers_that_answer_with_event_streams_only(*, stateless: bool) -> None:
    server = Server(stateless=stateless, in_events=True)
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}
    session = whole(server.answer(post(initialize, {}))).header(b"mcp-session-id")
    assert (session is None) == stateless
    headers = {} if session is None else {"mcp-session-id": session.decode()}
    answer = whole(server.answer(post({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, headers)))
    assert answer.header(b"content-type") == b"text/event-stream"
    assert orjson.loads(answer.body.removeprefix(b"event: message\ndata: "))["id"] == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b'"progress":50,', b'"progress":51,', id="another event"),
        pytest.param(b'"progressToken":"100000007","total":100,"progress":7,', b'"progress":7,', id="no token"),
        pytest.param(b'"text":"100000007:0"', b'"text":"100000008:0"', id="another text"),
        pytest.param(b'"id":100000007', b'"id":100000008', id="another id"),
    ],
)
def test_a_wrong_event_is_seen(before: bytes, after: bytes) -> None:
    server, headers = initialized()
    call = request("count", kind="events")
    answer = answer_to(server, headers, call)
    assert before in answer.body
    with pytest.raises(BenchError, match="wrong answer"):
        call.check(ID, Message(answer.head, answer.body.replace(before, after)))


def test_a_missing_event_is_seen() -> None:
    server, headers = initialized()
    call = request("count", kind="events")
    answer = answer_to(server, headers, call)
    without = b"".join(event + b"\n\n" for event in answer.body.split(b"\n\n")[1:-1])
    for body in (without, b""):
        with pytest.raises(BenchError, match="wrong answer"):
            call.check(ID, Message(answer.head, body))


def test_a_list_has_all_names_and_no_others() -> None:
    server = Server(5, stateless=True)
    request(*tool_names(5), kind="list").check(ID, answer_to(server, {}, request(kind="list")))
    for names in (tool_names(4), tool_names(6)):
        with pytest.raises(BenchError, match="wrong answer"):
            request(*names, kind="list").check(ID, answer_to(server, {}, request(kind="list")))


def test_a_list_has_the_schemas_of_its_tools() -> None:
    call, answer = request(*tool_names(2), kind="list"), answer_to(Server(stateless=True), {}, request(kind="list"))
    assert b'"maximum":100' in answer.body
    for changed in (b'"maximum":10', b'"maximum":100.5'):
        with pytest.raises(BenchError, match="wrong answer"):
            call.check(ID, Message(answer.head, answer.body.replace(b'"maximum":100', changed, 1)))


def test_the_upstream_counts_requests_of_all_its_servers() -> None:
    both: Counter[str] = Counter()
    one, other = Server(stateless=True, requests=both), Server(stateless=True, requests=both)
    for server, kind in ((one, "list"), (other, "list"), (other, "echo")):
        answer_to(server, {}, request(kind=kind))  # type: ignore[arg-type]
    answer = whole(one.answer(Message(b"GET /requests HTTP/1.1", b"")))
    assert orjson.loads(answer.body) == both == {"tools/list": 2, "tools/call": 1}


def test_only_one_server_says_that_it_has_resources() -> None:
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    initialize = post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, {})
    told = [orjson.loads(whole(server.answer(initialize)).body) for server in (Server(), Server(resources=True))]
    assert [each["result"]["capabilities"] for each in told] == [{"tools": {}}, {"tools": {}, "resources": {}}]


def test_a_stateless_server_gives_no_session_and_wants_none() -> None:
    server = Server(stateless=True)
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = whole(server.answer(post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, {})))
    assert answer.status == 200
    assert answer.header(b"mcp-session-id") is None
    call = request()
    call.check(ID, answer_to(server, {}, call))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_an_answer_may_be_the_only_message_of_a_stream(ending: str) -> None:
    server, headers = initialized()
    call = request()
    answer = answer_to(server, headers, call)
    opening = f"id: 1{ending}data: {ending}{ending}event: message{ending}data: ".encode()
    stream = Message(answer.head, opening + answer.body + f"{ending}{ending}".encode())
    call.check(ID, stream)
    with pytest.raises(BenchError, match="a wrong answer"):
        call.check(ID + 1, stream)
    with pytest.raises(BenchError, match="a wrong answer"):
        call.check(ID, Message(answer.head, b"data: \n\n"))
