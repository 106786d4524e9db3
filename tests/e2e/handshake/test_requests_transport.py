"""HTTP statuses, headers and sessions of Streamable HTTP, through real Envoy."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.contract import BRIDGE_HEADER, HAS_FAILED
from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import ScriptedServer, raw

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo"}}'
EVENTS = "text/event-stream"


async def test_ids_of_servers_stay_at_the_gateway(start: StartGateway, alpha: ScriptedServer) -> None:
    """One session id, ours, on the ``initialize`` answer only; no event id of a server ever."""
    alpha.capabilities = {"tools": {}, "logging": {}, "resources": {}}

    async def leaky(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        text = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": [], "contents": []}})
        return web.Response(
            text=f"id: up-event\nretry: 5\ndata: \n\nid: up-event\ndata: {text}\n\n",
            content_type=EVENTS,
            headers={"mcp-session-id": "up-session"},
        )

    for method in ("tools/call", "tools/list", "resources/read", "logging/setLevel"):
        alpha.on[method] = leaky
    async with start({"alpha": alpha.url}) as gateway:
        opened = await gateway.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        session = opened.headers["mcp-session-id"]
        assert re.fullmatch(r"[\x21-\x7e]+", session)
        [own] = alpha.sessions
        answers, served = [opened], 0
        for version in ("2025-11-25", "2025-03-26"):
            session = await gateway.initialize(version)
            for method, params in (
                ("tools/list", {}), ("tools/call", {"name": "alpha__echo"}), ("resources/read", {"uri": "x:/1"}),
                ("logging/setLevel", {"level": "info"}), ("ping", {}), ("no/such", {}),
            ):  # fmt: skip
                answers.append(await gateway.rpc(method, params, mcp_session_id=session))
            answers.append(await gateway.send(b'{"jsonrpc":"2.0","method":"notifications/x"}', mcp_session_id=session))
        for answer in answers:
            seen = answer.body.decode() + str(dict(answer.headers))
            served += '"result"' in seen
            assert "up-event" not in seen
            assert "up-session" not in seen
            assert not any(theirs in seen for theirs in alpha.sessions | {own})
        assert [("mcp-session-id" in answer.headers) for answer in answers] == [True] + [False] * 14
        assert served == 11


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_origins_on_every_verb(start: StartGateway, alpha: ScriptedServer, method: str) -> None:
    """403 for a page that may not call, before anything else is looked at; nothing reaches a server."""
    async with start({"alpha": alpha.url}, origins=["https://app.example.com"]) as gateway:
        session = await gateway.initialize()
        before = len(alpha.received)
        body = CALL if method == "POST" else None
        for origin in ("null", "https://evil.example.com", "http://app.example.com", "http://localhost", ""):
            for headers in ({"mcp_session_id": session}, {}, {"accept": "text/html"}):
                if origin:
                    refused = await gateway.send(body, method=method, origin=origin, **headers)
                    assert (refused.status, "error" in refused.json) == (403, True)
        assert len(alpha.received) == before
        allowed = await _verb(gateway, method, mcp_session_id=session, origin="https://app.example.com")
        assert allowed == {"POST": 200, "GET": 200, "DELETE": 204}[method]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_sessions_on_every_verb(start: StartGateway, alpha: ScriptedServer, method: str) -> None:
    """None: 400 (GET: 405, with what is allowed). Unknown, changed or ended: 404. None of it reaches a server."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        ended = await gateway.initialize()
        assert (await gateway.send(None, method="DELETE", mcp_session_id=ended)).status == 204
        before = len(alpha.received)
        headers = {"accept": EVENTS} if method == "GET" else {}
        body = CALL if method == "POST" else None
        none = await gateway.send(body, method=method, **headers)
        assert none.status == (405 if method == "GET" else 400)
        assert ("allow" in none.headers) == (method == "GET")
        for wrong in ("unknown", session[:-1], session.swapcase(), ended):
            refused = await gateway.send(body, method=method, mcp_session_id=wrong, **headers)
            assert (refused.status, refused.error["code"]) == (404, -32600)
        assert len(alpha.received) == before
        assert await _verb(gateway, method, mcp_session_id=session) in (200, 204)


async def test_delete_ends_each_servers_session(start: StartGateway, alpha: ScriptedServer) -> None:
    """One DELETE to each, with its own session and version, whatever it answers; other verbs are 405."""
    async with (
        ScriptedServer("old", version="2025-03-26") as old,
        ScriptedServer("none", stateless=True) as none,
        ScriptedServer("dead") as dead,
    ):
        servers = {server.name: server.url for server in (alpha, old, none, dead)}
        async with start(servers) as gateway:
            session = await gateway.initialize()
            alpha.sessions.clear()  # so that it answers 404
            await dead.stop()
            ended = await gateway.send(None, method="DELETE", mcp_session_id=session)
            assert (ended.status, ended.body) == (204, b"")
            assert await _verb(gateway, "GET", mcp_session_id=session) == 404
            deletes = {s.name: [r for r in s.received if r.http_method == "DELETE"] for s in (alpha, old, none)}
            assert {name: len(found) for name, found in deletes.items()} == {"alpha": 1, "old": 1, "none": 0}
            assert deletes["alpha"][0].headers["mcp-protocol-version"] == "2025-11-25"
            assert deletes["alpha"][0].headers["mcp-session-id"].startswith("alpha-")
            assert "mcp-protocol-version" not in deletes["old"][0].headers
            assert not old.sessions
            for method in ("PUT", "PATCH", "OPTIONS", "HEAD"):
                refused = await gateway.send(None, method=method, mcp_session_id=await gateway.initialize())
                assert (refused.status, refused.headers["allow"]) == (405, "POST, GET, DELETE")


async def test_the_sessions_version_wins(start: StartGateway, alpha: ScriptedServer) -> None:
    """A header that names another known version, or none, changes nothing; an unknown one is 400 but on ``initialize``."""
    async with start({"alpha": alpha.url}) as gateway:
        opened = await gateway.rpc(
            "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, mcp_protocol_version="1900-01-01"
        )
        assert opened.result["protocolVersion"] == "2025-11-25"
        session = opened.headers["mcp-session-id"]
        for header in ("", "2025-06-18", "2025-03-26", "2025-11-25"):
            answered = await gateway.send(CALL, mcp_session_id=session, mcp_protocol_version=header)
            assert answered.status == 200
            assert alpha.calls("tools/call")[-1].headers["mcp-protocol-version"] == "2025-11-25"
            # At 2025-11-25 there are no batches, whatever the header says.
            batch = await gateway.send(b"[" + PING + b"]", mcp_session_id=session, mcp_protocol_version=header)
            assert (batch.status, batch.error["code"]) == (400, -32600)
        before = len(alpha.received)
        for header in ("1900-01-01", "2024-11-05", "2025-11-25, 2025-11-25", "x"):
            for method, body in (("POST", CALL), ("POST", b"[" + PING + b"]"), ("GET", None)):
                refused = await gateway.send(
                    body, method=method, mcp_session_id=session, mcp_protocol_version=header,
                    **({"accept": EVENTS} if method == "GET" else {}),
                )  # fmt: skip
                assert refused.status == 400, (header, method)
        assert len(alpha.received) == before


async def test_accept(start: StartGateway, alpha: ScriptedServer) -> None:
    """Both types, wildcards and any order; else 406. A GET needs an event stream."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        for accept, status in (
            ("*/*", 200), ("text/event-stream, application/json", 200), ("application/*, text/*;q=0.1", 200),
            ("APPLICATION/JSON,TEXT/EVENT-STREAM", 200), ("text/html", 406), ("application/json", 406),
            ("text/event-stream", 406), ("application/json, text/event-stream;q=0", 406), ("", 406),
        ):  # fmt: skip
            assert (await gateway.send(PING, mcp_session_id=session, accept=accept)).status == status, accept
        for accept, status in (("text/event-stream", 200), ("*/*", 200), ("application/json", 406), ("text/html", 406)):
            assert await _verb(gateway, "GET", mcp_session_id=session, accept=accept) == status, accept


async def test_a_get_before_initialized(start: StartGateway, alpha: ScriptedServer) -> None:
    """VS Code listens before it sends ``initialized``: headers come at once, before any event and with every server silent."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        headers = {"accept": EVENTS, "mcp-session-id": session}
        async with gateway.http.get(gateway.url, headers=headers) as response:
            assert (response.status, response.headers["content-type"]) == (200, EVENTS)
            accepted = await gateway.send(
                b'{"jsonrpc":"2.0","method":"notifications/initialized"}', mcp_session_id=session
            )
            assert (accepted.status, accepted.body) == (202, b"")
        without = await gateway.send(None, method="GET", accept=EVENTS)
        assert (without.status, without.headers["allow"]) == (405, "POST, DELETE")


async def test_a_servers_401_stays_its_own(start: StartGateway, alpha: ScriptedServer) -> None:
    """An error at 200, on calls and on lists; no challenge that clients would answer with credentials."""

    async def challenge(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        headers = {
            "www-authenticate": 'Bearer resource_metadata="https://evil.example.com"', "set-cookie": "a=b",
            BRIDGE_HEADER: HAS_FAILED,
        }  # fmt: skip
        return web.json_response({"error": "token expired for evil.example.com"}, status=401, headers=headers)

    alpha.on["tools/call"] = alpha.on["tools/list"] = challenge
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        for method, params in (("tools/call", {"name": "alpha__echo"}), ("tools/list", {})):
            answered = await gateway.rpc(method, params, mcp_session_id=session)
            assert (answered.status, answered.error["code"], answered.json["id"]) == (200, -32603, 1)
            assert "401" in answered.error["message"]
            assert "evil.example.com" not in answered.body.decode() + str(dict(answered.headers))
            assert not {"www-authenticate", "set-cookie", BRIDGE_HEADER} & {name.lower() for name in answered.headers}


async def test_every_refusal_is_json_without_a_foreign_id(start: StartGateway, alpha: ScriptedServer) -> None:
    """The id is the request's own, or left out; never null, never made up."""
    html = raw(400, "text/html", "no")
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        good = {"mcp_session_id": session}
        rows: list[tuple[bytes | None, str, dict[str, str], int, Any]] = [
            (b"{", "POST", good, 400, None),
            (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', "POST", good, 400, None),
            (b'{"jsonrpc":"2.0","id":"a","method":"ping","id":"b"}', "POST", good, 400, None),
            (b'{"jsonrpc":"2.0","id":"a","method":1}', "POST", good, 400, "a"),
            (b"[]", "POST", good, 400, None),
            (PING, "POST", {**good, "accept": "x/y"}, 406, None),
            (PING, "POST", {**good, "content_type": "x/y"}, 415, None),
            (PING, "POST", {**good, "origin": "null"}, 403, None),
            (PING, "POST", {**good, "mcp_protocol_version": "x"}, 400, 1),
            (PING, "POST", {"mcp_session_id": "x"}, 404, 1),
            (PING, "POST", {}, 400, 1),
            (None, "GET", {"accept": EVENTS}, 405, None),
            (None, "GET", {"accept": EVENTS, "mcp_session_id": "x"}, 404, None),
            (None, "GET", {"accept": EVENTS, **good, "last_event_id": "x"}, 405, None),
            (None, "DELETE", {}, 400, None),
            (None, "DELETE", {"mcp_session_id": "x"}, 404, None),
            (None, "PUT", good, 405, None),
        ]
        for body, method, headers, status, id in rows:
            answered = await gateway.send(body, method=method, **headers)
            assert answered.status == status, (body, method, headers)
            assert answered.headers["content-type"] == "application/json"
            assert set(answered.json) == {"jsonrpc", "error"} | ({"id"} if id is not None else set())
            assert answered.json.get("id") == id
        alpha.on["notifications/cancelled"] = html
        told = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
        accepted = await gateway.send(told, **good)
        assert (accepted.status, accepted.body) == (202, b""), (
            "a server's refusal of a notification is not the client's"
        )


async def _verb(gateway: TestGateway, method: str, **headers: str) -> int:
    """The status of a good request; a stream is left at once."""
    if method != "GET":
        return (await gateway.send(CALL if method == "POST" else None, method=method, **headers)).status
    fields = {"accept": EVENTS} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.http.get(gateway.url, headers=fields) as response:
        return response.status
