"""Pass-through: a real Envoy that routes to MCP servers by itself, with our filter to read for its policies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import h2.config
import h2.connection
import h2.events
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from tests.support import own_envoy
from tests.support.edge import ADMIN, EDGE, NATIVE, RBAC, RBAC_CONFIG, Edge, deny, edge, rbac_per_route
from tests.support.gateway import ACCEPT, Answer
from tests.support.processes import free_port, http_server, sdk_server
from tests.support.waiting import PATIENCE

LIMIT = 200_000
ONLY: dict[str, Any] = {"pass_through": {}, "limits": {"request_bytes": LIMIT}}
"""A configuration without servers."""
LENIENT = {**ONLY, "pass_through": {"traffic_mode": "pass_through"}}

JSON = {"content_type": "application/json", "accept": ACCEPT}


def rpc(method: str, params: Any = None, **members: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, **members}
    return json.dumps(message if params is None else {**message, "params": params}).encode()


def padded(size: int) -> bytes:
    """A call of exactly so many bytes."""
    start, end = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"', b'"}}}'
    return start + b"x" * (size - len(start) - len(end)) + end


async def post(running: Edge, path: str, body: bytes | AsyncIterator[bytes], **headers: str) -> Answer:
    return await running.client.send(path, method="POST", body=body, **{**JSON, **headers})


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


# -- Clients and servers that do not know of us ---------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
async def test_an_sdk_client_of_one_server(tmp_path: Path, transport: str) -> None:
    """The session is the server's own, names are as the server has them, progress arrives, and a policy denies one tool."""
    async with AsyncExitStack() as stack:
        port = free_port()
        server = http_server(sdk_server("one", port), port, log=tmp_path / "one.log")
        await stack.enter_async_context(server)
        running = await stack.enter_async_context(
            edge(tmp_path, ONLY, "--pass-through", "anywhere", transport=transport)
        )
        seen: list[tuple[str, str | None, str | None]] = []

        async def watch(response: httpx2.Response) -> None:
            request, session = response.request, "mcp-session-id"
            seen.append((request.method, request.headers.get(session), response.headers.get(session)))

        http = httpx2.AsyncClient(headers={"host": f"localhost:{port}"}, timeout=30, event_hooks={"response": [watch]})
        url = f"{running.url}/mcp"
        await stack.enter_async_context(http)
        client = await stack.enter_async_context(Client(streamable_http_client(url, http_client=http), mode="legacy"))
        assert {tool.name for tool in (await client.list_tools()).tools} == {"add", "repeat", "fail", "count"}
        [block] = (await client.call_tool("add", {"a": 1, "b": 2})).content
        assert isinstance(block, TextContent)
        assert block.text == "one: 3"
        steps: list[float] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            steps.append(progress)

        await client.call_tool("count", {"to": 3}, progress_callback=progress)
        assert steps == [1, 2, 3]
        # A result of the server's own: the policy is about another name.
        with pytest.raises(Exception, match="A policy of the gateway refuses"):
            await client.call_tool("delete", {})
        await client.call_tool("add", {"a": 1, "b": 2})
        sessions = {session for _, *both in seen for session in both if session is not None}
        # The SDK's servers make ids of 32 hexadecimal digits; ours are sealed tokens, several times as long.
        assert [len(session) for session in sessions] == [32]


BODIES = {
    "blanks": b' \r\n{ "jsonrpc" :\t"2.0", "id":1 ,"method": "tools/call","params":{ "name":"t" , "arguments":{ } } }\n\n',
    "unicode": '{"jsonrpc":"2.0","id":"ü","method":"tools/call","params":{"name":"t\\u00e4🙂","arguments":{"ß":1}}}'.encode(),
    "numbers": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":'
    b'{"a":12345678901234567890123,"b":1.10,"c":1E+3,"d":-0.0,"e":1e400}}}',
    "order": b'{"params":{"arguments":{"z":1,"a":2,"z":3},"_meta":{"x/y":[]},"name":"t"},"method":"tools/call",'
    b'"id":1,"jsonrpc":"2.0"}',
    "slashes": b'{"jsonrpc":"2.0","id":1,"method":"tools\\/call","params":{"n\\u0061me":"t"}}',
    "100k": padded(100_000),
    "limit": padded(LIMIT),
}


async def test_bodies_arrive_byte_for_byte(tmp_path: Path) -> None:
    """With their length where the client said it, and in chunks where it did not; far more than the connection's buffer."""
    async with edge(tmp_path, ONLY, "--pass-through", "mcp") as running:
        for name, body in BODIES.items():
            whole = await post(running, f"/mcp?{name}", body)
            chunked = await post(running, f"/mcp?{name}-chunked", in_pieces(body, 10_000))
            assert (whole.status, chunked.status) == (200, 200), name
            # The response, which nobody read.
            assert whole.headers["mcp-session-id"] == "theirs"
            for suffix, length, encoding in (("", str(len(body)), None), ("-chunked", None, "chunked")):
                [got] = [got for got in running.service.received if got.path == f"/mcp?{name}{suffix}"]
                assert got.body == body, name
                assert got.headers.get("content-length") == length
                assert got.headers.get("transfer-encoding") == encoding
        assert (await running.logged("/mcp?unicode"))["mcp_proxy"]["tool"] == "tä🙂"


async def test_only_what_is_told_is_added_to_the_head(tmp_path: Path) -> None:
    """Credentials, cookies, headers of the server's own: all are as the client sent them, but for what policies match on."""
    sent: dict[str, Any] = {
        "authorization": "Bearer theirs", "cookie": "a=b", "x_mcp_toolsets": "issues", "mcp_param_region": "eu",
        "mcp_session_id": "their-session", "mcp_protocol_version": "2025-11-25", "last_event_id": "7",
        "x_mcp_server": "spoofed", "mcp_name": "spoofed", "mcp_method": "spoofed", "x_mcp_request_id": "spoofed",
    }  # fmt: skip
    async with edge(tmp_path, ONLY, "--pass-through", "mcp") as running:
        await post(running, "/other/mcp", rpc("tools/call", {"name": "t"}), **sent)
        await post(running, "/mcp", rpc("tools/call", {"name": "t"}), **sent)
        await running.client.send("/stop", method="DELETE", **sent)
        other, mcp, stop = (got.headers for got in running.service.received)
    for headers in (other, mcp, stop):
        headers.pop("x-request-id")
    told = {"mcp-method": "tools/call", "mcp-name": "t", "x-mcp-request-id": "1"}
    unspoofed = {name: value for name, value in other.items() if value != "spoofed"}
    assert mcp == unspoofed | told
    assert "spoofed" not in stop.values()
    assert other["x-mcp-server"] == "spoofed"  # not our route


async def test_streams_of_servers(tmp_path: Path) -> None:
    """Of GETs and of POSTs: each event arrives when it is sent."""
    async with edge(tmp_path, ONLY, "--pass-through", "mcp") as running:
        for method, body in (("GET", None), ("POST", rpc("tools/call", {"name": "t"}))):
            running.service.go_on.clear()
            headers = {"host": "tools.test", "accept": ACCEPT, "content-type": "application/json"}
            async with (
                asyncio.timeout(PATIENCE),
                aiohttp.request(method, f"{running.url}/stream", data=body, headers=headers) as got,
            ):
                assert await got.content.readline() == b"data: 1\n"
                running.service.go_on.set()
                assert await got.content.read() == b"\ndata: 2\n\n"


# -- Where ----------------------------------------------------------------------------------------------------------------


async def verdicts(running: Edge, host: str, path: str) -> list[str]:
    """What becomes of a denied tool, a denied method, another tool, and no JSON: served, denied or refused."""
    found = []
    for body in (
        rpc("tools/call", {"name": "delete"}),
        rpc("prompts/get", {"name": "p"}),
        rpc("tools/call", {"name": "t"}),
        b"{",
    ):
        answer = await post(running, path, body, host=host)
        denied = b"A policy of the gateway refuses" in answer.body
        found.append("denied" if denied else "refused" if answer.status == 400 else f"served {answer.status}"[:6])
    return found


async def test_by_route_by_virtual_host_and_by_dynamic_forward_proxy(tmp_path: Path) -> None:
    """Each policy is the one that Envoy has for that route, and routes that were not named are none of our business."""
    whole = rbac_per_route(deny(["method"], "tools/call"))
    options = ("--pass-through", "mcp", "--pass-through", "/by-method", "--pass-through", "anywhere",
               "--pass-through-host", "whole")  # fmt: skip
    async with edge(tmp_path, ONLY, *options, typed_per_filter_config=whole) as running:
        assert await verdicts(running, "tools.test", "/other/x") == ["served"] * 4
        assert await running.streams() == 0
        dynamic = f"127.0.0.1:{running.service.port}"
        assert await verdicts(running, "tools.test", "/mcp") == ["denied", "served", "served", "refused"]
        assert await verdicts(running, "tools.test", "/by-method") == ["served", "denied", "served", "refused"]
        assert await verdicts(running, "whole.test", "/mcp") == ["denied", "served", "denied", "refused"]
        assert await verdicts(running, dynamic, "/mcp") == ["denied", "served", "served", "refused"]
        assert await running.streams() == 16
        # Of a virtual host, too, far more may be held than of a connection.
        large = rpc("ping", {"x": "y" * 100_000})
        for body in (large, in_pieces(large, 10_000)):
            assert (await post(running, "/large", body, host="whole.test")).status == 200
            assert running.service.received[-1].body == large


async def test_beside_an_endpoint(tmp_path: Path) -> None:
    """One listener, one virtual host: servers merged at /mcp, and another one passed through at all other paths."""
    port = free_port()
    async with http_server(sdk_server("one", port), port, log=tmp_path / "one.log"):
        config = {"servers": {"one": {"url": f"http://127.0.0.1:{port}/mcp"}}, "listen": {"address": "0.0.0.0"}}
        options = ("--virtual-host", "whole", "--pass-through-host", "whole", "--pass-through", "mcp")
        async with edge(tmp_path, config, *options) as running:
            place = running.place
            async with own_envoy.browser(place.port(EDGE), host="whole.test") as client:
                await client.initialize()
                answer = await client.call("one__add", {"a": 1, "b": 2})
                assert b"one: 3" in answer.body
                assert b"policy" in (await client.call("delete")).body
            for host in ("whole.test", "tools.test"):
                assert await verdicts(running, host, "/theirs") == ["denied", "served", "served", "refused"]
            # The same path on another virtual host is the other thing.
            assert await verdicts(running, "tools.test", "/mcp") == ["denied", "served", "served", "refused"]
            assert [got.path for got in running.service.received] == ["/theirs"] * 4 + ["/mcp"] * 2


async def test_routes_by_what_was_read(tmp_path: Path) -> None:
    """With ``clear_route_cache``, and not without. Then what the client says of itself chooses no route."""
    for clear, read, spoofed in ((True, 299, 200), (False, 200, 299)):
        folder = tmp_path / str(clear)
        folder.mkdir()
        config = {"pass_through": {"clear_route_cache": clear}}
        async with edge(folder, config, "--pass-through", "mcp", "--pass-through", "by-header") as running:
            path = "/by-header"
            assert (await post(running, path, rpc("tools/call", {"name": "special"}))).status == read
            assert (await post(running, path, rpc("tools/call", {"name": "t"}), mcp_name="special")).status == spoofed


# -- What is no MCP -------------------------------------------------------------------------------------------------------

UNREAD: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "parse": ("POST", b'{"jsonrpc"', {}, 400, "mcp_parse_error"),
    "shape": ("POST", b'{"method":"tools/call","params":{"name":"delete"}}', {}, 400, "mcp_not_jsonrpc"),
    "twice": ("POST", rpc("ping")[:-1] + b',"method":"tools/call"}', {}, 400, "mcp_duplicate_keys"),
    "batch": ("POST", b"[" + rpc("tools/call", {"name": "delete"}) + b"]", {}, 400, "mcp_batch"),
    "params": ("POST", rpc("tools/call", {"name": ["delete"]}), {}, 200, "mcp_invalid_params"),
    "type": ("POST", rpc("tools/call", {"name": "delete"}), {"content_type": "text/plain"}, 415, "mcp_content_type"),
    "utf7": ("POST", rpc("ping"), {"content_type": "application/json; charset=utf-7"}, 415, "mcp_charset"),
    "gzip": ("POST", rpc("ping"), {"content_encoding": "gzip"}, 415, "mcp_content_encoding"),
    "put": ("PUT", rpc("tools/call", {"name": "delete"}), JSON, 405, "mcp_http_method"),
    "get": ("GET", rpc("tools/call", {"name": "delete"}), JSON, 400, "mcp_http_body"),
    "large": ("POST", padded(LIMIT + 1), {}, 413, "mcp_body_too_large"),
    "larger": ("POST", padded(5 * LIMIT), {}, 413, "mcp_body_too_large"),
}


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
async def test_what_is_no_mcp_is_refused(tmp_path: Path, transport: str) -> None:
    async with edge(tmp_path, ONLY, "--pass-through", "mcp", transport=transport) as running:
        for name, (method, body, headers, status, word) in UNREAD.items():
            fields = {**JSON, **headers} if method == "POST" else headers
            for kind, sent in (("", body), ("-chunked", in_pieces(body, 30_000))):
                answer = await running.client.send(f"/mcp?{name}{kind}", method=method, body=sent, **fields)
                assert answer.status == status, (name, answer.body)
                assert answer.headers["content-type"] == "application/json"
                assert answer.error["code"] in (-32700, -32600, -32602)
                entry = await running.logged(f"/mcp?{name}{kind}")
                assert (entry["mcp_proxy"]["status"], entry["mcp_proxy"]["is_mcp_request"]) == (word, False)
                assert "passthrough_reason" not in entry["mcp_proxy"]
        assert running.service.received == []


async def test_what_is_no_mcp_passes_and_it_is_said_why(tmp_path: Path) -> None:
    """Byte for byte, whatever it is, and however large where that is said; and policies can tell."""
    unread = {
        "name": "why",
        **RBAC,
        "typed_config": {**RBAC_CONFIG, "rules": deny(["passthrough_reason"], "mcp_batch")},
    }
    async with edge(tmp_path, LENIENT, "--pass-through", "mcp", filters=(RBAC, unread)) as running:
        for name, (method, body, headers, _, word) in UNREAD.items():
            fields = {**JSON, **headers} if method == "POST" else headers
            for kind, sent in (("", body), ("-chunked", in_pieces(body, 30_000))):
                path = f"/mcp?{name}{kind}"
                answer = await running.client.send(
                    path, method=method, body=sent, **fields, mcp_method="x", mcp_name="y"
                )
                found = (await running.logged(path))["mcp_proxy"]
                arrived = [got for got in running.service.received if got.path == path]
                if word == "mcp_body_too_large" and kind:
                    # Envoy could lose the end of it.
                    assert (answer.status, found["status"], arrived) == (413, word, []), name
                    continue
                assert (found["is_mcp_request"], found["passthrough_reason"]) == (False, word), name
                if word == "mcp_batch":
                    assert (answer.status, arrived) == (403, [])
                    continue
                assert (answer.status, [got.body for got in arrived]) == (200, [body]), name
                assert not {"mcp-method", "mcp-name"} & set(arrived[0].headers)
        assert (await verdicts(running, "tools.test", "/mcp"))[:3] == ["denied", "served", "served"]


async def test_trailers_and_lengths_of_http2(tmp_path: Path) -> None:
    """HTTP/2 may leave the length out, and end a request with trailers: a body is then not known to be whole."""
    async with edge(tmp_path, ONLY, "--pass-through", "mcp") as running:
        body = rpc("tools/call", {"name": "t"})
        length = ("content-length", str(len(body)))
        assert await _http2(running, "/mcp?plain", body) == 200
        assert await _http2(running, "/mcp?length", body, length) == 200
        assert await _http2(running, "/mcp?trailers", body, length, trailers=True) == 200
        assert await _http2(running, "/mcp?unknown", body, trailers=True) == 413
        assert [(got.path, got.body) for got in running.service.received] == [
            (f"/mcp?{name}", body) for name in ("plain", "length", "trailers")
        ]


async def _http2(running: Edge, path: str, body: bytes, *more: tuple[str, str], trailers: bool = False) -> int:
    """The status of a request with prior knowledge."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.place.port(EDGE))
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    connection.initiate_connection()
    fields = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "tools.test"),
              ("content-type", "application/json"), ("accept", ACCEPT), *more]  # fmt: skip
    connection.send_headers(1, fields)
    connection.send_data(1, body, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, [("x-sum", "1")], end_stream=True)
    writer.write(connection.data_to_send())
    try:
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        return int(dict(event.headers or [])[b":status"])
                writer.write(connection.data_to_send())
    finally:
        writer.close()
    raise AssertionError("no answer")


# -- The same as Envoy's own filter ---------------------------------------------------------------------------------------

MESSAGES = {
    "initialize": rpc(
        "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    ),
    "call": rpc("tools/call", {"name": "t", "arguments": {"a": 1}}, id="x"),
    "prompt": rpc("prompts/get", {"name": "p"}),
    "read": rpc("resources/read", {"uri": "file:///a"}),
    "subscribe": rpc("resources/subscribe", {"uri": "file:///a"}),
    "complete": rpc("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}}),
    "level": rpc("logging/setLevel", {"level": "info"}),
    "list": rpc("tools/list"),
    "unknown": rpc("acme/do", {"name": "n"}),
    "initialized": b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
    "cancelled": b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"r"}}',
    "progress": b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":0.5}}',
    "result": b'{"jsonrpc":"2.0","id":3,"result":{}}',
    "error": b'{"jsonrpc":"2.0","id":"e","error":{"code":1,"message":"m"}}',
}  # fmt: skip


async def test_policies_see_what_envoys_own_filter_shows(tmp_path: Path) -> None:
    """Both filters read the same requests. Ours says all that the other one says, and more."""
    async with edge(tmp_path, ONLY, "--pass-through", "mcp", filters=(NATIVE,)) as running:
        for name, body in MESSAGES.items():
            assert (await post(running, f"/mcp?{name}", body)).status == 200
            entry = await running.logged(f"/mcp?{name}")
            ours, native = entry["mcp_proxy"], entry["native"]
            assert native["is_mcp_request"] is True
            assert {key: ours.get(key) for key in native} == native, name
        for method in ("GET", "DELETE"):
            await running.client.send(f"/mcp?{method}", method=method, accept="text/event-stream", mcp_session_id="s")
            entry = await running.logged(f"/mcp?{method}")
            assert entry["native"] is None
            assert set(entry["mcp_proxy"]) == {"http_method", "session"}


async def test_another_namespace(tmp_path: Path) -> None:
    """A policy that was written for the newer namespace of Envoy's filter, with ours in that filter's place."""
    rules = deny(["params", "name"], "delete")
    rules["policies"]["no"]["permissions"][0]["metadata"]["filter"] = "envoy.filters.http.mcp"
    policy = {"name": "rbac", "typed_config": {**RBAC_CONFIG, "rules": rules}}
    config = {**ONLY, "metadata": {"namespaces": ["envoy.filters.http.mcp"]}}
    async with edge(tmp_path, config, "--pass-through", "mcp", filters=(policy,)) as running:
        assert await verdicts(running, "tools.test", "/mcp") == ["denied", "served", "served", "refused"]


# -- Failing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ONLY, LENIENT], ids=["reject", "pass"])
async def test_nothing_passes_without_a_worker(tmp_path: Path, config: dict[str, Any]) -> None:
    """In either mode: that a request may be no MCP does not mean that nobody has to look. Other routes are served."""
    async with edge(tmp_path, config, "--pass-through", "mcp") as running:
        assert (await post(running, "/mcp", rpc("ping"))).status == 200
        running.worker.kill()
        await running.worker.wait()
        received = len(running.service.received)
        assert (await post(running, "/mcp", rpc("tools/call", {"name": "delete"}))).status == 503
        assert (await running.client.send("/mcp")).status == 503
        assert len(running.service.received) == received
        assert (await post(running, "/other", rpc("ping"))).status == 200


async def test_pages_are_up_to_the_listener(tmp_path: Path) -> None:
    """Its cors filter, in front, answers their preflights, and nothing is added. Without a policy they reach the server."""
    types, origin = "type.googleapis.com/envoy.extensions.filters.http.cors.v3", "https://app.example.com"
    cors = {"name": "cors", "typed_config": {"@type": f"{types}.Cors"}}
    policy = {"@type": f"{types}.CorsPolicy", "allow_origin_string_match": [{"exact": origin}], "allow_methods": "POST"}
    asked: dict[str, Any] = {"origin": origin, "access_control_request_method": "POST"}
    options = ("--pass-through", "mcp", "--pass-through-host", "whole")
    async with edge(
        tmp_path, ONLY, *options, filters=(cors, RBAC), typed_per_filter_config={"cors": policy}
    ) as running:
        told = await running.client.send("/mcp", method="OPTIONS", host="whole.test", **asked)
        assert (told.status, told.headers["access-control-allow-origin"]) == (200, origin)
        assert await running.streams() == 0
        denied = await post(running, "/mcp", rpc("tools/call", {"name": "delete"}), host="whole.test", origin=origin)
        assert "reason" in denied.json["error"]["data"]
        assert denied.headers["access-control-allow-origin"] == origin
        other = await running.client.send("/mcp", method="OPTIONS", **asked)
        assert "access-control-allow-origin" not in other.headers
        assert other.status == 200
        assert [got.http_method for got in running.service.received] == ["OPTIONS"]


async def test_other_refusals_look_as_before(tmp_path: Path) -> None:
    """A server that is down, behind Envoy: that is for the listener's owner to word."""
    async with edge(tmp_path, ONLY, "--pass-through", "anywhere") as running:
        host = f"127.0.0.1:{free_port()}"
        answer = await post(running, "/mcp", rpc("ping"), host=host)
        assert answer.status == 503
        assert b"jsonrpc" not in answer.body
        stats = await own_envoy.stats(running.place.port(ADMIN), "ext_proc.streams_failed")
        assert sum(stats.values()) == 0
