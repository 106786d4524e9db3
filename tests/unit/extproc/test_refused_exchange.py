"""A server's HTTP error, as the worker is asked about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.contract import NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.refused_exchange import RefusedExchange
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.request import Subject
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.telemetry.counters import Counters
from tests.unit.gateway.support import NOW, SECRET, config

KEY = "k3y-9fA1-planted"
CONFIG = config({
    "a": {"credentials": {"header": {"name": "x-key", "value": KEY}, "forward": [{"name": "x-token"}]}},
    "b": {},
})  # fmt: skip


class Asked:
    """The exchange about one response."""

    def __init__(
        self, status: int, server: str = "a", *, has_body: bool = True, gateway: Gateway | None = None
    ) -> None:
        self.counters = Counters()
        gateway = gateway or Gateway(CONFIG, SECRET, SessionMemory())
        self.exchange = RefusedExchange(gateway, self.counters, lambda: NOW)
        head = pb.ProcessingRequest()
        head.response_headers.headers.headers.add(key=":status", raw_value=str(status).encode())
        facts = head.metadata_context.filter_metadata[NAMESPACE]
        facts["server"] = server
        facts["id_json"] = "7"
        head.response_headers.end_of_stream = not has_body
        [answer] = self.exchange.receive(head.SerializeToString())
        self.head = pb.ProcessingResponse.FromString(answer).response_headers.response

    def body(self, body: bytes) -> pb.ProcessingResponse:
        message = pb.ProcessingRequest()
        message.response_body.body = body
        message.response_body.end_of_stream = True
        [answer] = self.exchange.receive(message.SerializeToString())
        return pb.ProcessingResponse.FromString(answer)

    def error(self, body: bytes) -> tuple[dict[str, Any], str]:
        """What the client gets, and the reason in the access log."""
        answer = self.body(body)
        said = json.loads(answer.response_body.response.body_mutation.body)
        assert said["id"] == 7
        return said["error"], answer.dynamic_metadata.fields[NAMESPACE].struct_value.fields["error_reason"].string_value


def rpc(message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": message}}).encode()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("body", "own"),
    [
        (b"<html>", ""),
        (b"{}", ""),
        (rpc("expired"), " It says: expired"),
        (rpc(f"no such key: {KEY}"), " It says: no such key: [redacted]"),
    ],
)
def test_refused_credentials_are_named(status: int, body: bytes, own: str) -> None:
    asked = Asked(status)
    keys = "credentials.header and credentials.forward"
    assert asked.error(body) == (
        {
            "code": -32603,
            "message": f"No answer: server 'a' answered HTTP {status}: it refuses the credentials in {keys}, look whether they"
            f" are still valid.{own}",
        },
        "credentials_refused",
    )
    assert asked.counters.snapshot()["mcp.credentials_refused{server=a}"] == 1


def test_none_are_configured() -> None:
    error, _ = Asked(401, "b").error(b"")
    assert error["message"].startswith("No answer: server 'b' answered HTTP 401: it wants credentials")


def test_without_a_body() -> None:
    """The head is all there is, and one is added to it."""
    head = Asked(401, has_body=False).head
    assert head.status == pb.CommonResponse.CONTINUE_AND_REPLACE
    assert json.loads(head.body_mutation.body)["error"]["message"].startswith(
        "No answer: server 'a' answered HTTP 401: it "
    )
    assert [field.header.raw_value for field in head.header_mutation.set_headers][:2] == [b"200", b"application/json"]
    assert Asked(500, has_body=False).head == pb.CommonResponse()


@pytest.mark.parametrize(("status", "is_good"), [(401, False), (403, True)])
def test_tokens_that_callers_ones_were_exchanged_for(status: int, is_good: bool) -> None:
    """A 401 says that a token is not good. Whose it was is not known here, and others that are as old may be no better."""
    gateway, alice = Gateway(CONFIG, SECRET, SessionMemory()), Subject("key of alice", "hers")
    tokens = gateway.tokens
    tokens.keep(alice, "a", Granted((("authorization", "Bearer hers"),), NOW - 60, NOW + 60))
    Asked(status, gateway=gateway)
    assert (tokens.current(alice, "a", NOW) is not None) == is_good


def test_other_errors_are_the_servers_own() -> None:
    assert Asked(500).error(rpc("broken")) == ({"code": -1, "message": "broken"}, "server_error")
    assert Asked(500).body(b"<html>").response_body.response.body_mutation.body == b""


@pytest.mark.parametrize("status", [401, 403])
def test_clients_that_log_in_at_the_server_have_its_own_answer(status: int) -> None:
    gateway = Gateway(config({"a": {"credentials": {"pass_through": True}}}), SECRET, SessionMemory())
    asked = Asked(status, gateway=gateway)
    assert asked.body(rpc("expired")).response_body.response == pb.CommonResponse()
    assert Asked(status, has_body=False, gateway=gateway).head == pb.CommonResponse()
    assert asked.counters.snapshot()["mcp.credentials_refused{server=a}"] == 1


def test_about_a_server_that_is_gone_nothing_is_said() -> None:
    assert Asked(401, "gone").body(rpc("expired")).response_body.response.body_mutation.body == b""
