"""A call that waits: who holds it, and what is no call."""

from __future__ import annotations

import json

import msgspec
import pytest

from mcp_extproc.gateway.legs import Answered, Failed
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests import vetted
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.gateway.vetting.told import Told
from mcp_extproc.mcp.errors import McpError
from tests.unit.gateway.support import HEADERS, Rig, message

TOLD = Told("session", "a", "delete", b'"a__delete"', 1.0)
BODY = message("tools/call", {"name": "delete", "arguments": {}}, "one")


def read(body: bytes = BODY, told: Told = TOLD) -> vetted.VettedCall:
    return vetted.read(RequestHead("POST", "/mcp?a=1", HEADERS), told, body, Rig().gateway.identifiers)


def test_it_goes_where_it_came_from() -> None:
    leg = read().run(None)
    assert (leg.path, json.loads(leg.body)["params"]["name"]) == ("/mcp?a=1", "a__delete")
    assert dict(leg.headers) == HEADERS


def test_who_holds_it() -> None:
    assert read().holder == "session"
    assert read(told=msgspec.structs.replace(TOLD, holder="alice")).holder == "alice"


def test_who_was_proven_is_said_once_more() -> None:
    said = (("x-who", "alice"), ("x-how", "certificate"))
    call = read(told=msgspec.structs.replace(TOLD, identity=said, mark=("x-mark", "1")))
    assert {*said, ("x-mark", "1")} <= set(call.run(None).headers)


@pytest.mark.parametrize("body", [b"", b"[]", message("notifications/initialized", id=None), b'{"id":1,"result":{}}'])
def test_what_is_no_call_is_refused(body: bytes) -> None:
    with pytest.raises(McpError):
        read(body=body)


def test_each_verdict_has_an_error_that_says_what_and_where() -> None:
    for verdict in set(Verdict) - {Verdict.GIVEN}:
        error = read().refusal(verdict)
        assert error.message.startswith("The call of delete on server 'a' did not run: ")
        assert (error.id, error.reason, error.data) == (b'"one"', f"consent_{verdict.value}", {"reason": error.reason})


def test_answers_are_the_calls() -> None:
    refusal = b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}'
    assert json.loads(read().answer(Answered("", 404, refusal)))["id"] == "one"
    assert json.loads(read().answer(Failed("", "connect", "gone")))["error"]["message"].startswith("No answer: gone")
