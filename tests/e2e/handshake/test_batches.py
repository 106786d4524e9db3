"""JSON-RPC batches of sessions at 2025-03-26, through real Envoy: split, treated one by one, collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.config import load
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.gateway.decision import FanOut, Reply
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.facts import NOTHING
from mcp_extproc.gateway.legs import Answered, Failed
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests import batches
from mcp_extproc.mcp.sessions import Sealer, Session
from mcp_extproc.telemetry.counters import Counters
from tests.e2e.conftest import StartGateway
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.gateway import Answer, TestGateway
from tests.support.rawclient import body_message, headers_message, request_fields
from tests.support.scripted import ScriptedServer, answer, fixed, hang, raw
from tests.support.vetted import vetted_calls
from tests.support.waiting import PATIENCE, eventually


def _call(id: Any, name: str = "alpha__echo", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, **params}}


def _ping(id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "ping"}


INITIALIZE = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-03-26", "capabilities": {}},
}  # fmt: skip
TOLD = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
RESPONSE = {"jsonrpc": "2.0", "id": 1, "result": {}}


async def _send(gateway: TestGateway, session: str, *messages: Any, **headers: str) -> Answer:
    return await gateway.send(json.dumps(messages).encode(), mcp_session_id=session, **headers)


def _by_id(answered: Answer) -> dict[Any, Any]:
    assert (answered.status, answered.headers["content-type"]) == (200, "application/json"), answered.body
    messages = json.loads(answered.body)
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    found = {(type(m.get("id")).__name__, m.get("id")): m.get("result", m.get("error")) for m in messages}
    assert len(found) == len(messages), "each id is answered once"
    return found


def _events(answered: Answer) -> list[Any]:
    assert (answered.status, answered.headers["content-type"]) == (200, "text/event-stream"), answered.body
    return [json.loads(block.removeprefix(b"data: ")) for block in answered.body.removesuffix(b"\n\n").split(b"\n\n")]


async def test_each_request_is_answered_once(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Ids keep value and type; each call reaches its own server alone, notifications too; failures are answers."""
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        found = _by_id(await _send(gateway, session, _ping(1), _ping(2)))
        assert found == {("int", 1): {}, ("int", 2): {}}
        answered = await _send(
            gateway, session,
            _call(0), _call("0", "beta__echo", arguments={"n": 2**53 + 1}), TOLD, _ping(2**53 + 1), _call("x", "nobody__x"),
            {"jsonrpc": "2.0", "id": "list", "method": "tools/list"}, {"jsonrpc": "2.0", "id": 7, "method": "no/such"},
        )  # fmt: skip
        found = _by_id(answered)
        assert found["int", 0]["content"][0]["text"] == '["echo", null]'
        assert found["str", "0"]["content"][0]["text"] == '["echo", {"n": 9007199254740993}]'
        assert found["int", 2**53 + 1] == {}
        assert found["str", "x"]["code"] == -32602
        assert [tool["name"] for tool in found["str", "list"]["tools"]] == ["alpha__echo", "beta__echo"]
        assert found["int", 7]["code"] == -32601
        assert len(found) == 6
        for server in (alpha, beta):
            assert len(server.calls("tools/call")) == 1
            assert [r.message for r in server.calls("notifications/cancelled")] == [TOLD]
            assert not [r for r in server.received if r.body.startswith(b"[")]


async def test_notifications_only(start: StartGateway, alpha: ScriptedServer) -> None:
    """202 and no body, for responses too, and for both together."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        for messages in ([TOLD], [TOLD, TOLD], [RESPONSE], [RESPONSE, TOLD], [{**RESPONSE, "id": "x"}, RESPONSE]):
            answered = await _send(gateway, session, *messages)
            assert (answered.status, answered.body) == (202, b"")
        assert len(alpha.calls("notifications/cancelled")) == 4


async def test_batches_that_may_not_be(start: StartGateway, alpha: ScriptedServer) -> None:
    """400 with -32600, nothing of it done: no session, no call."""
    async with start({"alpha": alpha.url}, limits={"batch_messages": 3}) as gateway:
        old = await gateway.initialize("2025-03-26")
        newer = [await gateway.initialize(version) for version in ("2025-06-18", "2025-11-25")]
        before = len(alpha.received)
        rows: list[tuple[str, list[Any]]] = [
            (old, []),
            (old, [INITIALIZE]),
            (old, [_call(1), INITIALIZE]),
            (old, [INITIALIZE, TOLD]),
            (old, [{name: value for name, value in INITIALIZE.items() if name != "id"}]),
            (old, [_call(1), RESPONSE]),
            (old, [_call(id) for id in range(4)]),
            ("", [_call(1)]),
            ("", [INITIALIZE]),
            *((session, messages) for session in newer for messages in ([_ping(1), _ping(2)], [_call(1)], [TOLD])),
        ]
        for session, messages in rows:
            refused = await _send(gateway, session, *messages)
            assert (refused.status, refused.error["code"]) == (400, -32600), messages
            assert "mcp-session-id" not in refused.headers
            assert "id" not in refused.json
        for text in (b"[", b"[" + json.dumps(TOLD).encode() + b",]", b"[1]x", b"[\xff]"):
            refused = await gateway.send(text, mcp_session_id=old)
            assert (refused.status, refused.error["code"]) == (400, -32700)
        unknown = await _send(gateway, "unknown", _call(1))
        assert unknown.status == 404
        assert len(alpha.received) == before
        assert len(_by_id(await _send(gateway, old, *(_ping(id) for id in range(3))))) == 3


async def test_a_bad_message_does_not_spoil_the_others(start: StartGateway, alpha: ScriptedServer) -> None:
    """JSON-RPC 2.0 section 6: an error in its place, with its id where that could be read."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        doubled = '{"jsonrpc":"2.0","id":"d","method":"tools/call","params":{"name":"alpha__echo","name":"x"}}'
        bad = [
            1,
            [_call(9)],
            {},
            {"jsonrpc": "2.0", "id": None, "method": "ping"},
            {"jsonrpc": "2.0", "id": 4, "method": 1},
        ]
        texts = [json.dumps(_call("good")), doubled, *map(json.dumps, bad)]
        answered = await gateway.send(f" [{', '.join(texts)}] ".encode(), mcp_session_id=session)
        assert answered.status == 200
        messages = json.loads(answered.body)
        assert [message.get("id") for message in messages] == ["good", "d", None, None, None, None, 4]
        assert [message.get("error", {}).get("code") for message in messages] == [None] + [-32600] * 6
        assert "id" not in messages[2]
        assert len(alpha.calls("tools/call")) == 1


async def test_the_sessions_version_decides(start: StartGateway, alpha: ScriptedServer) -> None:
    """A header of another known version does not take batches away, nor an unknown one come with them."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        for version in ("2025-03-26", "2025-06-18", "2025-11-25"):
            assert len(_by_id(await _send(gateway, session, _ping(1), mcp_protocol_version=version))) == 1
        assert (await _send(gateway, session, _ping(1), mcp_protocol_version="x")).status == 400


async def test_every_message_passes_envoys_filters_by_itself(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """The access log shows each as a request of its own: where policies, limits and routes look at it."""
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        await _send(
            gateway, session, _call("one"), _call("two", "beta__echo"), _call("three", "nobody__x"), TOLD,
            x_mcp_server="beta", mcp_name="spoofed", x_custom="1", user_agent="agent/1",
        )  # fmt: skip
        for id, server in (("one", "alpha"), ("two", "beta")):
            logged = await gateway.logged(jsonrpc_request_id=f'"{id}"')
            assert logged["mcp.method.name"] == "tools/call"
            assert logged["mcp.server"] == server
            assert logged["upstream_cluster"] == f"mcp/{server}"
            assert logged["mcp.protocol.version"] == "2025-03-26"
            assert logged["status"] == 200
            assert logged["user_agent"] == "agent/1"
        refused = await gateway.logged(jsonrpc_request_id='"three"')
        assert refused["error.type"] == "unknown_tool"
        assert (await gateway.logged(mcp_method_name="notifications/cancelled"))["status"] == 202
        got = alpha.calls("tools/call")[0].headers
        assert got["mcp-name"] == "echo"
        assert got["mcp-session-id"] in alpha.sessions
        assert not {"x-mcp-server", "x-custom"} & set(got)


async def test_servers_that_fail_parts_of_a_batch(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Each failure is an error in its own place; a lost session is mended as for single calls."""
    beta.on["tools/call"] = raw(500, "text/html", "<h1>no</h1>")
    async with ScriptedServer("dead") as dead:
        async with start({"alpha": alpha.url, "beta": beta.url, "dead": dead.url}) as gateway:
            session = await gateway.initialize("2025-03-26")
            await dead.stop()
            alpha.sessions.clear()
            found = _by_id(await _send(
                gateway, session, _call(1), _call(2, "beta__echo"), _call(3, "dead__echo"), _call(4),
            ))  # fmt: skip
            assert [found["int", id].get("code") for id in (1, 2, 3, 4)] == [None, -32603, -32603, None]
            assert "'beta' answered HTTP 500" in found["int", 2]["message"]
            assert len(alpha.calls("initialize")) == 2


async def test_a_call_that_streams_inside_a_batch(start: StartGateway, alpha: ScriptedServer) -> None:
    """The response is taken from the stream; who asks the client back is told that nobody can be asked."""

    async def asks(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        events = [
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}},
            {"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {"messages": []}},
        ]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        told = await eventually(
            lambda: [r for r in alpha.received if b'"id":"q"' in r.body and b"error" in r.body],
            "an error for the server",
        )
        text = json.dumps(told[0].message["error"]["code"])
        done = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": [{"type": "text", "text": text}]}}
        await response.write(f"id: 5\ndata: {json.dumps(done)}\n\n".encode())
        return response

    alpha.on["tools/call"] = asks
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26", {"sampling": {}})
        answered = await _send(gateway, session, _call("s"), _ping(1))
        logged, responses = _events(answered)
        assert logged["method"] == "notifications/message"
        assert responses[0]["result"] == {"content": [{"type": "text", "text": "-32601"}]}


@pytest.mark.parametrize("in_events", [False, True], ids=["by itself", "with its request"])
async def test_what_a_server_tells_during_a_batched_call_reaches_the_client(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, in_events: bool
) -> None:
    """Progress and log messages, before the responses: in an event stream, as an array of responses has no place for them."""

    async def tells(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        progress = {"progressToken": message["params"]["_meta"]["progressToken"], "progress": 1}
        events = [
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress},
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": 1}},
            {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}},
        ]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return web.Response(headers={"content-type": "text/event-stream"}, text=text)

    alpha.on["tools/call"] = tells
    beta.begins_in_events = in_events
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        answered = await _send(gateway, session, _call(1, _meta={"progressToken": "t"}), _call(2, "beta__echo"))
        progress, logged, responses = _events(answered)
        assert progress["params"] == {"progressToken": "t", "progress": 1}
        assert logged["params"] == {"level": "error", "data": 1, "logger": "alpha"}
        assert [response["id"] for response in responses] == [1, 2]


async def test_messages_of_a_batch_run_together(start: StartGateway, alpha: ScriptedServer) -> None:
    """Two calls of which each waits for the other."""
    here = 0
    both = asyncio.Event()

    async def wait(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        nonlocal here
        here += 1
        if here == 2:
            both.set()
        await both.wait()
        return answer(message, result={"content": []})

    alpha.on["tools/call"] = wait
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        async with asyncio.timeout(PATIENCE):
            assert len(_by_id(await _send(gateway, session, _call(1), _call(2)))) == 2


async def test_a_client_that_leaves_ends_its_batch(start: StartGateway, alpha: ScriptedServer) -> None:
    gone = asyncio.Event()

    async def notice(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        try:
            return await hang(request, message)
        finally:
            gone.set()

    alpha.on["tools/call"] = notice
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        pending = asyncio.create_task(_send(gateway, session, _call(1)))
        await eventually(lambda: alpha.calls("tools/call"), "the call is under way")
        pending.cancel()
        async with asyncio.timeout(PATIENCE):
            await gone.wait()


async def test_ended_sessions_and_origins_hold_for_batches(start: StartGateway, alpha: ScriptedServer) -> None:
    """As they do for single messages."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        assert (await _send(gateway, session, _call(1), origin="https://evil.example.com")).status == 403
        assert (await _send(gateway, session, _call(1), accept="text/html")).status == 406
        await gateway.send(None, method="DELETE", mcp_session_id=session)
        assert (await _send(gateway, session, _call(1))).status == 404
        assert alpha.calls("tools/call") == []


async def test_uris_in_batches(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    alpha.capabilities = {"resources": {}}
    alpha.on["resources/read"] = fixed(result={"contents": [{"uri": "x:/1", "text": ""}]})
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize("2025-03-26")
        read = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "alpha+x:/1"}}
        found = _by_id(await _send(gateway, session, read))
        assert found["int", 1]["contents"][0]["uri"] == "alpha+x:/1"


# -- What Envoy's filters may answer to a part ------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "code"), [
    (b"Jwt is missing", -32603), (b"", -32603), (b"[]", -32603), (b'{"id":1}', -32603), (b"{\xff}", -32603),
    (b'{"jsonrpc":"2.0","id":"x","result":{}}', -32603), (b'{"jsonrpc":"2.0","id":null,"result":{}}', -32603),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', -32603), (b'{"jsonrpc":"2.0","id":1,"result":"\xff"}', -32603),
    (b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"Session not found"}}', -32600),
])  # fmt: skip
def test_an_answer_that_is_no_response_becomes_an_error(text: bytes, code: int) -> None:
    """A policy's 401 or 429, a session that ended meanwhile: the array stays JSON, and the request gets its answer."""
    decision = batches.split(
        RequestHead("POST", "/mcp", {}),
        [json.dumps(m).encode() for m in (_call(1), _ping(2), TOLD)],
        NOTHING,
    )
    assert isinstance(decision, FanOut)
    pong = b'{"jsonrpc":"2.0","id":2,"result":{}}'
    reply = decision.merge([Answered("", 401, text), Answered("", 200, pong), Failed("", "x", "y")], 0.0)
    assert isinstance(reply, Reply)
    first, second = json.loads(reply.body)
    assert (first["id"], first["error"]["code"]) == (1, code)
    assert second == {"jsonrpc": "2.0", "id": 2, "result": {}}


@pytest.mark.parametrize("id", [b"9007199254740993", b"12345678901234567890123", b'"\\u0041"', b"-0"])
def test_an_id_spelled_otherwise_is_the_same_id(id: bytes) -> None:
    """Servers write ids anew: ``"\\u0041"`` comes back as ``"A"``. The client gets it as it wrote it."""
    body = b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % id
    decision = batches.split(RequestHead("POST", "/mcp", {}), [body], NOTHING)
    assert isinstance(decision, FanOut)
    text = json.dumps({"jsonrpc": "2.0", "id": json.loads(id), "result": {}}).encode()
    reply = decision.merge([Answered("", 200, text)], 0.0)
    assert isinstance(reply, Reply)
    assert reply.body == b"[%b]" % text.replace(b'"id": ' + json.dumps(json.loads(id)).encode(), b'"id": ' + id)


async def test_envoy_waits_for_a_batch_as_long_as_for_its_calls(tmp_path: Path) -> None:
    """A call may last any time; the whole batch is one message of Envoy's, which is not to give up before."""
    file = tmp_path / "gateway.yaml"
    file.write_text('{"servers": {"alpha": {"url": "http://127.0.0.1:1/mcp"}}}')
    gateway = Gateway(load(file, {}).config, "s" * 32, SessionMemory())
    session = Session("/mcp", "", "2025-03-26", 10, client="", client_flags=frozenset(), upstreams={})
    token, _ = Sealer("s" * 32).seal(session)
    processor = Processor(gateway, FakeUpstreams(), FakeStreams(), vetted_calls(gateway), Counters(), lambda: 0.0)
    for body, seconds in ((json.dumps([_call(1)]), 3600), (json.dumps(_call(1) | {"method": "tools/list"}), 15)):
        exchange = processor.exchange()
        exchange.receive(headers_message(request_fields(mcp_session_id=token, host="localhost")).SerializeToString())
        answers = exchange.receive(body_message(body.encode()).SerializeToString())
        assert isinstance(answers, AsyncGenerator)
        first = pb.ProcessingResponse.FromString(await anext(answers))
        assert first.override_message_timeout.seconds == seconds
