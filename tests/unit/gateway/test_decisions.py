"""One row for each kind of request: what is done with it, and what it is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.decision import CloseLeg, Decision, FanOut, Forward, ListLeg, NotifyLeg, OpenLeg, Reply
from tests.unit.gateway.support import NOW, Rig, as_reply, config, head, message
from tests.unit.mcp.strategies import PROPERTY, json_texts

RIG = Rig()
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}


def legs(decision: Decision) -> list[type]:
    return [type(leg) for leg in decision.legs] if isinstance(decision, FanOut) else []


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (message("tools/list"), [ListLeg, ListLeg]),
        (message("tools/list", {}), [ListLeg, ListLeg]),
        (message("notifications/cancelled", {"requestId": 3}, id=None), [NotifyLeg, NotifyLeg]),
    ],
)
def test_what_every_server_of_the_session_is_asked(body: bytes, asked: list[type]) -> None:
    assert legs(RIG.decide(body)) == asked


def test_initialize_asks_every_server() -> None:
    assert legs(RIG.decide(message("initialize", INITIALIZE), head())) == [OpenLeg, OpenLeg]


def test_initialize_within_a_session_opens_another() -> None:
    assert legs(RIG.decide(message("initialize", INITIALIZE), RIG.head(mcp_session_id="anything"))) == [
        OpenLeg,
        OpenLeg,
    ]


def test_delete_ends_the_session_with_every_server() -> None:
    """E7."""
    rig = Rig()
    assert legs(rig.gateway.admit(rig.head("DELETE"), NOW) or Reply(0, b"")) == [CloseLeg, CloseLeg]


def test_a_call_goes_to_its_server() -> None:
    decision = RIG.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, Forward)
    assert decision.server == "b"


@pytest.mark.parametrize(
    "body",
    [
        message("notifications/initialized", id=None),
        message("notifications/initialized", {}, id=None),
        # E5: unknown notifications, and answers to what was never asked.
        message("notifications/progress", {"progressToken": 1, "progress": 1}, id=None),
        message("notifications/whatever", id=None),
        message("tools/call", {"name": "a__x"}, id=None),
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":"no"}}',
    ],
)
def test_what_gets_202_and_nothing_else(body: bytes) -> None:
    """S2, E34: without a single byte of body."""
    reply = RIG.reply(body)
    assert (reply.status, reply.body, reply.headers) == (202, b"", ())


# (body, JSON-RPC error code or None for a result, what the message has to name)
ANSWERED: list[tuple[bytes, int | None, str]] = [
    (message("ping"), None, ""),
    (message("ping", {"_meta": {"x": 1}}), None, ""),
    (message("tools/call", {"name": "a__"}), -32602, "a__"),
    (message("tools/call", {"name": "nobody__x"}), -32602, "nobody__x"),
    (message("tools/call", {"name": "x"}), -32602, "x"),
    (message("tools/call", {"name": ""}), -32602, ""),
    (message("tools/call", {"name": 'a\r\n"\0'}), -32602, 'a\r\n"\0'),
    (message("tools/call", {"name": "a__" + "x" * 1022}), -32602, "a__xxx"),
    (message("tools/call", {}), -32602, "params.name"),
    (message("tools/call"), -32602, "params.name"),
    (message("tools/call", {"name": 1}), -32602, "params.name"),
    (message("tools/call", {"name": ["a__x"]}), -32602, "params.name"),
    (message("tools/list", {"cursor": "zzz"}), -32602, "cursor"),
    (message("tools/list", {"cursor": ""}), -32602, "cursor"),
    # E5, E32, and what the gateway does not serve yet.
    (message("unknown"), -32601, "unknown"),
    (message("TOOLS/LIST"), -32601, "TOOLS/LIST"),
    (message("server/discover"), -32601, "server/discover"),
    (message("notifications/initialized"), -32601, "notifications/initialized"),
    (message("tasks/get", {"taskId": "1"}), -32601, "tasks/get"),
    (message("prompts/list"), -32601, "prompts/list"),
    (message("resources/read", {"uri": "x:"}), -32601, "resources/read"),
    (message("logging/setLevel", {"level": "info"}), -32601, "logging/setLevel"),
]


@pytest.mark.parametrize(("body", "code", "named"), ANSWERED, ids=lambda value: str(value)[:90])
def test_answers_to_requests_that_were_read(body: bytes, code: int | None, named: str) -> None:
    """E26: at 200, because anything else ends the session in some clients (N1, N2)."""
    reply = RIG.reply(body)
    answer = json.loads(reply.body)
    assert (reply.status, answer["id"], answer["jsonrpc"]) == (200, 7, "2.0")
    if code is None:
        assert answer["result"] == {}
    else:
        assert answer["error"]["code"] == code
        assert named in answer["error"]["message"]


def test_no_more_than_a_little_of_a_name_is_repeated() -> None:
    assert len(RIG.reply(message("tools/call", {"name": "x" * 1_000_000})).body) < 500


@pytest.mark.parametrize("id", ["0", '"0"', "9007199254740993", "-5", '"\\u0061"', '""', "1" * 100])
@pytest.mark.parametrize("method", ["ping", "unknown", "tools/call"])
def test_ids_are_echoed_digit_for_digit(id: str, method: str) -> None:
    """E4."""
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}'.encode()
    assert RIG.reply(body).body.startswith(f'{{"jsonrpc":"2.0","id":{id},'.encode())


@pytest.mark.parametrize(
    "params", [None, {}, {"protocolVersion": 1}, {"protocolVersion": None}, {"protocolversion": "x"}]
)
def test_initialize_without_a_version(params: Any) -> None:
    """E9: and no session id."""
    reply = RIG.reply(message("initialize", params), head())
    assert json.loads(reply.body)["error"]["code"] in (-32602, -32600)
    assert "mcp-session-id" not in dict(reply.headers)


def test_initialize_with_capabilities_that_are_no_object() -> None:
    reply = RIG.reply(message("initialize", {**INITIALIZE, "capabilities": []}), head())
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (200, -32602)


def test_initialize_as_a_notification() -> None:
    reply = RIG.reply(message("initialize", INITIALIZE, id=None), head())
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize(
    ("body", "code", "id"),
    [
        (b"{", -32700, None),
        (b"\xef\xbb\xbf" + message("ping"), -32700, None),
        (message("ping", {"a": float("nan")}), -32700, None),
        (b"[" * 500 + b"]" * 500, -32700, None),
        (b"[]", -32600, None),
        (b"[" + message("ping") + b"]", -32600, None),
        (message("ping", [1]), -32600, 7),
        (message("ping", id=1.5), -32600, None),
        (message("ping", jsonrpc="1.0"), -32600, 7),
    ],
)
def test_what_is_no_message_gets_400_in_or_out_of_a_session(body: bytes, code: int, id: int | None) -> None:
    """S4, S5, E1, E2: judged before the session is."""
    for request in (RIG.head(), head(), RIG.head(mcp_session_id="unknown")):
        reply = RIG.reply(body, request)
        answer = json.loads(reply.body)
        assert (reply.status, answer["error"]["code"], answer.get("id")) == (400, code, id)


def test_the_depth_of_the_configuration_counts() -> None:
    rig = Rig(config(limits={"json_depth": 8}))
    assert rig.reply(message("ping", {"a": json.loads("[" * 6 + "]" * 6)})).status == 200
    assert rig.reply(message("ping", {"a": json.loads("[" * 7 + "]" * 7)})).status == 400


methods_ = st.one_of(
    st.sampled_from(["initialize", "ping", "tools/list", "tools/call", "notifications/cancelled", "server/discover"]),
    st.text(max_size=5),
)


@PROPERTY
@given(methods_, json_texts, st.one_of(st.none(), json_texts), st.booleans())
def test_any_message_gets_a_decision(method: str, params: str, id: str | None, in_session: bool) -> None:
    """Whatever the parameters: an answer at a status that is ours to give, and never an exception."""
    id_member = "" if id is None else f'"id":{id},'
    body = f'{{"jsonrpc":"2.0",{id_member}"method":{json.dumps(method)},"params":{params}}}'.encode()
    decision = RIG.decide(body, None if in_session else head())
    if isinstance(decision, Reply):
        assert decision.status in (200, 202, 400)
        assert json.loads(decision.body) if decision.status != 202 else decision.body == b""


@PROPERTY
@given(st.text(max_size=80))
def test_any_session_id_is_answered(token: str) -> None:
    for verb in ("POST", "DELETE"):
        request = head(verb, mcp_session_id=token)
        decision = RIG.gateway.admit(request, NOW) or RIG.gateway.decide(request, message("ping"), NOW)
        assert as_reply(decision).status == 404
