"""Ids, responses and notifications of clients: what reaches which server, through real Envoy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.scripted import Received, ScriptedServer, answer, hang
from tests.support.waiting import PATIENCE, eventually

ID = b"9007199254740993"


def _body(id: bytes, method: bytes = b"tools/call", params: bytes = b'{"name":"alpha__echo"}') -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (id, method, params)


@pytest.mark.parametrize("streamed", [False, True])
async def test_ids_that_look_alike_in_flight_together(
    start: StartGateway, alpha: ScriptedServer, streamed: bool
) -> None:
    """A server that keeps its streams by ``str(id)``, as the Python SDK does, still answers each with its own."""
    ids = [b"0", b'"0"', b'"-1"', b"-1", b'" 0"', b'"mcp-extproc:0"', b'"0x"', ID, b'"%b"' % ID, b'""']
    streams: dict[str, asyncio.Future[dict[str, Any]]] = {}
    all_here = asyncio.Event()

    async def by_text(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        key = str(message["id"]).strip()
        mine = streams[key] = asyncio.get_running_loop().create_future()
        if len(alpha.calls("tools/call")) == len(ids):
            all_here.set()
        await all_here.wait()
        streams[key].set_result(message)
        found = await mine
        result = {"content": [{"type": "text", "text": found["params"]["arguments"]["sent"]}]}
        if not streamed:
            return answer(found, result=result)
        text = json.dumps({"jsonrpc": "2.0", "id": found["id"], "result": result})
        return web.Response(text=f"data: {text}\n\n", content_type="text/event-stream")

    alpha.on["tools/call"] = by_text
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        bodies = [
            _body(id, params=b'{"name":"alpha__echo","arguments":{"sent":%b}}' % json.dumps(id.decode()).encode())
            for id in ids
        ]
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(gateway.send(body, mcp_session_id=session) for body in bodies))
        for id, answered in zip(ids, answers, strict=True):
            text = answered.body.removeprefix(b"data: ")
            message = json.loads(text)
            assert json.dumps(message["id"]).encode() == id
            assert message["result"]["content"][0]["text"].encode() == id


async def test_ids_come_back_digit_for_digit(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """From a server that echoes them, from the gateway, and in errors of Envoy's; with nothing rounded on the way."""

    async def verbatim(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        body = alpha.received[-1].body
        sent = body[body.index(b'"id":') + 5 : body.index(b',"method"')]
        return web.Response(
            body=b'{"jsonrpc":"2.0","id":%b,"result":{"contents":[{"uri":"x:/1","n":%b}]}}' % (sent, ID),
            content_type="application/json",
        )

    alpha.capabilities = {"tools": {}, "resources": {}}
    alpha.on["tools/call"] = alpha.on["resources/read"] = verbatim
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        await beta.stop()
        for id in (ID, b'"%b"' % ID, b"0", b'"0"', b"-0", '"é\\n"'.encode(), b'"\\u0041"'):
            for body in (
                _body(id), _body(id, b"ping"), _body(id, b"no/such"), _body(id, b"tools/list", b"{}"),
                _body(id, b"resources/read", b'{"uri":"alpha+x:/1"}'), _body(id, params=b'{"name":"beta__echo"}'),
            ):  # fmt: skip
                answered = await gateway.send(body, mcp_session_id=session)
                assert answered.status == 200
                spelled = json.dumps(json.loads(id), ensure_ascii=False).encode()
                assert b'"id":%b,' % id in answered.body or b'"id":%b,' % spelled in answered.body, body


async def test_big_integers_pass_through_everything_that_is_rewritten(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """A renamed call, a renamed prompt, a rewritten URI: the numbers beside them keep every digit, both ways."""
    numbers = b'{"a":12345678901234567890,"b":1.10,"c":1e400,"d":-0}'
    alpha.capabilities = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}

    async def verbatim(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        result = b'{"contents":[{"uri":"x:/1","n":%b}],"content":[{"resource":{"uri":"x:/1"}}],"n":%b}' % (
            numbers,
            numbers,
        )
        return web.Response(body=b'{"jsonrpc":"2.0","id":1,"result":%b}' % result, content_type="application/json")

    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        for method, params, own in (
            (b"tools/call", b'{"arguments":%b,"name":"alpha__echo"}', b'{"arguments":%b,"name":"echo"}'),
            (b"prompts/get", b'{"name":"alpha__p","_meta":%b}', b'{"name":"p","_meta":%b}'),
            (b"resources/read", b'{"x":%b,"uri":"alpha+x:/1"}', b'{"x":%b,"uri":"x:/1"}'),
        ):
            alpha.on[method.decode()] = verbatim
            answered = await gateway.send(_body(b"1", method, params % numbers), mcp_session_id=session)
            assert alpha.calls(method.decode())[0].body == _body(b"1", method, own % numbers)
            assert b'"n":' + numbers in answered.body
            assert b"alpha+x:/1" in answered.body or method == b"prompts/get"


async def test_answers_to_nothing_are_dropped(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """202 without a body, and no server hears of them; an unknown request is an error at 200."""
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize("2025-11-25", {"sampling": {}, "roots": {"listChanged": True}})
        before = len(alpha.received) + len(beta.received)
        for id in (b"1", b"0", b'"1"', b'"x"', b'"%b"' % (b"A" * 64)):
            for outcome in (b'"result":{}', b'"error":{"code":-1,"message":""}'):
                answered = await gateway.send(b'{"jsonrpc":"2.0","id":%b,%b}' % (id, outcome), mcp_session_id=session)
                assert (answered.status, answered.body) == (202, b"")
        for method in (
            "notifications/unheard_of",
            "notifications/message",
            "notifications/tools/list_changed",
            "tools/call",
        ):
            answered = await gateway.send(
                json.dumps({"jsonrpc": "2.0", "method": method, "params": {"name": "alpha__echo"}}).encode(),
                mcp_session_id=session,
            )
            assert (answered.status, answered.body) == (202, b"")
        # A server's requests are not a client's to send.
        for method in ("no/such", "sampling/createMessage", "elicitation/create", "roots/list"):
            refused = await gateway.rpc(method, {}, id="same", mcp_session_id=session)
            assert (refused.status, refused.error["code"], refused.json["id"]) == (200, -32601, "same")
        assert len(alpha.received) + len(beta.received) == before


async def test_cancelled_reaches_the_server_that_is_busy(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """With the id that this server got, type and all; whatever the id, the client gets 202."""
    alpha.on["tools/call"] = hang
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        for id in (b"7", b'"7"', b'"call"'):
            before = len(alpha.calls("tools/call"))
            pending = asyncio.create_task(gateway.send(_body(id), mcp_session_id=session))
            call = await _arrived(alpha, "tools/call", before)
            await _cancel(gateway, session, b'{"requestId":%b,"reason":"n"}' % id)
            cancelled = alpha.calls("notifications/cancelled")[-1]
            assert cancelled.message["params"] == {"requestId": call.message["id"], "reason": "n"}
            assert cancelled.headers["mcp-session-id"] == call.headers["mcp-session-id"]
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        told = len(alpha.calls("notifications/cancelled"))
        for params in (b"{}", b'{"requestId":null}', b'{"requestId":1.5}', b'{"requestId":{}}', b'{"reason":"n"}'):
            await _cancel(gateway, session, params)
        assert len(alpha.calls("notifications/cancelled")) == told, "nothing that could be about a request"


async def _cancel(gateway: Any, session: str, params: bytes) -> None:
    body = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":%b}' % params
    answered = await gateway.send(body, mcp_session_id=session)
    assert (answered.status, answered.body) == (202, b"")


async def _arrived(server: ScriptedServer, method: str, before: int) -> Received:
    calls = await eventually(lambda: server.calls(method), f"one more {method}", until=lambda seen: len(seen) > before)
    return calls[-1]


async def test_roots_changes_are_told_to_servers_that_were_offered_roots(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    told = b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed","params":{"_meta":{"n":%b}}}' % ID
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        without = await gateway.initialize()
        assert (await gateway.send(told, mcp_session_id=without)).status == 202
        assert alpha.calls("notifications/roots/list_changed") == []
        session = await gateway.initialize("2025-06-18", {"roots": {"listChanged": True}})
        assert (await gateway.send(told, mcp_session_id=session)).status == 202
        for server in (alpha, beta):
            assert server.calls("initialize")[-1].message["params"]["capabilities"] == {"roots": {"listChanged": True}}
            assert [r.body for r in server.calls("notifications/roots/list_changed")] == [told]


async def test_ping_is_answered_with_every_server_dead(start: StartGateway, alpha: ScriptedServer) -> None:
    """A ping of the client's is answered here."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = len(alpha.received)
        await alpha.stop()
        assert (await gateway.rpc("ping", mcp_session_id=session)).result == {}
        assert len(alpha.received) == before


# -- Clients that mean harm -------------------------------------------------------------------------------------------------


async def _sealed_ids(gateway: Any, session: str, alpha: ScriptedServer) -> tuple[str, str]:
    """The id and the progress token under which a client sees a request of server alpha."""

    async def asks(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        question = {
            "jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage",
            "params": {"messages": [], "maxTokens": 1, "_meta": {"progressToken": 0}},
        }  # fmt: skip
        done = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in (question, done))
        return web.Response(text=text, content_type="text/event-stream")

    alpha.on["tools/call"] = asks
    body = (await gateway.call(session, "alpha__echo")).body
    question = json.loads(body.split(b"\n")[0].removeprefix(b"data: "))
    return question["id"], question["params"]["_meta"]["progressToken"]


@pytest.mark.parametrize("stateless", [False, True])
async def test_sealed_ids_open_for_their_session_and_purpose_only(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, stateless: bool
) -> None:
    """Another session's, a changed one, or a token used as an id: 202, and no server hears of it."""
    alpha.stateless = stateless
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        capabilities: dict[str, Any] = {"sampling": {}}
        mine = await gateway.initialize("2025-11-25", capabilities)
        theirs = await gateway.initialize("2025-11-25", capabilities)
        id, token = await _sealed_ids(gateway, mine, alpha)
        their_id, their_token = await _sealed_ids(gateway, theirs, alpha)
        assert len({id, token, their_id, their_token}) == 4
        before = len(alpha.received) + len(beta.received)
        flipped = id[:-4] + ("AAAA" if id[-4:] != "AAAA" else "BBBB")
        for wrong in (their_id, token, flipped, id + "=", id[:-1], id.lower(), f" {id}", "", "A" * 9000):
            for outcome in ('"result":{"content":{}}', '"error":{"code":-1,"message":""}'):
                forged = f'{{"jsonrpc":"2.0","id":{json.dumps(wrong)},{outcome}}}'.encode()
                answered = await gateway.send(forged, mcp_session_id=mine)
                assert answered.status in (202, 400), wrong
                assert answered.status == 202 or len(wrong) > 1000
        tokens: list[Any] = [their_token, id, 0, "0", None, {"a": 1}]
        for other in tokens:
            params = {"progressToken": other, "progress": 1}
            told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            assert (await gateway.send(json.dumps(told).encode(), mcp_session_id=mine)).status == 202
        assert len(alpha.received) + len(beta.received) == before
        # The right ones reach alpha, with its own id and token.
        right = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"n": 1}}).encode()
        assert (await gateway.send(right, mcp_session_id=mine)).status == 202
        assert alpha.received[-1].message == {"jsonrpc": "2.0", "id": 0, "result": {"n": 1}}
        told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}
        assert (await gateway.send(json.dumps(told).encode(), mcp_session_id=mine)).status == 202
        assert alpha.received[-1].message["params"] == {"progressToken": 0, "progress": 1}
        assert len(alpha.received) + len(beta.received) == before + 2


async def test_declared_capabilities_cannot_be_forged_in_a_header(start: StartGateway, alpha: ScriptedServer) -> None:
    """What a lost session is opened with again comes from the session's token, not from what a client writes."""
    forged = {"x_mcp_client_capabilities": '{"sampling":{},"roots":{}}'}
    async with start({"alpha": alpha.url}) as gateway:
        declarations: list[dict[str, Any]] = [{}, {"roots": {}}]
        for declared in declarations:
            session = await gateway.initialize("2025-11-25", declared)
            call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo"}}'
            assert (await gateway.send(call, mcp_session_id=session, **forged)).status == 200
            seen = alpha.calls("tools/call")[-1].headers.get("x-mcp-client-capabilities")
            assert json.loads(seen or "{}") == declared
            await alpha.restart()
            assert (await gateway.send(call, mcp_session_id=session, **forged)).result["content"]
            assert alpha.calls("initialize")[-1].message["params"]["capabilities"] == declared


DOUBLED: list[tuple[str, bytes]] = [
    ("tools/call", b'{"name":"alpha__echo","name":"beta__echo"}'),
    ("tools/call", b'{"name":"alpha__echo","n\\u0061me":"beta__echo"}'),
    ("tools/call", b'{"name":"alpha__echo","Name":"beta__echo"}'),
    ("tools/call", b'{"name":"alpha__echo","task":{},"task":{}}'),
    ("tools/call", b'{"name":"alpha__echo","Task":{}}'),
    ("tools/call", '{"name":"alpha__echo","ta\u017fk":{}}'.encode()),  # a long s
    ("tools/call", b'{"name":"alpha__echo","_meta":{},"_META":{}}'),
    ("tools/call", b'{"name":"alpha__echo","_meta":{"progressToken":1,"progressToken":2}}'),
    ("tools/call", b'{"name":"alpha__echo","_meta":{"progresstoken":2}}'),
    ("prompts/get", b'{"name":"alpha__p","name":"beta__p"}'),
    ("resources/read", b'{"uri":"alpha+x:/","uri":"beta+x:/"}'),
    ("resources/read", b'{"uri":"alpha+x:/","URI":"beta+x:/"}'),
    ("completion/complete", b'{"ref":{"type":"ref/prompt","name":"alpha__p","name":"beta__p"}}'),
    ("completion/complete", b'{"ref":{"type":"ref/prompt","type":"ref/resource","name":"alpha__p","uri":"beta+x:/"}}'),
    ("completion/complete", b'{"ref":{"type":"ref/prompt","name":"alpha__p","Name":"beta__p"}}'),
    ("completion/complete", b'{"ref":{"type":"ref/prompt","name":"alpha__p"},"Ref":{}}'),
]


async def test_members_with_two_meanings_are_refused(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Policy and server would each read another one of them: 400, and no server is asked; also of a server not yet opened."""
    await beta.stop()
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        await beta.restart()
        before = len(alpha.received) + len(beta.received)
        for first in (b"alpha", b"beta"):
            for method, text in DOUBLED:
                other = b"beta" if first == b"alpha" else b"alpha"
                params = text.replace(b"alpha", b"*").replace(b"beta", other).replace(b"*", first)
                refused = await gateway.send(_body(b"1", method.encode(), params), mcp_session_id=session)
                assert (refused.status, refused.error["code"]) == (400, -32600), params
                assert refused.json["id"] == 1
        assert len(alpha.received) + len(beta.received) == before


async def test_unknown_members_of_meta_pass(start: StartGateway, alpha: ScriptedServer) -> None:
    """Only what the gateway reads can have two meanings: other keys are between client and server (section 5)."""
    meta = b'{"Name":1,"URI":2,"task":3,"Level":4,"x.y/z":{"Ref":5,"ref":6},"progressToken":"t"}'
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        params = b'{"name":"%b","_meta":' + meta + b',"Extra":1}'
        answered = await gateway.send(_body(b"1", params=params.replace(b"%b", b"alpha__echo")), mcp_session_id=session)
        assert answered.result
        assert alpha.calls("tools/call")[0].body == _body(b"1", params=params.replace(b"%b", b"echo"))
