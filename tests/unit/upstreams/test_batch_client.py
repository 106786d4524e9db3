"""One message of a batch through the front door: what is sent, and what is made of the answer. Without Envoy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.gateway.legs import Answered, BatchLeg, Failed, Outcome
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.upstreams.batch_client import BatchClient
from tests.support.rounds import LEAST, MOST, flooded, lines_parsed
from tests.unit.gateway.support import config, message

CONFIG = config(listen={"path": "/tools"}, limits={"response_bytes": 2000, "event_bytes": 2000})
SENT = (("authorization", "Bearer x"), ("mcp-session-id", "s"), ("content-type", "application/json"))
LEG = BatchLeg("", "/tools", SENT, message("tools/call", {"name": "a__x"}), deadline=5.0)
RESPONSE = b'{"jsonrpc":"2.0","id":7,"result":{"n":1.50}}'
ASKED = b'{"jsonrpc":"2.0","id":"sealed","method":"elicitation/create"}'


class Door:
    """A front door that answers the first message with these bytes, and what follows with 202."""

    def __init__(self, status: int, content_type: str, body: bytes) -> None:
        self._first = web.Response(status=status, headers={"content-type": content_type}, body=body)
        self.received: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((request.path, headers, await request.read()))
        return self._first if len(self.received) == 1 else web.Response(status=202)


@asynccontextmanager
async def listening(door: Door) -> AsyncIterator[BatchClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", door.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with BatchClient(TcpAddress("127.0.0.1", runner.addresses[0][1]), CONFIG.limits) as front:
            yield front
    finally:
        await runner.cleanup()


def holding() -> Holding:
    return HeldBytes(1 << 20).holding("")


async def sent(door: Door) -> Outcome:
    async with listening(door) as front:
        return await front.send(LEG, holding())


async def test_a_message_goes_as_the_client_that_it_came_from() -> None:
    door = Door(200, "application/json", RESPONSE)
    assert await sent(door) == Answered("", 200, RESPONSE)
    [(path, headers, body)] = door.received
    assert (path, body) == ("/tools", LEG.body)
    assert set(SENT) <= headers.items()


async def test_headers_go_byte_for_byte() -> None:
    """Policies of Envoy's judge these bytes."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with BatchClient(TcpAddress("127.0.0.1", port), CONFIG.limits) as front:
            await front.send(
                replace(LEG, path="/tools?a=%2f&b=x+y", headers=(*SENT, ("x-team", "caf\xc3\xa9"))),
                holding(),
            )
    assert got[0].startswith(b"POST /tools?a=%2f&b=x+y HTTP/1.1\r\n")
    assert b"x-team: caf\xc3\xa9\r\n" in got[0]


@pytest.mark.parametrize(
    ("status", "content_type", "body", "answer"),
    [
        (202, "text/plain", b"", b""),
        (404, "application/json", b'{"error":{}}', b'{"error":{}}'),
        (503, "text/plain", b"no healthy upstream", b"no healthy upstream"),
        (302, "text/plain", b"", b""),
        (200, "text/event-stream", b"data: " + RESPONSE + b"\n\n", RESPONSE),
        (
            200,
            "text/event-stream",
            b": ka\n\nid: 1\ndata:\n\ndata: " + RESPONSE + b"\n\n",
            RESPONSE,
        ),
        (200, "text/event-stream", b"data: 1\n\ndata: nonsense\n\n", b""),
        (200, "text/event-stream", b"", b""),
    ],
)
async def test_answers(status: int, content_type: str, body: bytes, answer: bytes) -> None:
    """However the stream is cut; with an empty message where there is no response."""
    assert await sent(Door(status, content_type, body)) == Answered("", status, answer)


@flooded
async def test_others_have_their_turn_while_servers_flood(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with lines_parsed(monkeypatch) as parsed:
        answered = await sent(Door(200, "text/event-stream", flood + b"\n\ndata: " + RESPONSE + b"\n\n"))
    assert isinstance(answered, Answered)
    assert answered.message == RESPONSE
    assert sum(map(len, answered.told)) <= CONFIG.limits.response_bytes
    assert parsed.total() >= LEAST
    assert max(parsed.values()) <= MOST


async def test_what_a_server_tells_on_the_stream_of_a_batched_call_is_kept() -> None:
    """Until there is an answer to come before. What is too much is left out, and not the answer."""
    told = [json.dumps({"method": "x", "params": {"n": n}}).encode() for n in range(3)]
    large = json.dumps({"method": "x", "params": {"text": "x" * 1900}}).encode()
    stream = b"".join(b"data: %b\n\n" % text for text in (*told, large, RESPONSE))
    assert await sent(Door(200, "text/event-stream", stream)) == Answered("", 200, RESPONSE, tuple(told))


async def test_what_a_server_asks_on_the_stream_of_a_batched_call_is_declined() -> None:
    """An array of answers has no place for it, and a server that waited would keep the call from its end."""
    door = Door(200, "text/event-stream", b"data: " + ASKED + b"\n\ndata: " + RESPONSE + b"\n\n")
    assert await sent(door) == Answered("", 200, RESPONSE)
    _, (path, headers, body) = door.received
    declined = json.loads(body)
    assert (path, declined["id"], declined["error"]["code"]) == ("/tools", "sealed", -32601)
    assert set(SENT) <= headers.items()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"x" * 2001), ("text/event-stream", b"data: " + b"x" * 2001)],
)
async def test_answers_are_bounded(content_type: str, body: bytes) -> None:
    outcome = await sent(Door(200, content_type, body))
    assert isinstance(outcome, Failed)
    assert outcome.reason == "too_large"


async def test_a_door_that_is_closed() -> None:
    async with listening(Door(200, "application/json", b"")) as front:
        address = front._address
    async with BatchClient(address, CONFIG.limits) as front:
        outcome = await front.send(LEG, holding())
    assert isinstance(outcome, Failed)
    assert outcome.reason == "connect"


async def test_no_door() -> None:
    async with BatchClient(None, CONFIG.limits) as front:
        assert await front.send(LEG, holding()) == Failed("", "no_front_door", "batches are not set up")
