"""tools/call and tools/list through real Envoy: what reaches a server, and what comes back."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.scripted import ScriptedServer, echo, tool


async def test_two_servers_appear_as_one(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo", "beta__echo"]
        for name, server in (("alpha", alpha), ("beta", beta)):
            answer = await gateway.call(session, f"{name}__echo", {"x": 1})
            assert answer.result["content"][0]["text"] == '["echo", {"x": 1}]'
            assert server.calls("tools/call")[0].message["params"]["name"] == "echo"


async def test_arguments_arrive_byte_for_byte(start: StartGateway, alpha: ScriptedServer) -> None:
    """Big integers, long decimals, escapes, blanks and the order of keys."""
    arguments = (
        rb'{"z": 12345678901234567890, "big":9007199254740993 , "pi":3.1415926535, "d":12345678901234567890.1234567890,'
        rb' "e":1e400, "one":1.0, "esc":"\u0041\/<\ud83d\ude00", "a":{"y":1,"x":2}}'
    )
    body = (
        b' { "method" : "tools/call","params": {"arguments":'
        + arguments
        + b' , "unknown" : [1.50] , "name" : "alpha__echo"'
        b'}, "id": 12345678901234567890, "jsonrpc":"2.0", "extra":null }\n'
    )
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        answer = await gateway.send(body, mcp_session_id=session)
        assert answer.status == 200
        assert alpha.calls("tools/call")[0].body == body.replace(b"alpha__echo", b"echo")
        assert b"12345678901234567890" in answer.body


async def test_a_name_without_prefix_passes_untouched(start: StartGateway, alpha: ScriptedServer) -> None:
    """One server with an empty prefix: names and bodies stay exactly as they were sent."""
    body = b'{ "jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo", "arguments":{}}}'
    async with start({"alpha": {"url": alpha.url, "prefix": ""}}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.send(body, mcp_session_id=session)).status == 200
        assert alpha.calls("tools/call")[0].body == body
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["echo"]


async def test_what_a_server_gets(start: StartGateway, alpha: ScriptedServer) -> None:
    """Its own path, query, host, session and configured headers; nothing that is between the client and the gateway."""
    server = {"url": f"http://localhost:{alpha.port}/deep/mcp?key=a%2Fb", "headers": {"X-Api-Key": "k-123"}}
    async with start({"alpha": server}) as gateway:
        session = await gateway.initialize()
        await gateway.send(
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo"}}',
            url=f"{gateway.url}?client=query",
            mcp_session_id=session, authorization="Bearer client", cookie="a=b", x_mcp_server="beta", x_mcp_authorized="1",
            mcp_method="spoofed", mcp_name="spoofed", mcp_param_x="1", x_envoy_upstream_rq_timeout_ms="1",
            x_forwarded_for="9.9.9.9", proxy_authorization="Basic x", last_event_id="1", x_custom="1",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", origin="http://localhost",
        )  # fmt: skip
        got = alpha.calls("tools/call")[0]
        assert got.path == "/deep/mcp?key=a%2Fb"
        assert got.headers["host"] == f"localhost:{alpha.port}"
        assert got.headers["x-api-key"] == "k-123"
        assert got.headers["mcp-session-id"] in alpha.sessions
        assert got.headers["mcp-protocol-version"] == "2025-11-25"
        assert got.headers["mcp-method"] == "tools/call"
        assert got.headers["mcp-name"] == "echo"
        assert got.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c")
        known = {
            "host", "content-type", "accept", "content-length", "accept-encoding", "user-agent", "x-request-id",
            "traceparent", "x-forwarded-proto", "x-envoy-attempt-count", "x-api-key", "mcp-session-id",
            "mcp-protocol-version", "mcp-method", "mcp-name",
        }  # fmt: skip
        if len(gateway.workers) > 1:
            known.add("x-mcp-session-key")  # by it a repaired call finds its worker again
        assert set(got.headers) <= known


async def test_no_upstream_session_id_reaches_the_client(start: StartGateway, alpha: ScriptedServer) -> None:
    """Some clients take `Mcp-Session-Id` from any response."""

    async def leaky(request: object, message: dict[str, object]) -> object:
        response = echo(message)
        response.headers["mcp-session-id"] = "upstream-secret"
        response.headers["set-cookie"] = "a=b"
        return response

    alpha.on["tools/call"] = leaky  # type: ignore[assignment]
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        assert session != next(iter(alpha.sessions))
        answer = await gateway.call(session, "alpha__echo")
        assert answer.status == 200
        assert "mcp-session-id" not in answer.headers
        assert "set-cookie" not in answer.headers


async def test_three_pages_arrive_as_one(start: StartGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [[tool(f"t{page}{index}") for index in range(3)] for page in range(3)]
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == [f"alpha__t{p}{i}" for p in range(3) for i in range(3)]
        assert "nextCursor" not in listed
        refused = await gateway.rpc("tools/list", {"cursor": "zzz"}, mcp_session_id=session)
        assert refused.error["code"] == -32602


async def test_a_repeated_cursor_ends_the_list(start: StartGateway, alpha: ScriptedServer) -> None:
    async def endless(request: object, message: dict[str, object]) -> object:
        from aiohttp import web

        result = {"tools": [tool("again")], "nextCursor": "0"}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    alpha.on["tools/list"] = endless  # type: ignore[assignment]
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__again"]
        assert listed["_meta"]["mcp-extproc/unavailable"][0]["reason"] == "truncated"
        assert len(alpha.calls("tools/list")) == 2


async def test_definitions_pass_verbatim(start: StartGateway, alpha: ScriptedServer) -> None:
    definition = tool(
        "echo",
        _meta={"vendor/x": [1]},
        annotations={"readOnlyHint": True},
        icons=[{"src": "data:,"}],
        future={"a": 1.0},
    )
    alpha.pages = [[definition]]
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        listed = await gateway.rpc("tools/list", mcp_session_id=session)
        expected = json.dumps(definition).replace('"name": "echo"', '"name": "alpha__echo"')
        assert expected.encode() in listed.body


async def test_filters_hide_from_list_and_call(start: StartGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("read_a"), tool("read_b"), tool("write_a")]]
    tools = {"includeRegex": ["^read_"], "exclude": ["read_b"]}
    async with start({"alpha": {"url": alpha.url, "tools": tools}}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__read_a"]
        for hidden in ("read_b", "write_a"):
            refused = await gateway.call(session, f"alpha__{hidden}")
            assert refused.error == {"code": -32602, "message": f"Unknown tool: alpha__{hidden}"}
        assert alpha.calls("tools/call") == []
        assert (await gateway.call(session, "alpha__read_a")).status == 200


async def test_an_event_stream_passes_as_it_comes(start: StartGateway, alpha: ScriptedServer) -> None:
    """The first event arrives while the server still works; nothing is buffered on the way."""
    go_on = asyncio.Event()

    async def stream(request: object, message: dict[str, object]) -> object:
        from aiohttp import web

        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)  # type: ignore[arg-type]
        await response.write(b': hello\r\n\r\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n')
        await go_on.wait()
        await response.write(b'data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n')
        return response

    alpha.on["tools/call"] = stream  # type: ignore[assignment]
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__echo"}}'
        headers = {"content-type": "application/json", "accept": "*/*", "mcp-session-id": session}
        async with gateway.http.post(gateway.url, data=body, headers=headers) as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert (
                await response.content.readuntil(b'x"}\n\n')
                == b':\n\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n'
            )
            go_on.set()
            assert b'"result"' in await response.read()


@pytest.mark.parametrize("size", [60_000, 900_000])
async def test_large_bodies(start: StartGateway, alpha: ScriptedServer, size: int) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        answer = await gateway.call(session, "alpha__echo", {"text": "ä" * (size // 2)})
        assert answer.status == 200
        assert len(alpha.calls("tools/call")[0].body) > size


async def test_metadata_and_access_log(start: StartGateway, alpha: ScriptedServer) -> None:
    """Every request is told of in the log, rejected ones included, and no credential or query is."""
    server = {"url": alpha.url + "?key=hush", "headers": {"authorization": "Bearer hush"}}
    async with start({"alpha": server}) as gateway:
        session = await gateway.initialize()
        await gateway.call(session, "alpha__echo", id="call-1")
        await gateway.call(session, "alpha__echo\r\nx: y", id="call-2")
        await gateway.call(session, "nobody__echo", id="call-3")
        called = await gateway.logged(jsonrpc_request_id='"call-1"')
        assert called["mcp.method.name"] == "tools/call"
        assert called["mcp.name"] == "alpha__echo"
        assert called["gen_ai.tool.name"] == "echo"
        assert called["mcp.server"] == "alpha"
        assert called["mcp.client"] == "test/0"
        assert called["mcp.protocol.version"] == "2025-11-25"
        assert called["upstream_cluster"] == "mcp/alpha"
        assert called["status"] == 200
        strange = await gateway.logged(jsonrpc_request_id='"call-2"')
        assert strange["mcp.name"] == "alpha__echo\r\nx: y"
        refused = await gateway.logged(jsonrpc_request_id='"call-3"')
        assert refused["error.type"] == "unknown_tool"
        assert refused["rpc.response.status_code"] == -32602
        await gateway.rpc(
            "ping", id="ping-1", mcp_session_id=session, user_agent="agent " * 8_000, x_request_id="r" * 8_000
        )
        long = await gateway.logged(jsonrpc_request_id='"ping-1"')
        assert long["user_agent"] == ("agent " * 8_000)[:256]
        assert len(long["request_id"]) <= 128
        text = gateway.access_log.read_text()
        assert "hush" not in text
        assert session not in text


async def test_strange_names_travel_encoded(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        # One that could end a header's line is no tool's name.
        assert (await gateway.call(session, "alpha__naïve\r\nx-evil: 1")).error["code"] == -32602
        assert alpha.calls("tools/call") == []
        answer = await gateway.call(session, "alpha__naïve x-evil: 1")
        assert answer.status == 200
        got = alpha.calls("tools/call")[0]
        assert got.message["params"]["name"] == "naïve x-evil: 1"
        assert got.headers["mcp-name"].startswith("=?base64?")
        assert "x-evil" not in got.headers
