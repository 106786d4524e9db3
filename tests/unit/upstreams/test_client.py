"""One sub-request: what a server is sent, and what is made of what it answers. Over a real connection, without Envoy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.upstreams.address import TcpAddress
from mcp_extproc.upstreams.client import SessionLost, UpstreamClient, UpstreamError
from tests.support.scripted import Handler, ScriptedServer, raw
from tests.unit.gateway.support import LATEST, config, upstream

PATH = "/p%20q?k=%2F"
ENTRY = Catalog(config({"a": {"url": f"https://a.example{PATH}", "headers": {"X-Key": "v"}}})).entries["a"]
LIST = "tools/list"
RESPONSE_BYTES = 2000


@asynccontextmanager
async def asking(**server: Any) -> AsyncIterator[tuple[UpstreamClient, ScriptedServer]]:
    async with (
        ScriptedServer(**server) as scripted,
        UpstreamClient(TcpAddress("127.0.0.1", scripted.port), RESPONSE_BYTES) as client,
    ):
        yield client, scripted


async def listed(handler: Handler) -> dict[str, Any]:
    """The result of a request that is answered so."""
    async with asking(on={LIST: handler}) as (client, _):
        result, _ = await client.request(ENTRY, upstream("a"), LIST, {})
        return {name: json.loads(bytes(raw)) for name, raw in result.items()}


async def failure(ask: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(UpstreamError) as caught:
        await ask
    return caught.value.reason, caught.value.message


# -- What is sent ---------------------------------------------------------------------------------------------------------

OURS = (
    "x-key",
    "x-mcp-server",
    "content-type",
    "accept",
    "mcp-session-id",
    "mcp-protocol-version",
    "authorization",
    "cookie",
)


async def test_initialize_and_what_follows_it() -> None:
    """U1, U2, U4: no session and no version before there are any."""
    async with asking() as (client, server):
        session, capabilities, instructions = await client.initialize(ENTRY, "2025-06-18", b'{"sampling": {}}')
    assert session == UpstreamSession("2025-06-18", "scripted-1-1", frozenset({"tools"}))
    assert (capabilities, instructions) == ({"tools": {}}, None)
    first, second = server.received
    assert (first.http_method, first.path, second.path) == ("POST", PATH, PATH)
    assert first.message["params"]["protocolVersion"] == "2025-06-18"
    assert first.message["params"]["capabilities"] == {"sampling": {}}
    assert first.message["params"]["clientInfo"]["name"] == "mcp-extproc"
    assert {name: first.headers[name] for name in OURS if name in first.headers} == {
        "x-key": "v",
        "x-mcp-server": "a",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    assert second.message == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (second.headers["mcp-session-id"], second.headers["mcp-protocol-version"]) == ("scripted-1-1", "2025-06-18")


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (
            UpstreamSession("2025-11-25", "s", frozenset()),
            {"mcp-session-id": "s", "mcp-protocol-version": "2025-11-25"},
        ),
        (UpstreamSession("2025-03-26", "s", frozenset()), {"mcp-session-id": "s"}),
        (UpstreamSession("2025-06-18", None, frozenset()), {"mcp-protocol-version": "2025-06-18"}),
    ],
)
async def test_every_later_message_carries_session_and_version(
    session: UpstreamSession, expected: dict[str, str]
) -> None:
    """U3, U4: on requests, notifications and DELETE alike."""
    async with asking(on={LIST: raw(200, "application/json", '{"jsonrpc":"2.0","id":1,"result":{}}')}) as (
        client,
        server,
    ):
        server.sessions.add("s")
        server.stateless = session.id is None
        await client.request(ENTRY, session, LIST, {})
        await client.notify(ENTRY, session, b'{"jsonrpc":"2.0","method":"notifications/cancelled"}')
        await client.end(ENTRY, session)
    assert len(server.received) == (3 if session.id else 2)
    for received in server.received:
        names = ("mcp-session-id", "mcp-protocol-version")
        assert {name: received.headers[name] for name in names if name in received.headers} == expected
        assert (received.path, received.headers["x-key"], received.headers["x-mcp-server"]) == (PATH, "v", "a")


async def test_a_session_without_an_id_is_not_ended() -> None:
    async with asking() as (client, server):
        await client.end(ENTRY, upstream("a", id=None))
    assert server.received == []


# -- What is answered -----------------------------------------------------------------------------------------------------

RESULT = '{"jsonrpc":"2.0","id":1,"result":{"tools":[1.50]}}'


def stream(*events: str, line_end: str = "\n") -> Handler:
    return raw(200, "text/event-stream", "".join(f"data: {event}\n\n" for event in events).replace("\n", line_end))


def body(text: str) -> Handler:
    return raw(200, "application/json", text)


NOTIFICATION = '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
REQUEST = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
OTHER = '{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}'


@pytest.mark.parametrize(
    "handler",
    [
        body(RESULT),
        raw(200, "Application/JSON; charset=utf-8", RESULT),
        body(f" {RESULT}\n"),
        # 2025-03-26 servers answer in batches.
        body(f"[{NOTIFICATION},{RESULT}]"),
        stream(RESULT),
        stream(RESULT, line_end="\r"),
        stream(RESULT, line_end="\r\n"),
        stream("", NOTIFICATION, RESULT),
        # A server's own request may have the id of ours.
        stream(REQUEST, OTHER, RESULT),
        stream(f"[{NOTIFICATION},{RESULT}]"),
        raw(
            200,
            "text/event-stream; charset=utf-8",
            f": hello\n\nid: 1\nretry: 5\ndata:\n\nevent: x\ndata: {RESULT}\n\n",
        ),
        raw(200, "text/event-stream", '\ufeffdata: {"jsonrpc":"2.0","id":1,\ndata: "result":{"tools":[1.50]}}\n\n'),
    ],
)
async def test_answers_that_are_understood(handler: Handler) -> None:
    """U1, E18, N6."""
    assert await listed(handler) == {"tools": [1.5]}


async def test_results_keep_their_bytes_and_tell_their_size() -> None:
    async with asking(on={LIST: body(RESULT)}) as (client, _):
        result, size = await client.request(ENTRY, upstream("a"), LIST, {})
    assert (bytes(result["tools"]), size) == (b"[1.50]", len('{"tools":[1.50]}'))


NO_RESPONSE = "answered with JSON that is no response to the request"
NO_MESSAGE = "answered with something that is no JSON-RPC message"


@pytest.mark.parametrize(
    ("handler", "reason", "message"),
    [
        (raw(200, "text/html", "<html>"), "protocol", "answered HTTP 200 with text/html, not with JSON"),
        (raw(202, "application/json", ""), "protocol", "answered HTTP 202 with application/json, not with JSON"),
        (raw(500, "text/html", "<html>secret"), "status", "answered HTTP 500"),
        (raw(401, "application/json", "{}"), "status", "answered HTTP 401"),
        (raw(302, "text/html", ""), "status", "answered HTTP 302"),
        (body("not JSON"), "protocol", NO_MESSAGE),
        (body(""), "protocol", NO_MESSAGE),
        (body('{"id":1,"result":NaN}'), "protocol", NO_MESSAGE),
        (body(OTHER), "protocol", NO_RESPONSE),
        (body("[]"), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","id":"1","result":{}}'), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","id":1,"result":[]}'), "protocol", "answered with a result that is no object"),
        (body('{"jsonrpc":"2.0","id":1,"error":"x"}'), "protocol", "answered with a error that is no object"),
        (
            body('{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}'),
            "error",
            "answered with error -32601: no",
        ),
        (body('{"jsonrpc":"2.0","id":1,"error":{}}'), "error", "answered with error no code: no message"),
        (stream(NOTIFICATION), "protocol", "ended its stream without an answer"),
        (stream(), "protocol", "ended its stream without an answer"),
        (raw(200, "text/event-stream", f"data: {RESULT}"), "protocol", "ended its stream without an answer"),
        (stream("not JSON"), "protocol", NO_MESSAGE),
        (
            body('{"jsonrpc":"2.0","id":1,"result":{"a":"' + "x" * RESPONSE_BYTES + '"}}'),
            "too_large",
            "more than 2000 bytes",
        ),
        (stream("x" * RESPONSE_BYTES), "too_large", "answered with more than 2000 bytes"),
        (stream(*[NOTIFICATION] * 50, RESULT), "too_large", "answered with more than 2000 bytes"),
    ],
)
async def test_answers_that_are_failures(handler: Handler, reason: str, message: str) -> None:
    """E19: each with a word for machines and a clause for people, and nothing of the body."""
    found = await failure(listed(handler))
    assert found[0] == reason
    assert message in found[1]
    assert "secret" not in found[1]


def refusing(status: int, **headers: str) -> Handler:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handler


@pytest.mark.parametrize("status", [404, 400])
async def test_a_lost_session(status: int) -> None:
    """U5, N4: some examples answer 400 where the specification says 404."""
    async with asking(on={LIST: refusing(status)}) as (client, _):
        with pytest.raises(SessionLost):
            await client.request(ENTRY, upstream("a"), LIST, {})
        # Without a session none can be lost.
        assert await failure(client.request(ENTRY, upstream("a", id=None), LIST, {})) == (
            "status",
            f"answered HTTP {status}",
        )


@pytest.mark.parametrize(
    ("failed", "reason"),
    [("UpstreamConnectionFailure", "connect"), ("UpstreamRequestTimeout", "timeout"), ("NoHealthyUpstream", "connect")],
)
async def test_failures_that_the_private_listener_reports(failed: str, reason: str) -> None:
    """Not mistaken for an answer of the server, whatever its status."""
    for status in (503, 404, 200):
        async with asking(on={LIST: refusing(status, x_mcp_upstream_failure=failed)}) as (client, _):
            asked = client.request(ENTRY, upstream("a"), LIST, {})
            assert await failure(asked) == (reason, f"is unreachable ({failed})")


async def test_nobody_listens() -> None:
    async with ScriptedServer() as server:
        port = server.port
    async with UpstreamClient(TcpAddress("127.0.0.1", port), RESPONSE_BYTES) as client:
        reason, message = await failure(client.request(ENTRY, upstream("a"), LIST, {}))
    assert reason == "connect"
    assert message.startswith("could not be asked")


@pytest.mark.parametrize("status", [204, 200, 404, 400, 405, 500])
async def test_whatever_a_server_says_to_the_end_of_a_session(status: int) -> None:
    """U8, E7."""

    class Ending(ScriptedServer):
        async def _serve(self, request: web.Request) -> web.StreamResponse:
            return web.Response(status=status)

    async with Ending() as server, UpstreamClient(TcpAddress("127.0.0.1", server.port), RESPONSE_BYTES) as client:
        await client.end(ENTRY, upstream("a"))


# -- The answer to initialize -----------------------------------------------------------------------------------------------


async def initialized(result: Any, **headers: str) -> tuple[UpstreamSession, Any, str | None]:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=named)

    async with asking(stateless=True, on={"initialize": handler}) as (client, _):
        return await client.initialize(ENTRY, LATEST, b"{}")


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_servers_version_counts(version: str) -> None:
    """U3."""
    session, _, _ = await initialized({"protocolVersion": version, "capabilities": {}})
    assert session == UpstreamSession(version, None, frozenset())


@pytest.mark.parametrize("version", ["2024-11-05", "2026-07-28", "", 5, None])
async def test_a_version_that_is_not_spoken_here(version: Any) -> None:
    """U3."""
    reason, message = await failure(initialized({"protocolVersion": version, "capabilities": {}}))
    assert (reason, "which is not served here" in message) == ("protocol", True)


async def test_what_a_server_declares() -> None:
    result = {
        "protocolVersion": LATEST,
        "capabilities": {"tools": {"listChanged": True}, "x": None},
        "instructions": "Do.",
    }
    session, capabilities, instructions = await initialized(result, mcp_session_id="s")
    assert session == UpstreamSession(LATEST, "s", frozenset({"tools", "x"}))
    assert (capabilities, instructions) == (result["capabilities"], "Do.")


@pytest.mark.parametrize(
    ("result", "headers"),
    [
        ({"protocolVersion": LATEST, "capabilities": []}, {}),
        ({"protocolVersion": LATEST, "capabilities": None}, {}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": "x" * 4097}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": "a b"}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": "\u00e9"}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": ""}),
        ({}, {}),
        ([], {}),
        ("x", {}),
    ],
)
async def test_answers_to_initialize_that_are_refused(result: Any, headers: dict[str, str]) -> None:
    """S8: an id that would not fit into a header, or break one, is not kept."""
    reason, _ = await failure(initialized(result, **headers))
    assert reason == "protocol"


Ask = Callable[[UpstreamClient], Awaitable[object]]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.initialize(ENTRY, LATEST, b"{}"),
        lambda client: client.notify(ENTRY, upstream("a"), b"{}"),
        lambda client: client.end(ENTRY, upstream("a")),
    ],
    ids=["initialize", "notify", "end"],
)
async def test_a_client_that_can_not_connect_says_so(ask: Ask) -> None:
    async with ScriptedServer() as server:
        port = server.port
    async with UpstreamClient(TcpAddress("127.0.0.1", port), RESPONSE_BYTES) as client:
        assert (await failure(ask(client)))[0] == "connect"


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_no_server_sends_a_request_elsewhere(status: int) -> None:
    """The configured credentials would go along."""
    async with asking(on={LIST: refusing(status, location="/elsewhere")}) as (client, server):
        asked = client.request(ENTRY, upstream("a"), LIST, {})
        assert await failure(asked) == ("status", f"answered HTTP {status}")
    assert [received.path for received in server.received] == [PATH]
