"""The question, and what answers to it are worth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.gateway.vetting import question
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.envelope import Response


def answer(members: str) -> Verdict:
    message = envelope.read(b'{"jsonrpc":"2.0","id":"q",%b}' % members.encode())
    assert isinstance(message, Response)
    return question.verdict(message)


def test_the_question_is_a_form_with_nothing_to_fill_in() -> None:
    asked: dict[str, Any] = json.loads(question.elicitation("q", "github", "delete", b'{"a":1}'))
    message = asked["params"].pop("message")
    assert asked == {
        "jsonrpc": "2.0",
        "id": "q",
        "method": "elicitation/create",
        "params": {"requestedSchema": {"type": "object", "properties": {}}},
    }
    assert message.startswith("This call waits for your consent. The gateway asks, not the server.")
    assert message.endswith('\nServer: github\nTool: "delete"\nArguments:\n  "a": 1')


def test_a_question_can_be_taken_back() -> None:
    taken = json.loads(question.withdrawal("q", "because"))
    assert taken == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": "q", "reason": "because"},
    }


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ('"result":{"action":"accept"}', Verdict.GIVEN),
        ('"result":{"action":"accept","content":{"a":1},"_meta":{}}', Verdict.GIVEN),
        ('"result":{"action":"decline"}', Verdict.DECLINED),
        ('"result":{"action":"cancel","content":null}', Verdict.CANCELLED),
        ('"error":{"code":-32601,"message":"no"}', Verdict.FAILED),
        ('"result":{}', Verdict.INVALID),
        ('"result":{"action":"ACCEPT"}', Verdict.INVALID),
        ('"result":{"Action":"accept"}', Verdict.INVALID),
        ('"result":{"action":true}', Verdict.INVALID),
        ('"result":{"action":["accept"]}', Verdict.INVALID),
        ('"result":"accept"', Verdict.INVALID),
        ('"result":["accept"]', Verdict.INVALID),
        ('"result":null', Verdict.INVALID),
        ('"result":{"action":"decline","action":"accept"}', Verdict.INVALID),
        ('"result":{"action":"accept","action":"decline"}', Verdict.INVALID),
    ],
)
def test_only_a_plain_accept_is_consent(members: str, verdict: Verdict) -> None:
    assert answer(members) is verdict
