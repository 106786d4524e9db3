from __future__ import annotations

import json
from typing import Any

from mcp_extproc.bridge.conversation import Conversation
from mcp_extproc.bridge.messages import Incoming, Outgoing, read
from mcp_extproc.bridge.sharing import Private, Shared, without_capabilities
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.envelope import Request
from tests.unit.bridge.support import conversation


def message(**members: Any) -> Incoming:
    [found] = read(json.dumps({"jsonrpc": "2.0", **members}).encode()) or []
    return found


def from_client(**members: Any) -> envelope.Message:
    return envelope.parse(json.dumps({"jsonrpc": "2.0", **members}).encode(), 20, 1000)


def call(id: Any, token: Any = None) -> envelope.Message:
    meta = {} if token is None else {"_meta": {"progressToken": token, "other": 1}}
    return from_client(id=id, method="tools/call", params={"name": "x", **meta})


class Two:
    """Two sessions and their child."""

    def __init__(self) -> None:
        self.shared = Shared()
        self.one, self.other = conversation(1000), conversation(1000)
        self.shared.conversations += [self.one, self.other]

    def send(self, conversation: Conversation, sent: envelope.Message) -> Any:
        outgoing = self.shared.outgoing(conversation, sent)
        return None if outgoing is None else json.loads(outgoing.text)

    def receive(self, said: Incoming) -> list[Any]:
        return [
            json.loads(got) if isinstance(got, bytes) else (got[0], json.loads(got[1].text))
            for got in self.shared.incoming(said)
        ]


def test_equal_ids_and_tokens_stay_apart() -> None:
    two = Two()
    first, second = two.send(two.one, call(1, "t")), two.send(two.other, call(1, "t"))
    assert first["id"] != second["id"]
    assert first["params"]["_meta"]["other"] == 1
    tokens = [sent["params"]["_meta"]["progressToken"] for sent in (first, second)]
    assert tokens[0] != tokens[1]
    progress = message(method="notifications/progress", params={"progressToken": tokens[1], "progress": 1})
    [(conversation, told)] = two.receive(progress)
    assert (conversation, told["params"]) == (two.other, {"progressToken": "t", "progress": 1})
    [(conversation, told)] = two.receive(message(id=first["id"], result={"a": 1}))
    assert (conversation, told) == (two.one, {"jsonrpc": "2.0", "id": 1, "result": {"a": 1}})
    assert two.receive(message(id=first["id"], result={})) == []


def test_a_call_without_a_token_gets_none() -> None:
    two = Two()
    sent = two.send(two.one, call("x"))
    assert "_meta" not in sent["params"]
    assert (
        two.receive(message(method="notifications/progress", params={"progressToken": sent["id"], "progress": 1})) == []
    )


def test_a_cancellation_is_of_ones_own_calls() -> None:
    two = Two()
    sent = two.send(two.one, call(7))
    cancel = from_client(method="notifications/cancelled", params={"requestId": 7})
    assert two.send(two.other, cancel) is None
    assert two.send(two.one, cancel)["params"]["requestId"] == sent["id"]


def test_the_newest_call_of_an_id_is_cancelled() -> None:
    two = Two()
    two.send(two.one, call(7))
    two.shared.forget(two.one, b"7")
    again = two.send(two.one, call(7))
    cancel = from_client(method="notifications/cancelled", params={"requestId": 7})
    assert two.send(two.one, cancel)["params"]["requestId"] == again["id"]


def test_the_server_can_ask_nobody() -> None:
    two = Two()
    [refused] = two.receive(message(id=3, method="sampling/createMessage", params={}))
    assert (refused["id"], refused["error"]["code"]) == (3, -32601)
    [pong] = two.receive(message(id="p", method="ping"))
    assert pong == {"jsonrpc": "2.0", "id": "p", "result": {}}
    assert two.send(two.one, from_client(id=3, result={})) is None


def test_what_concerns_everybody_goes_to_everybody() -> None:
    two = Two()
    changed = message(method="notifications/tools/list_changed")
    assert [conversation for conversation, _ in two.receive(changed)] == [two.one, two.other]
    assert two.receive(message(method="notifications/message", params={"level": "info", "data": "mine"})) == []


def test_one_handshake() -> None:
    two = Two()
    initialize = from_client(
        id="i", method="initialize", params={"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}}
    )
    assert isinstance(initialize, Request)
    sent = json.loads(without_capabilities(initialize))
    assert (sent["id"], sent["params"]) == (0, {"protocolVersion": "2025-11-25", "capabilities": {}})
    initialized = from_client(method="notifications/initialized")
    assert two.send(two.one, initialized) == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert two.send(two.other, initialized) is None


def test_a_session_that_ends() -> None:
    two = Two()
    sent = two.send(two.one, call(1))
    two.shared.leave(two.one)
    assert two.receive(message(id=sent["id"], result={})) == []
    assert two.shared.conversations == [two.other]


def test_a_child_of_ones_own_gets_every_byte() -> None:
    own = conversation(1000)
    private = Private(own)
    body = b'{ "jsonrpc" : "2.0","id":1 , "method":"x","params":{"_meta":{"progressToken":1}}}'
    assert private.outgoing(own, envelope.parse(body, 9, 1000)) == Outgoing(body, b"1")
    said = message(id=1, result={})
    assert list(private.incoming(said)) == [(own, said)]
    assert private.owner(b"1") == (own, b"1")
