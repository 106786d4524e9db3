"""What travels from a client's request to every request that the gateway makes for its sake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import Received, ScriptedServer, fixed
from tests.support.waiting import PATIENCE

TRACE = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "vendor=1",
}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}


async def _restarted(gateway: TestGateway, session: str, server: ScriptedServer) -> None:
    server.sessions.clear()
    await gateway.rpc("tools/list", mcp_session_id=session, **TRACE)


REQUESTS: dict[str, tuple[set[str], Callable[[TestGateway, str, ScriptedServer], Awaitable[object]]]] = {
    "initialize": (
        {"initialize", "notifications/initialized"},
        lambda gateway, session, server: gateway.rpc("initialize", INITIALIZE, **TRACE),
    ),
    "list": (
        {"tools/list"},
        lambda gateway, session, server: gateway.rpc("tools/list", mcp_session_id=session, **TRACE),
    ),
    "a lost session": ({"tools/list", "initialize", "notifications/initialized"}, _restarted),
    "level": (
        {"logging/setLevel"},
        lambda gateway, session, server: gateway.rpc(
            "logging/setLevel", {"level": "info"}, mcp_session_id=session, **TRACE
        ),
    ),
    "notification": (
        {"notifications/cancelled"},
        lambda gateway, session, server: gateway.send(
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}',
            mcp_session_id=session,
            **TRACE,
        ),
    ),
    "DELETE": (
        {"DELETE"},
        lambda gateway, session, server: gateway.send(None, method="DELETE", mcp_session_id=session, **TRACE),
    ),
    "call": (
        {"tools/call"},
        lambda gateway, session, server: gateway.rpc(
            "tools/call", {"name": "alpha__echo"}, mcp_session_id=session, **TRACE
        ),
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_the_trace_reaches_every_sub_request(start: StartGateway, alpha: ScriptedServer, what: str) -> None:
    """W3C Trace Context: a server's span can hang below the client's, whoever sent the request."""
    expected, ask = REQUESTS[what]
    alpha.capabilities = {"tools": {}, "logging": {}}
    alpha.on["logging/setLevel"] = fixed(result={})
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        alpha.received.clear()
        await ask(gateway, session, alpha)
        assert {_name(received) for received in alpha.received} == expected
        for received in alpha.received:
            assert {name: received.headers.get(name) for name in TRACE} == TRACE, _name(received)


async def test_so_does_the_stream_of_a_get(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        alpha.received.clear()
        headers = {"mcp-session-id": session, "accept": "text/event-stream", **TRACE}
        async with gateway.http.get(gateway.url, headers=headers) as response, asyncio.timeout(PATIENCE):
            assert response.status == 200
            await response.content.readany()
        opened = [received for received in alpha.received if received.http_method == "GET"]
        assert opened
        assert all({name: received.headers.get(name) for name in TRACE} == TRACE for received in opened)


def _name(received: Received) -> object:
    return received.message["method"] if received.body else received.http_method
