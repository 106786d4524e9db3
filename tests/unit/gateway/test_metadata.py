"""What is told of a request in the dynamic metadata `mcp_proxy`: of every request, rejected ones included."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.gateway.decision import Ask, FanOut, Forward, NeedSession, NeedToken, Preview, Reply, Stream
from mcp_extproc.gateway.relay.identifiers import Cursor, Position
from mcp_extproc.mcp.names import MAX_NAME_CHARS
from tests.unit.gateway.support import EVERYTHING, NOW, Rig, as_reply, config, head, message, opened, upstream

RIG = Rig(config({"a": {"prefix": "alpha"}, "b": {}}))
RICH = Rig(RIG.config, {name: upstream(name, capabilities=EVERYTHING) for name in "ab"})


def facts(body: bytes, in_session: bool = True, rig: Rig = RIG) -> dict[str, Any]:
    decision = rig.decide(body, None if in_session else head())
    if isinstance(decision, FanOut):
        decision = decision.merge([], NOW)
    assert not isinstance(decision, NeedSession | NeedToken | FanOut | Ask)
    return decision.facts.metadata()


SESSION = {
    "session": RIG.reply(message("ping")).facts.session,
    "protocol_version": "2025-11-25",
    "client": "agent/1",
}
REQUEST = {"id": 7, "id_json": "7"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (message("ping"), {**REQUEST, **SESSION, "method": "ping"}),
        (message("tools/list"), {**REQUEST, **SESSION, "method": "tools/list"}),
        (
            # `params.name` is what the client sent, `tool` what the server is asked for.
            message("tools/call", {"name": "alpha__x", "arguments": {"password": "hidden"}}),
            {**REQUEST, **SESSION, "method": "tools/call", "params": {"name": "alpha__x"}, "server": "a", "tool": "x"},
        ),
        (message("notifications/initialized", id=None), {**SESSION, "method": "notifications/initialized"}),
        (
            message("notifications/cancelled", {"requestId": 1}, id=None),
            {**SESSION, "method": "notifications/cancelled"},
        ),
        (b'{"jsonrpc":"2.0","id":7,"result":{}}', {**REQUEST, **SESSION}),
        (
            message("prompts/get", {"name": "alpha__p", "arguments": {"password": "hidden"}}),
            {
                **REQUEST,
                **SESSION,
                "method": "prompts/get",
                "params": {"name": "alpha__p"},
                "server": "a",
                "prompt": "p",
            },
        ),
        (
            message("resources/read", {"uri": "alpha+x:y"}),
            {**REQUEST, **SESSION, "method": "resources/read", "params": {"uri": "alpha+x:y"}, "server": "a"},
        ),
        (
            message(
                "completion/complete", {"ref": {"type": "ref/resource", "uri": "alpha+x:{y}"}, "argument": "hidden"}
            ),
            {**REQUEST, **SESSION, "method": "completion/complete", "params": {"uri": "alpha+x:{y}"}, "server": "a"},
        ),
        (message("logging/setLevel", {"level": "info"}), {**REQUEST, **SESSION, "method": "logging/setLevel"}),
    ],
)
def test_facts_of_what_is_served(body: bytes, expected: dict[str, Any]) -> None:
    assert facts(body, rig=RICH) == {**expected, "session": RICH.session}


@pytest.mark.parametrize(
    ("body", "expected", "code", "reason"),
    [
        (
            message("tools/call", {"name": "alpha"}),
            {**REQUEST, **SESSION, "method": "tools/call", "params": {"name": "alpha"}},
            -32602,
            "unknown_tool",
        ),
        (message("tools/call", {}), {**REQUEST, **SESSION, "method": "tools/call"}, -32602, "invalid_params"),
        (
            message("resources/read", {"uri": "file:///x"}),
            {**REQUEST, **SESSION, "method": "resources/read", "params": {"uri": "file:///x"}},
            -32002,
            "unknown_resource",
        ),
        (
            message("prompts/get", {"name": "nobody__x"}),
            {**REQUEST, **SESSION, "method": "prompts/get", "params": {"name": "nobody__x"}},
            -32602,
            "unknown_prompt",
        ),
        (
            message("resources/read", {"uri": "alpha+file:///x"}),
            {**REQUEST, **SESSION, "method": "resources/read", "params": {"uri": "alpha+file:///x"}, "server": "a"},
            -32601,
            "not_offered",
        ),
        (
            message("completion/complete", {"ref": {"type": "ref/prompt", "name": "alpha__p"}}),
            {**REQUEST, **SESSION, "method": "completion/complete", "params": {"name": "alpha__p"}, "server": "a"},
            -32602,
            "unknown_prompt",
        ),
        (
            message("tasks/get", {"taskId": "x"}),
            {**REQUEST, **SESSION, "method": "tasks/get"},
            -32601,
            "unknown_method",
        ),
        (
            message("tools/list", {"cursor": "x"}),
            {**REQUEST, **SESSION, "method": "tools/list"},
            -32602,
            "invalid_cursor",
        ),
        (b"{", {}, -32700, "parse_error"),
        (b"[]", {}, -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","method":"b"}', {}, -32600, "duplicate_member"),
    ],
)
def test_facts_of_what_is_rejected(body: bytes, expected: dict[str, Any], code: int, reason: str) -> None:
    assert facts(body) == {**expected, "error_code": code, "error_reason": reason}


@pytest.mark.parametrize(
    ("body", "method", "reason"),
    [
        (message("tools/call", {"name": "a__x"}), "tools/call", "session_missing"),
        (message("server/discover"), "server/discover", "unsupported_protocol_version"),
        (message("initialize", {}), "initialize", "invalid_params"),
    ],
)
def test_facts_of_what_is_rejected_without_a_session(body: bytes, method: str, reason: str) -> None:
    found = facts(body, in_session=False)
    assert (found["method"], found["id"], found["error_reason"]) == (method, 7, reason)
    assert "session" not in found


@pytest.mark.parametrize(
    ("id", "fact"),
    [
        ("0", 0),
        ("-5", -5),
        ("999999999999999", 999999999999999),
        # Metadata numbers are doubles: longer ones are told as text, digit for digit.
        ("9007199254740993", "9007199254740993"),
        ('"x"', "x"),
        ('"7"', "7"),
        ('"\\u0061"', "a"),
        ('""', ""),
    ],
)
def test_ids(id: str, fact: int | str) -> None:
    """With their type; `0` and `"0"` are two."""
    found = facts(f'{{"jsonrpc":"2.0","id":{id},"method":"ping"}}'.encode())
    assert (found["id"], type(found["id"]), found["id_json"]) == (fact, type(fact), id)


def test_nothing_longer_than_a_name_is_told() -> None:
    found = facts(message("tools/call", {"name": "x" * 10**6, "uri": "y" * 10**6}))
    assert [len(text) for text in found["params"].values()] == [MAX_NAME_CHARS + 1] * 2


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/read", {"uri": "x" * 10**5}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x" * 10**5}}),
    ],
)
def test_nor_anything_longer_of_other_requests(method: str, params: dict[str, Any]) -> None:
    [text] = facts(message(method, params))["params"].values()
    assert len(text) == MAX_NAME_CHARS + 1


def test_facts_of_a_stream() -> None:
    assert RIG.stream().facts.metadata() == SESSION


def test_facts_of_initialize_name_the_client_and_the_new_session() -> None:
    params = {"protocolVersion": "2025-06-18", "clientInfo": {"name": "agent", "version": "2"}}
    decision = RIG.fan_out(message("initialize", params), head())
    expected = {**REQUEST, "method": "initialize", "protocol_version": "2025-06-18", "client": "agent/2"}
    reply = as_reply(decision.merge([opened("a"), opened("b")], NOW))
    assert {name: value for name, value in reply.facts.metadata().items() if name != "session"} == expected
    assert reply.facts.metadata()["session"] != dict(reply.headers)["mcp-session-id"]


def test_facts_of_requests_refused_by_their_head() -> None:
    reply = RIG.gateway.admit(head("PUT"), NOW)
    assert isinstance(reply, Reply)
    assert reply.facts.metadata() == {"error_code": -32600, "error_reason": "http_method"}


def test_facts_of_a_repair() -> None:
    decision = RIG.gateway.repair("a", head(mcp_session_id="lost", x_envoy_attempt_count="2"))
    assert isinstance(decision, NeedSession)
    forward = decision.resume(opened("a").session)
    assert isinstance(forward, Forward)
    assert forward.facts.metadata() == {"server": "a", "repair": "session"}


@pytest.mark.parametrize("params", [{"protocolVersion": "2025-06-18"}, {}])
def test_initialize_within_a_session_has_its_facts(params: dict[str, Any]) -> None:
    """For policies by session, and for the log of those that are refused."""
    body = message("initialize", params)
    shown = RIG.gateway.preview(RIG.head(), body, NOW)
    assert isinstance(shown, Preview)
    assert shown.facts.metadata().items() >= SESSION.items()
    if not params:
        assert RIG.reply(body).facts.session == SESSION["session"]


def test_a_stream_that_can_not_be_resumed_has_its_facts() -> None:
    view = RIG.view
    gone = RIG.gateway.identifiers.event_id(view, Position("tools/call", (Cursor("gone", 1, "e"),)))
    reply = RIG.get(last_event_id=gone)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.facts.resumes) == (405, "tools/call")


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (("tools/call", "a"), {"resumes": "tools/call", "server": "a"}),
        (("tools/call", "gone"), {"resumes": "tools/call"}),
        (("", "a"), {}),
        ("none of ours", {}),
        (None, {}),
    ],
)
def test_policies_are_told_what_a_stream_resumes(last: str | tuple[str, str] | None, told: dict[str, Any]) -> None:
    """As the log is."""
    if isinstance(last, tuple):
        method, server = last
        last = RIG.gateway.identifiers.event_id(RIG.view, Position(method, (Cursor(server, 1, "e"),)))
    head = RIG.head("GET", accept="text/event-stream", last_event_id=last)
    shown = RIG.gateway.preview_head(head, NOW)
    assert isinstance(shown, Preview)
    assert shown.facts.metadata() == {**SESSION, **told}
    assert dict(shown.set_headers).get("x-mcp-server") == told.get("server")
    decided = RIG.gateway.admit(head, NOW)
    assert isinstance(decided, Stream | Reply)
    assert decided.facts.metadata().items() >= told.items()


@pytest.mark.parametrize(
    ("body", "server"),
    [
        (b'{"jsonrpc":"2.0","id":REQUEST,"result":{}}', "b"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', None),
        (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":PROGRESS}}', "b"),
        (message("notifications/progress", {"progressToken": 1}, id=None), None),
        (message("notifications/progress", id=None), None),
        (message("notifications/initialized", id=None), None),
    ],
)
def test_policies_are_told_whose_a_message_without_an_answer_is(body: bytes, server: str | None) -> None:
    for purpose in ("request", "progress"):
        body = body.replace(purpose.upper().encode(), RIG.own(purpose, "b", b"1"))
    shown = RIG.gateway.preview(RIG.head(), body, NOW)
    assert isinstance(shown, Preview)
    assert shown.facts.server == server
    assert facts(body).get("server") == server
