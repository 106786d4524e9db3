"""Every row of docs/protocol.md, "Bad input", and every way in which a server can fail a call, through real Envoy."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import Answer, TestGateway
from tests.support.scripted import ScriptedServer, hang, raw, redirect, tool
from tests.support.waiting import PATIENCE, eventually

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
DEEP = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * 200 + b"]" * 200 + b"}}"

# body, status, code, id in the answer
BAD_BODIES: list[tuple[str, bytes, int, int, Any]] = [
    ("not JSON", b"hello", 400, -32700, None),
    ("cut", b'{"jsonrpc":"2.0"', 400, -32700, None),
    ("empty", b"", 400, -32700, None),
    ("trailing junk", PING + b"x", 400, -32700, None),
    ("BOM", b"\xef\xbb\xbf" + PING, 400, -32700, None),
    ("invalid UTF-8", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xff"}}', 400, -32700, None),
    ("NaN", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', 400, -32700, None),
    ("too deep", DEEP, 400, -32700, None),
    ("jsonrpc 1.0", b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400, -32600, 1),
    ("id null", b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600, None),
    ("id bool", b'{"jsonrpc":"2.0","id":true,"method":"ping"}', 400, -32600, None),
    ("id float", b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400, -32600, None),
    ("id object", b'{"jsonrpc":"2.0","id":{},"method":"ping"}', 400, -32600, None),
    ("method number", b'{"jsonrpc":"2.0","id":"a","method":1}', 400, -32600, "a"),
    ("params array", b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', 400, -32600, 7),
    ("empty batch", b"[]", 400, -32600, None),
    ("batch", b"[" + PING + b"]", 400, -32600, None),
    ("a number", b"5", 400, -32600, None),
    ("duplicate key", b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', 400, -32600, 1),
    ("case variant", b'{"jsonrpc":"2.0","id":1,"method":"ping","Params":{}}', 400, -32600, 1),
]


async def test_bad_bodies(start: StartGateway, alpha: ScriptedServer) -> None:
    """400, the id only where it could be read, and nothing is sent to a server."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = len(alpha.received)
        for what, body, status, code, id in BAD_BODIES:
            answer = await gateway.send(body, mcp_session_id=session)
            assert (answer.status, answer.error["code"], answer.json.get("id")) == (status, code, id), what
            assert answer.headers["content-type"] == "application/json", what
            assert ("id" in answer.json) == (id is not None), what
        assert len(alpha.received) == before


async def test_bad_heads(start: StartGateway, alpha: ScriptedServer) -> None:
    """415, 406, 403, 405, 404: JSON-RPC bodies, and nothing is sent to a server."""
    rows: list[tuple[str, dict[str, str], int]] = [
        ("content type", {"content_type": "text/plain"}, 415),
        ("no content type", {"content_type": ""}, 415),
        ("content encoding", {"content_encoding": "gzip"}, 415),
        ("accept html", {"accept": "text/html"}, 406),
        ("accept one of two", {"accept": "application/json"}, 406),
        ("origin null", {"origin": "null"}, 403),
        ("foreign origin", {"origin": "https://evil.example.com"}, 403),
        ("origin that looks local", {"origin": "http://localhost.evil.example.com"}, 403),
        ("foreign host", {"host": "evil.example.com"}, 403),
        ("two hosts in one", {"host": "evil.example.com,x.localhost"}, 403),
        ("version", {"mcp_protocol_version": "1900-01-01"}, 400),
    ]
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = len(alpha.received)
        for what, headers, status in rows:
            answer = await gateway.send(PING, mcp_session_id=session, **headers)
            assert answer.status == status, (what, answer.body)
            assert "code" in answer.error, what
        for method in ("PUT", "PATCH", "OPTIONS"):
            answer = await gateway.send(None, method=method, mcp_session_id=session)
            assert (answer.status, answer.headers["allow"]) == (405, "POST, GET, DELETE")
            assert "code" in answer.error
        for path in ("/", "/mcpx", "/mcp/x", "/other?x=/mcp"):
            answer = await gateway.send(PING, url=gateway.url.removesuffix("/mcp") + path, mcp_session_id=session)
            assert (answer.status, "code" in answer.error) == (404, True), path
        assert len(alpha.received) == before
        for what, served in (
            ("wildcard", {"accept": "*/*"}),
            ("the other order", {"accept": "text/event-stream, application/json"}),
            ("local origin", {"origin": "http://localhost:6274"}),
            ("charset", {"content_type": "application/json; charset=utf-8"}),
            ("no version", {}),
            ("another version", {"mcp_protocol_version": "2025-06-18"}),
        ):
            assert (await gateway.send(PING, mcp_session_id=session, **served)).result == {}, what


async def test_sessions_that_are_none(start: StartGateway, alpha: ScriptedServer) -> None:
    """400 without a session id, 404 with one that is none, on any verb."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        flipped = session[:-1] + ("A" if session[-1] != "A" else "B")
        for bad in ("nonsense", flipped, session + "A", session.upper(), f"{session}, {session}"):
            answer = await gateway.send(PING, mcp_session_id=bad)
            assert (answer.status, answer.json.get("id")) == (404, 1)
        missing = await gateway.send(PING)
        assert (missing.status, missing.error["code"], missing.json["id"]) == (400, -32600, 1)
        for bad in ("nonsense", flipped):
            assert (await gateway.send(None, method="DELETE", mcp_session_id=bad)).status == 404
        # `initialize` too, where it comes with a session id that is none; with a good one it opens another session.
        params = {"protocolVersion": "2025-11-25", "capabilities": {}}
        assert (await gateway.rpc("initialize", params, mcp_session_id="stale")).status == 404
        again = await gateway.rpc("initialize", params, mcp_session_id=session)
        assert again.headers["mcp-session-id"] != session


async def test_delete_ends_everything(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """404 from then on."""
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        assert alpha.sessions
        ended = await gateway.send(None, method="DELETE", mcp_session_id=session)
        assert (ended.status, ended.body) == (204, b"")
        assert not alpha.sessions
        assert not beta.sessions
        for method, body in (("POST", PING), ("DELETE", None)):
            assert (await gateway.send(body, method=method, mcp_session_id=session)).status == 404


async def test_versions(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        for asked, answered in (
            ("2099-01-01", "2025-11-25"), ("2024-11-05", "2025-11-25"), ("2025-03-26", "2025-03-26"),
            ("2025-06-18", "2025-06-18"), ("2026-07-28", "2025-11-25"),
        ):  # fmt: skip
            result = (await gateway.rpc("initialize", {"protocolVersion": asked, "capabilities": {}})).result
            assert result["protocolVersion"] == answered
        absent = await gateway.rpc("initialize", {"capabilities": {}})
        assert (absent.status, absent.error["code"]) == (200, -32602)
        assert "mcp-session-id" not in absent.headers


async def test_modern_requests_are_told_what_is_served(start: StartGateway, alpha: ScriptedServer) -> None:
    modern = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    async with start({"alpha": alpha.url}) as gateway:
        for answer in (
            await gateway.rpc("server/discover", modern, id="d", mcp_protocol_version="2026-07-28"),
            await gateway.rpc("server/discover", id="d", mcp_protocol_version="2026-07-28"),
            await gateway.rpc("tools/list", modern, id="d"),
        ):
            assert (answer.status, answer.json["id"], answer.error["code"]) == (400, "d", -32022)
            assert answer.error["data"]["requested"] == "2026-07-28"
            assert answer.error["data"]["supported"] == ["2025-11-25", "2025-06-18", "2025-03-26"]
        assert alpha.received == []


async def test_unknown_names(start: StartGateway, alpha: ScriptedServer) -> None:
    """200 with the id digit for digit, its type kept."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = len(alpha.received)
        for id_text in (b"0", b'"0"', b"9007199254740993", b"-5", b'"\\u00e9\\n"', '"é"'.encode()):
            body = b'{"jsonrpc":"2.0","id":' + id_text + b',"method":"%s","params":{"name":"nope__x"}}'
            for method, code in ((b"tools/call", -32602), (b"no/such", -32601), (b"tasks/get", -32601)):
                answer = await gateway.send(body % method, mcp_session_id=session)
                assert (answer.status, answer.error["code"]) == (200, code)
                assert b'"id":' + id_text + b"," in answer.body
                assert ("nope__x" if code == -32602 else method.decode()) in answer.error["message"]
        assert len(alpha.received) == before


async def test_notifications_get_202_without_a_body(start: StartGateway, alpha: ScriptedServer) -> None:
    """And so do answers to what was never asked, and cancellations of nothing."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        for body in (
            b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
            b'{"jsonrpc":"2.0","method":"notifications/unheard_of"}',
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}',
            b'{"jsonrpc":"2.0","id":99,"result":{}}',
            b'{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":""}}',
        ):
            answer = await gateway.send(body, mcp_session_id=session)
            assert (answer.status, answer.body) == (202, b"")
        assert [r.message["params"] for r in alpha.calls("notifications/cancelled")] == [{"requestId": 7}]
        assert len(alpha.calls("notifications/initialized")) == 1
        assert alpha.calls("notifications/unheard_of") == []


async def test_bodies_over_the_limit(start: StartGateway, alpha: ScriptedServer) -> None:
    """413 as JSON-RPC one byte over the limit, with and without a content-length; at the limit, served."""
    limit = 64 * 1024
    head = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo","arguments":{"a":"'
    fits = head + b"x" * (limit - len(head) - 4) + b'"}}}'

    async def chunked(body: bytes) -> Any:
        yield body[:1000]
        yield body[1000:]

    async with start({"alpha": alpha.url}, limits={"request_bytes": limit}) as gateway:
        session = await gateway.initialize()
        assert len(fits) == limit
        assert (await gateway.send(fits, mcp_session_id=session)).status == 200
        assert (await gateway.send(chunked(fits), mcp_session_id=session)).status == 200
        for body in (fits + b" ", chunked(fits + b" "), chunked(fits + b" " * limit)):
            answer = await gateway.send(body, mcp_session_id=session)
            assert (answer.status, answer.error["code"]) == (413, -32600)
        assert len(alpha.calls("tools/call")) == 2


FAILING = (
    ("html 500", raw(500, "text/html", "<h1>no</h1>"), "answered HTTP 500"),
    ("html 200", raw(200, "text/html", "<h1>hi</h1>"), "answered HTTP 200"),
    ("503", raw(503, "application/json", "{}"), "answered HTTP 503"),
    ("401", raw(401, "application/json", "{}"), "answered HTTP 401"),
    ("429", raw(429, "text/plain", "slow"), "answered HTTP 429"),
    ("redirect", raw(302, "text/html", ""), "answered HTTP 302"),
    ("moved", redirect(307, "/mcp/"), "answered HTTP 307, a redirect to /mcp/, which calls do not follow"),
    ("moved elsewhere", redirect(308, "https://b.example:8080/x"), "a redirect to https://b.example:8080/x, "),
    ("moved with a secret", redirect(307, "/x?key=secret"), "answered HTTP 307 instead of an MCP message"),
    ("moved, not in JSON", redirect(307, '/x","y":"'), "answered HTTP 307 instead of an MCP message"),
    ("202", raw(202, "application/json", ""), "answered HTTP 202"),
    ("silence", hang, "StreamIdleTimeout"),
)


async def test_a_server_that_fails_a_call(start: StartGateway, alpha: ScriptedServer) -> None:
    """HTTP 200 and -32603 that names server and cause, so that no SDK gives up its session over it."""
    async with start({"alpha": {"url": alpha.url, "timeout": "2s"}}) as gateway:
        session = await gateway.initialize()
        body = '{"jsonrpc":"2.0","id":"é\\u0041","method":"tools/call","params":{"name":"alpha__echo"}}'.encode()
        for what, handler, says in FAILING:
            alpha.on["tools/call"] = handler
            answer = await gateway.send(body, mcp_session_id=session)
            assert (answer.status, answer.error["code"], answer.json["id"]) == (200, -32603, "éA"), what
            assert '"id":"é\\u0041"'.encode() in answer.body, what
            assert "'alpha'" in answer.error["message"], what
            assert says in answer.error["message"], what
            assert answer.headers["content-type"] == "application/json", what
            assert "www-authenticate" not in answer.headers, what
            assert (await gateway.send(PING, mcp_session_id=session)).result == {}, what


async def test_a_server_that_redirects_to_another_path(start: StartGateway, alpha: ScriptedServer) -> None:
    """The gateway's own requests follow; a call says what to configure."""
    alpha.moved_to = "/mcp/?k=v%20w"
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert listed["tools"]
        assert "_meta" not in listed
        assert "answered HTTP 307" in (await gateway.call(session, "alpha__echo")).error["message"]
        assert {received.path for received in alpha.received} == {"/mcp", alpha.moved_to}


async def test_a_server_that_is_down(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        await alpha.stop()
        answer = await gateway.call(session, "alpha__echo", id=5)
        assert (answer.status, answer.error["code"], answer.json["id"]) == (200, -32603, 5)
        assert "'alpha'" in answer.error["message"]
        assert "UpstreamConnectionFailure" in answer.error["message"]
        assert (await gateway.call(session, "beta__echo")).result


async def test_one_dead_server_leaves_the_others(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    await beta.stop()
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo"]
        [missing] = listed["_meta"]["mcp-extproc/unavailable"]
        assert (missing["server"], missing["reason"]) == ("beta", "connect")
        await alpha.stop()
        all_dead = await gateway.rpc("tools/list", mcp_session_id=session)
        assert (all_dead.status, all_dead.error["code"]) == (200, -32603)
        assert "alpha" in all_dead.error["message"]
        assert "beta" in all_dead.error["message"]
        nobody = await gateway.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        assert nobody.error["code"] == -32603
        assert "mcp-session-id" not in nobody.headers


async def test_a_slow_server_delays_the_others_by_its_own_deadline(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    beta.on["initialize"] = hang
    servers = {"alpha": alpha.url, "beta": {"url": beta.url, "discovery_timeout": "500ms"}}
    async with start(servers) as gateway:
        answer = await gateway.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        [missing] = answer.result["_meta"]["mcp-extproc/unavailable"]
        assert missing == {"server": "beta", "reason": "timeout", "message": "did not answer within 0.5 s"}


async def test_a_server_that_comes_late_joins_the_session(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Down at initialize: its tools are listed and callable as soon as it is there."""
    await beta.stop()
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        refused = await gateway.call(session, "beta__echo")
        assert (refused.status, refused.error["code"]) == (200, -32603)
        await beta.restart()
        assert (await gateway.call(session, "beta__echo")).result
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo", "beta__echo"]
        assert len(beta.calls("initialize")) == 1


@pytest.mark.parametrize(("host", "lost_status"), [("127.0.0.1", 404), ("127.0.0.1", 400), ("alpha.localhost", 404)])
async def test_a_restarted_server_is_invisible(
    start: StartGateway, alpha: ScriptedServer, host: str, lost_status: int
) -> None:
    """Lost sessions are opened again and the request is replayed once: calls, lists, twice in a row, large bodies."""
    alpha.lost_status = lost_status
    async with start({"alpha": f"http://{host}:{alpha.port}/mcp"}) as gateway:
        session = await gateway.initialize()
        for restarts in (1, 2, 3):
            await alpha.restart()
            answer = await gateway.call(session, "alpha__echo", {"n": restarts, "text": "x" * 3_000_000})
            assert f'"n": {restarts}' in answer.result["content"][0]["text"]
            assert len(alpha.calls("initialize")) == 1 + restarts
            # The next call goes straight to the new session.
            before = len(alpha.received)
            assert (await gateway.call(session, "alpha__echo")).result
            assert len(alpha.received) == before + 1
        await alpha.restart()
        assert (await gateway.rpc("tools/list", mcp_session_id=session)).result["tools"]
        assert (await gateway.call(session, "alpha__echo")).result
        assert len(alpha.calls("initialize")) == 5
        assert "mcp-session-id" not in alpha.calls("initialize")[-1].headers


async def test_a_hundred_callers_repair_once(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        alpha.sessions.clear()
        answers = await asyncio.gather(*(gateway.call(session, "alpha__echo", {"n": n}, id=n) for n in range(100)))
        for n, answer in enumerate(answers):
            assert answer.json["id"] == n
            assert f'"n": {n}' in answer.result["content"][0]["text"]
        assert len(alpha.calls("initialize")) == 2


async def test_a_server_that_refuses_the_call_and_not_the_session(start: StartGateway, alpha: ScriptedServer) -> None:
    """404 to the replay as well: an error for the client, the old session still used, the new one ended."""
    alpha.on["tools/call"] = raw(404, "text/plain", "no such thing")
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        [first] = alpha.sessions
        answer = await gateway.call(session, "alpha__echo")
        assert (answer.status, answer.error["code"]) == (200, -32603)
        assert "answered HTTP 404" in answer.error["message"]
        del alpha.on["tools/call"]
        assert (await gateway.call(session, "alpha__echo")).result
        assert alpha.calls("tools/call")[-1].headers["mcp-session-id"] == first
        await eventually(lambda: alpha.sessions, "only the first session is left", until=lambda seen: seen == {first})


async def test_a_stateless_server_has_no_session_to_lose(start: StartGateway, alpha: ScriptedServer) -> None:
    alpha.stateless = True
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "alpha__echo")).result
        assert "mcp-session-id" not in alpha.calls("tools/call")[0].headers
        alpha.on["tools/call"] = raw(404, "text/plain", "gone")
        assert (await gateway.call(session, "alpha__echo")).error["code"] == -32603
        assert len(alpha.calls("initialize")) == 1


async def test_servers_of_every_version(start: StartGateway) -> None:
    """each leg keeps the version it negotiated; all are listed and callable."""
    async with (
        ScriptedServer("old", version="2025-03-26") as old,
        ScriptedServer("mid", version="2025-06-18") as mid,
        ScriptedServer("new", version="2025-11-25", instructions="Be kind.") as new,
        ScriptedServer("alien", version="1999-01-01") as alien,
    ):
        async with start({"old": old.url, "mid": mid.url, "new": new.url, "alien": alien.url}) as gateway:
            answer = await gateway.rpc(
                "initialize", {"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}}
            )
            assert answer.result["protocolVersion"] == "2025-11-25"
            assert answer.result["instructions"] == "# new\n\nBe kind."
            assert [m["server"] for m in answer.result["_meta"]["mcp-extproc/unavailable"]] == ["alien"]
            session = answer.headers["mcp-session-id"]
            for server in (old, mid, new):
                assert (await gateway.call(session, f"{server.name}__echo")).result
                sent = server.calls("tools/call")[0].headers.get("mcp-protocol-version")
                assert sent == (None if server is old else server.version)
                # What the client can't be asked through the gateway is not declared.
                assert server.calls("initialize")[0].message["params"]["capabilities"] == {"sampling": {}}


async def test_a_killed_worker_comes_back(start_own: StartGateway, alpha: ScriptedServer) -> None:
    """Calls wait for the next one; where they don't, 503 with a JSON-RPC body. Nothing passes, and then all is as before,
    sessions included."""
    async with start_own({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        before = len(alpha.calls("tools/call"))
        gateway.signal_workers(signal.SIGKILL)

        async def served() -> Answer | None:
            answer = await gateway.call(session, "alpha__echo")
            if answer.status == 200:
                return answer
            assert answer.status in (503, 504)  # 504: it took more than five seconds to start
            assert answer.error["code"] == -32603
            assert len(alpha.calls("tools/call")) == before
            return None

        answer = await eventually(served, "a call is answered")
        assert answer is not None
        assert answer.result


async def test_a_worker_killed_while_it_fans_out(start_own: StartGateway, alpha: ScriptedServer) -> None:
    async with start_own({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        alpha.on["tools/list"] = hang
        pending = asyncio.create_task(gateway.rpc("tools/list", mcp_session_id=session))
        await eventually(lambda: alpha.calls("tools/list"), "the server is asked for its tools")
        gateway.signal_workers(signal.SIGKILL)
        answer = await pending
        assert answer.status == 503
        assert answer.error["code"] == -32603


async def test_a_client_that_leaves_ends_its_sub_requests(start: StartGateway, alpha: ScriptedServer) -> None:
    gone = asyncio.Event()

    async def notice(request: Any, message: dict[str, Any]) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    alpha.on["tools/list"] = notice
    async with start({"alpha": {"url": alpha.url, "discovery_timeout": "60s"}}) as gateway:
        session = await gateway.initialize()
        pending = asyncio.create_task(gateway.rpc("tools/list", mcp_session_id=session))
        await eventually(lambda: alpha.calls("tools/list"), "the server is asked for its tools")
        pending.cancel()
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
        del alpha.on["tools/list"]
        assert (await gateway.rpc("tools/list", mcp_session_id=session)).result


async def test_stopping_while_calls_run(start_own: StartGateway, alpha: ScriptedServer) -> None:
    """Running calls finish, new connections are refused, and no process or socket is left."""
    release = asyncio.Event()

    async def slow(request: Any, message: dict[str, Any]) -> Any:
        from tests.support.scripted import echo

        await release.wait()
        return echo(message)

    alpha.on["tools/call"] = slow
    manager = start_own({"alpha": alpha.url})
    gateway: TestGateway = await manager.__aenter__()
    session = await gateway.initialize()
    calls = [asyncio.create_task(gateway.call(session, "alpha__echo", id=n)) for n in range(5)]
    await eventually(
        lambda: len(alpha.calls("tools/call")), "all 5 calls are under way", until=lambda count: count >= 5
    )
    pids = gateway.local.pids
    stopping = asyncio.create_task(gateway.local.__aexit__(None, None, None))
    await asyncio.sleep(0)
    release.set()
    for n, answer in enumerate(await asyncio.gather(*calls)):
        assert answer.result
        assert answer.json["id"] == n
    await stopping
    await gateway.http.close()
    for pid in pids.values():
        assert not Path(f"/proc/{pid}").exists()


async def test_no_secret_in_envoys_configuration(start: StartGateway, alpha: ScriptedServer) -> None:
    server = {"url": alpha.url + "?key=hush", "headers": {"authorization": "Bearer hush"}}
    async with start({"alpha": server}, session={"secret": "hush" * 8}) as gateway:
        await gateway.initialize()
        dump = await gateway.local.admin("GET", "/config_dump")
        assert dump is not None
        assert "mcp/alpha" in dump
        assert "hush" not in dump
        assert json.loads(dump)


async def test_tools_named_alike_keep_to_their_servers(start: StartGateway) -> None:
    """the longest prefix wins."""
    async with ScriptedServer("git") as git, ScriptedServer("git-hub") as hub:
        git.pages = [[tool("hub-x"), tool("x")]]
        hub.pages = [[tool("x")]]
        async with start({"git": git.url, "git-hub": hub.url}, separator="-x-") as gateway:
            session = await gateway.initialize()
            listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
            assert [t["name"] for t in listed["tools"]] == ["git-x-hub-x", "git-x-x", "git-hub-x-x"]
            await gateway.call(session, "git-hub-x-x")
            assert len(hub.calls("tools/call")) == 1
            await gateway.call(session, "git-x-hub-x")
            assert git.calls("tools/call")[0].message["params"]["name"] == "hub-x"
