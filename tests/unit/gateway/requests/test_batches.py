"""Batches of 2025-03-26: each message goes through the front door by itself, and the answers come back as one array."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcp_extproc.gateway.decision import FanOut, Reply
from mcp_extproc.gateway.legs import Answered, BatchLeg, Failed, Outcome
from mcp_extproc.mcp.sse import SseParser
from tests.unit.gateway.support import LATEST, NOW, Rig, answer, as_reply, code, config, head, message

OLD = "2025-03-26"
RIG = Rig(version=OLD)
PING, CALL = (
    message("ping", id=1),
    b'{ "jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"a__x","n":1.50}}',
)
INITIALIZED = message("notifications/initialized", id=None)
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{}}'
RESPONSE = b'{"jsonrpc":"2.0","id":"x","result":{}}'


def batch(*bodies: bytes) -> bytes:
    return b" [%b ]\n" % b" , ".join(bodies)


def front_legs(decision: FanOut) -> list[BatchLeg]:
    legs = [leg for leg in decision.legs if isinstance(leg, BatchLeg)]
    assert len(legs) == len(decision.legs)
    return legs


def collected(bodies: Sequence[bytes], outcomes: Sequence[Outcome]) -> Reply:
    decision = RIG.fan_out(batch(*bodies))
    assert len(decision.legs) == len(outcomes)
    return as_reply(decision.merge(outcomes, NOW))


def test_each_message_goes_through_the_front_door_as_it_was_written() -> None:
    """No server is chosen here, so that what Envoy does with a request it does with each of these."""
    decision = RIG.fan_out(batch(PING, INITIALIZED, CALL))
    legs = front_legs(decision)
    assert [(leg.server, leg.body) for leg in legs] == [("", PING), ("", INITIALIZED), ("", CALL)]
    assert as_reply(decision.merge([Failed("", "x", "y")] * 3, NOW)).facts.batch == 3


def test_each_message_has_the_headers_of_the_batch() -> None:
    """Credentials among them: the front door judges each as it would have judged the whole."""
    sent = {"authorization": "Bearer x", "origin": "http://localhost", "x-api-key": "k", "mcp-protocol-version": OLD}
    hop = {
        "content-length": "999",
        "connection": "close",
        "transfer-encoding": "chunked",
        "te": "trailers",
        "x-request-id": "r",
    }
    [leg] = front_legs(RIG.fan_out(batch(PING), RIG.head(**sent, **hop)))
    kept = dict(leg.headers)
    assert sent.items() <= kept.items()
    assert kept["mcp-session-id"] == RIG.token
    assert (kept["content-type"], kept["accept"]) == ("application/json", "application/json, text/event-stream")
    assert not hop.keys() & kept.keys()
    assert kept["host"] == RIG.head().headers["host"]  # policies and virtual hosts go by it
    assert "Bearer" not in repr(leg)


@pytest.mark.parametrize("id", ["0", '"0"', '""', "-5", "9007199254740993", "1" * 100, '"\\u0041"'])
def test_ids_of_answers_stay_digit_for_digit(id: str) -> None:
    """And keep their type."""
    text = f'{{"jsonrpc":"2.0","id":{id},"result":{{}}}}'.encode()
    reply = collected([f'{{"jsonrpc":"2.0","id":{id},"method":"ping"}}'.encode()], [Answered("", 200, text)])
    assert reply.body == b"[" + text + b"]"


def test_a_refusal_without_an_id_gets_the_requests() -> None:
    """Alone, a client can tell which request it is about; in an array it could not."""
    refusal = b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"Session not found"}}'
    reply = collected([CALL], [Answered("", 404, refusal)])
    assert answer(reply) == [{**json.loads(refusal), "id": "1"}]


def test_answers_come_in_the_order_of_the_requests() -> None:
    """Each as it was given, and none for what wants none."""
    answers = [b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"jsonrpc":"2.0", "id":"1","result":{"n":1.50}}']
    outcomes = [Answered("", 200, answers[0]), Answered("", 202, b""), Answered("", 200, answers[1])]
    reply = collected([PING, INITIALIZED, CALL], outcomes)
    assert (reply.status, reply.headers) == (200, (("content-type", "application/json"),))
    assert reply.body == b"[%b,%b]" % tuple(answers)


def test_what_servers_told_comes_before_the_answers() -> None:
    """In an event stream, as an array of responses has no place for it."""
    told = (b'{"method":"x"}', b'{"method":"y"}')
    outcomes = [Answered("", 200, RESULT, told[:1]), Answered("", 200, RESULT.replace(b":1,", b':"1",'), told[1:])]
    reply = collected([PING, CALL], outcomes)
    assert (reply.status, reply.headers) == (200, (("content-type", "text/event-stream"),))
    *before, last = [event.data or b"" for event in SseParser(1 << 20).feed(reply.body)]
    assert before == [*told]
    assert [one["id"] for one in json.loads(last)] == [1, "1"]


@pytest.mark.parametrize("bodies", [[INITIALIZED], [INITIALIZED, INITIALIZED], [RESPONSE], [RESPONSE, INITIALIZED]])
def test_what_wants_no_answer_gets_202(bodies: list[bytes]) -> None:
    """Without a byte of body, whatever became of it."""
    for outcome in (
        Answered("", 202, b""),
        Failed("", "connect", "the gateway could not be asked"),
        Answered("", 400, b"{}"),
    ):
        reply = collected(bodies, [outcome] * len(bodies))
        assert (reply.status, reply.body, reply.headers) == (202, b"", ())


def test_a_message_that_is_none_is_answered_in_its_place() -> None:
    """JSON-RPC 2.0 section 6: it spoils no other, and is not sent on."""
    bad = [b"1", b'{"jsonrpc":"2.0","id":5,"method":1}', b'{"jsonrpc":"1.0","method":"x"}', b"[%b]" % PING]
    decision = RIG.fan_out(batch(bad[0], PING, *bad[1:]))
    assert [leg.body for leg in front_legs(decision)] == [PING]
    reply = as_reply(decision.merge([Answered("", 200, b'{"jsonrpc":"2.0","id":1,"result":{}}')], NOW))
    answers = answer(reply)
    assert [found.get("id") for found in answers] == [None, 1, 5, None, None]
    assert [found.get("error", {}).get("code") for found in answers] == [-32600, None, -32600, -32600, -32600]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Failed("", "connect", "the gateway could not be asked"), "the gateway could not be asked"),
        (Answered("", 202, b""), "HTTP 202"),
        (Answered("", 503, b"no healthy upstream"), "HTTP 503"),
        (Answered("", 200, b"\xff"), "HTTP 200"),
        (Answered("", 200, b"[]"), "HTTP 200"),
        # Somebody else's answer: a number is not the string that reads like it.
        (Answered("", 200, RESULT), "HTTP 200"),
        (Answered("", 200, b'{"jsonrpc":"2.0","id":"1"}'), "HTTP 200"),
        (Answered("", 200, b'{"jsonrpc":"2.0","id":"1","result":{},"error":{}}'), "HTTP 200"),
        (Answered("", 200, b'{"jsonrpc":"2.0","result":{}}'), "HTTP 200"),
        (Answered("", 200, b'{"jsonrpc":"2.0","id":"1","method":"ping","result":{}}'), "HTTP 200"),
    ],
)
def test_a_request_without_an_answer_gets_an_error_with_its_id(outcome: Outcome, why: str) -> None:
    """So that no client waits for ever."""
    reply = collected([PING, CALL], [Answered("", 200, RESULT), outcome])
    first, second = answer(reply)
    assert (first["result"], second["id"], second["error"]["code"]) == ({}, "1", -32603)
    assert why in second["error"]["message"]


INITIALIZE = message("initialize", {"protocolVersion": OLD})


def test_each_message_has_the_query_of_the_batch() -> None:
    """A policy may read it."""
    head = replace(RIG.head(), path="/mcp?team=a%2Fb")
    assert [leg.path for leg in front_legs(RIG.fan_out(batch(PING, CALL), head))] == ["/mcp?team=a%2Fb"] * 2
    reply = RIG.reply(batch(PING), replace(RIG.head(), path="/mcp?team=\xe9"))
    assert (reply.status, code(reply)) == (400, -32600)


def test_headers_that_are_there_twice_stay_so() -> None:
    """Envoy's policies match each value by itself."""
    one = RIG.head(x_team="a, b", x_other="a, b")
    [leg] = front_legs(RIG.fan_out(batch(PING), replace(one, repeated={"x-team": ("a", "b")})))
    assert [field for field in leg.headers if field[0].startswith("x-")] == [
        ("x-team", "a"),
        ("x-team", "b"),
        ("x-other", "a, b"),
    ]


def test_a_batch_with_a_header_that_can_not_go_on_as_it_is() -> None:
    """A policy on its exact bytes would not see them at the single messages."""
    assert front_legs(RIG.fan_out(batch(PING), RIG.head(x_team="caf\xc3\xa9")))
    reply = RIG.reply(batch(PING), RIG.head(x_team="caf\xe9"))
    assert (reply.status, code(reply), reply.facts.metadata()["error_reason"]) == (400, -32600, "invalid_batch")
    assert answer(reply)["error"]["message"].endswith("its header x-team is not UTF-8.")


@pytest.mark.parametrize(
    "bodies",
    [
        [INITIALIZE],
        [PING, INITIALIZE],
        [message("initialize", id=None)],
        [RESPONSE, PING],
        [PING, INITIALIZED, RESPONSE],
    ],
)
def test_batches_that_may_not_be(bodies: list[bytes]) -> None:
    """`initialize` is a part of none, and requests and responses are not mixed (MCP 2025-03-26)."""
    reply = RIG.reply(batch(*bodies))
    assert (reply.status, code(reply), reply.facts.metadata()["error_reason"]) == (400, -32600, "invalid_batch")
    assert "id" not in answer(reply)


def test_batches_are_bounded() -> None:
    rig = Rig(config(limits={"batch_messages": 3}), version=OLD)
    assert len(rig.fan_out(batch(*[PING] * 3)).legs) == 3
    for bodies in ([], [PING] * 4):
        reply = rig.reply(batch(*bodies))
        assert (reply.status, code(reply)) == (400, -32600)
        assert "1 to 3 messages" in answer(reply)["error"]["message"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[" + PING, -32700),
        (b"[" + PING + b",]", -32700),
        (b"[" + PING + b"]x", -32700),
        (b'["\xff"]', -32700),
        (batch(message("ping", {"a": json.loads("[" * 100 + "]" * 100)})), -32700),
    ],
)
def test_no_json(body: bytes, found: int) -> None:
    """400, as for a single message."""
    reply = RIG.reply(body)
    assert (reply.status, code(reply)) == (400, found)


@pytest.mark.parametrize("version", ["2025-06-18", LATEST])
def test_only_sessions_at_the_version_with_batches_may_send_them(version: str) -> None:
    """Whatever the header says. 2025-06-18 removed batches."""
    rig = Rig(version=version)
    for request in (rig.head(), rig.head(mcp_protocol_version=OLD)):
        reply = rig.reply(batch(PING), request)
        assert (reply.status, code(reply)) == (400, -32600)
        assert "batches are not accepted" in answer(reply)["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"mcp_session_id": None}, 400),
        ({"mcp_session_id": "unknown"}, 404),
        ({"mcp_protocol_version": "1900-01-01"}, 400),
    ],
)
def test_a_batch_needs_what_its_messages_need(headers: dict[str, Any], status: int) -> None:
    """A version that is served, and a session."""
    assert RIG.reply(batch(PING), RIG.head(**headers)).status == status


def test_a_batch_of_an_ended_session() -> None:
    """404, as for any message of it."""
    rig = Rig(version=OLD)
    rig.memory.end(rig.session)
    assert rig.reply(batch(PING)).status == 404


def test_a_batch_is_measured_as_a_whole() -> None:
    rig = Rig(config(limits={"request_bytes": 100}), version=OLD)
    assert rig.reply(batch(PING, PING, PING)).status == 413


def test_a_batch_without_a_session_is_no_way_to_open_one() -> None:
    """`initialize` comes alone (MCP 2025-03-26 lifecycle, Initialization)."""
    reply = RIG.reply(batch(INITIALIZE), head())
    assert (reply.status, code(reply)) == (400, -32600)
    assert "mcp-session-id" not in dict(reply.headers)
