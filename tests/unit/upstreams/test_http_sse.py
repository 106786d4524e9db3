"""Which answers make a server one that speaks HTTP+SSE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.upstreams.http_sse import speaking_sse
from tests.support.rounds import FLOODS, LEAST, MOST, lines_parsed

ENDPOINT = b": hello\n\nevent: endpoint\ndata: /messages?id=1\n\n"
RESULT = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def config(transport: str = "auto", **place: Any) -> GatewayConfig:
    place = place or {"url": "http://old.example/sse"}
    server = {**place, "transport": transport, "discovery_timeout": "20s"}
    return GatewayConfig.model_validate({"servers": {"old": server}})


def status(number: int) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=number)

    return answer


def stream(events: bytes) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(events)
        return response

    return answer


def unreachable(times: int, otherwise: Handler) -> Handler:
    """Some replicas are down; Envoy chooses another one each time."""
    left = [times]

    async def answer(request: web.Request) -> web.StreamResponse:
        left[0] -= 1
        if left[0] >= 0:
            return web.Response(status=503, headers={"x-mcp-upstream-failure": "UpstreamConnectionFailure"})
        return await otherwise(request)

    return answer


async def initialized(request: web.Request) -> web.Response:
    message = await request.json()
    return web.json_response({"jsonrpc": "2.0", "id": message.get("id"), "result": RESULT})


@asynccontextmanager
async def upstreams(post: Handler, get: Handler) -> AsyncIterator[tuple[Address, list[str]]]:
    """Where a server is reached, and the methods that it was sent."""
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.method)
        assert request.headers["x-mcp-server"] == "old"
        return await (get if request.method == "GET" else post)(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield TcpAddress(*runner.addresses[0][:2]), asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("refusal", [404, 405])
async def test_it_refuses_initialize_and_names_an_endpoint(refusal: int) -> None:
    async with upstreams(status(refusal), stream(ENDPOINT)) as (address, _):
        assert await speaking_sse(config(), address) == {"old"}


@pytest.mark.parametrize(
    ("post", "get", "methods"),
    [
        (initialized, stream(ENDPOINT), ["POST", "POST"]),
        (status(401), stream(ENDPOINT), ["POST"]),
        (status(503), stream(ENDPOINT), ["POST"]),
        (status(405), status(405), ["POST", "GET"]),
        (status(405), stream(b"data: {}\n\n"), ["POST", "GET"]),
        (status(405), stream(b": hello\n\n"), ["POST", "GET"]),
        (status(405), stream(b"data: " + b"x" * (11 << 20)), ["POST", "GET"]),
    ],
)
async def test_everything_else_is_streamable_http(post: Handler, get: Handler, methods: list[str]) -> None:
    async with upstreams(post, get) as (address, asked):
        assert await speaking_sse(config(), address) == frozenset()
        assert asked == methods


async def test_others_have_their_turn_while_a_server_floods(monkeypatch: pytest.MonkeyPatch) -> None:
    with lines_parsed(monkeypatch) as parsed:
        async with upstreams(status(405), stream(FLOODS["comments"] + ENDPOINT)) as (address, _):
            assert await speaking_sse(config(), address) == {"old"}
    assert parsed.total() >= LEAST
    assert max(parsed.values()) <= MOST


async def test_one_that_is_not_there() -> None:
    assert await speaking_sse(config(), TcpAddress("127.0.0.1", 1)) == frozenset()


@pytest.mark.parametrize("down", [1, 2, 5])
async def test_replicas_that_are_down_are_passed_over(down: int) -> None:
    replicas: dict[str, Any] = {"endpoints": [f"10.0.0.{number}:80" for number in range(1, 4)]}
    post, get = unreachable(down, status(405)), unreachable(down, stream(ENDPOINT))
    async with upstreams(post, get) as (address, asked):
        assert await speaking_sse(config(**replicas), address) == {"old"}
        assert asked == ["POST"] * (down + 1) + ["GET"] * (down + 1)


async def test_a_replica_that_speaks_streamable_http_is_found_though_others_are_down() -> None:
    async with upstreams(unreachable(2, initialized), stream(ENDPOINT)) as (address, asked):
        assert await speaking_sse(config(endpoints=["10.0.0.1:80", "10.0.0.2:80"]), address) == frozenset()
        assert asked == ["POST"] * 4


async def test_replicas_that_are_all_down_are_asked_only_so_often() -> None:
    replicas: dict[str, Any] = {"endpoints": [f"10.0.0.{number}:80" for number in range(1, 100)]}
    async with upstreams(unreachable(1000, initialized), stream(ENDPOINT)) as (address, asked):
        assert await speaking_sse(config(**replicas), address) == frozenset()
        assert asked == ["POST"] * 10


def test_what_was_asked_is_what_is_served() -> None:
    """The default path of both transports differs."""
    asked = config(endpoints=["10.0.0.1:80"])
    found = asked.with_sse(["old"]).servers["old"]
    assert (found.transport, found.path_and_query) == ("sse", asked.servers["old"].path_and_query)


@pytest.mark.parametrize("transport", ["streamable_http", "sse"])
async def test_who_is_configured_is_not_asked(transport: str) -> None:
    async with upstreams(status(405), stream(ENDPOINT)) as (address, asked):
        assert await speaking_sse(config(transport), address) == frozenset()
        assert asked == []
