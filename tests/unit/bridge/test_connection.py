"""Connections to HTTP+SSE servers, against a server that does what a test wants. Real servers: tests/e2e/test_sse.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.bridge import connection
from mcp_extproc.bridge.connection import Connection, endpoint
from mcp_extproc.bridge.lines import TooLong
from mcp_extproc.bridge.messages import Incoming
from mcp_extproc.bridge.peer import NotRead
from mcp_extproc.bridge.spec import Bridged, SseServer, sse_servers
from mcp_extproc.config import GatewayConfig
from tests.support.waiting import eventually

ORIGINS = frozenset({"https://old.example:443", "http://10.0.0.7:80"})
ENDPOINT = b"event: endpoint\ndata: /messages?id=7\n\n"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"/messages?session_id=a%2Fb", "/messages?session_id=a%2Fb"),
        (b"messages", "/deep/messages"),
        (b"?id=1", "/deep/sse?id=1"),
        (b"https://old.example/m?id=1", "/m?id=1"),
        (b"https://OLD.example:443", "/"),
        (b"http://10.0.0.7/m", "/m"),
    ],
)
def test_endpoints_of_the_server_itself(data: bytes, path: str) -> None:
    assert endpoint(data, "/deep/sse?key=1", ORIGINS) == path


@pytest.mark.parametrize(
    "data",
    [
        b"https://evil.example/m",
        b"//evil.example/m",
        b"http://old.example/m",
        b"https://old.example:8443/m",
        b"https://old.example@evil.example/m",
        b"https://user:hush@old.example/m",
        b"https://old.example:x/m",
        b"javascript:alert(1)",
        b"file:///etc/passwd",
        b"/m\nx",
        b"/with blank",
        "/ä".encode(),
        b"\xff",
        b"/" + b"a" * 5000,
    ],
)
def test_endpoints_elsewhere_are_refused(data: bytes) -> None:
    with pytest.raises(connection._Failed, match="not at its own origin"):
        endpoint(data, "/sse", ORIGINS)


@dataclass
class Server:
    """What it sends, and what it was sent."""

    send: list[bytes] = field(default_factory=lambda: [ENDPOINT])
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    """Instead of the event stream."""
    take: Callable[[Any], Awaitable[int]] | None = None
    """The status that answers a message."""
    more: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    """Sent later; ``None`` closes the stream."""
    posts: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    streams: int = 0
    """That are open."""

    async def get(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None:
            return await self.answer(request)
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        self.streams += 1
        try:
            for chunk in self.send:
                await response.write(chunk)
            while (more := await self.more.get()) is not None:
                await response.write(more)
            await response.write_eof()
        finally:
            self.streams -= 1
        return response

    async def post(self, request: web.Request) -> web.Response:
        message = await request.json()
        self.posts.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}, message))
        return web.Response(status=202 if self.take is None else await self.take(message))


@dataclass
class Stage:
    """A connection, and what it received."""

    peer: Connection
    received: list[Any]

    async def ended(self) -> str:
        async with asyncio.timeout(30):
            await self.peer.ended.wait()
        return self.peer.ending_text


@asynccontextmanager
async def connected(server: Server, **options: Any) -> AsyncIterator[Stage]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.get)
    app.router.add_post("/{path:.*}", server.post)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    received: list[Any] = []

    async def receive(message: Incoming | TooLong) -> None:
        assert isinstance(message, Incoming)
        received.append(json.loads(message.text))

    peer = await Connection.start("old", spec(upstreams=f"{host}:{port}", **options), receive)
    try:
        yield Stage(peer, received)
    finally:
        await peer.end()
        await runner.cleanup()


def spec(**options: Any) -> SseServer:
    return SseServer(**{
        "authority": "old.example",
        "upstreams": "127.0.0.1:1",
        "path": "/sse?key=hush-hush-1",
        "origins": ("http://old.example:80",),
        "headers": (("authorization", "Bearer hush-hush-2"),),
        "start_timeout": 20.0,
        "answer_within": 20.0,
        "idle_timeout": 600.0,
        "request_bytes": 1 << 16,
        "event_bytes": 1 << 16,
        **options,
    })  # fmt: skip


def ask(id: int, method: str = "tools/list") -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method}).encode()


def tell(number: int) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/x", "params": {"n": number}}).encode()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.__dict__["mcp_fields"] for record in caplog.records if record.getMessage() == event]


async def test_messages_go_to_the_endpoint_once_it_is_known() -> None:
    server = Server(send=[])
    async with connected(server) as stage:
        stage.peer.write(ask(1))
        await eventually(lambda: server.streams, "its event stream")
        assert server.posts == []
        server.more.put_nowait(ENDPOINT[:20])
        server.more.put_nowait(ENDPOINT[20:])
        [(path, headers, message)] = await eventually(lambda: server.posts, "the message")
        assert (path, message["id"]) == ("/messages?id=7", 1)
        assert headers["authorization"] == "Bearer hush-hush-2"
        assert (headers["x-mcp-server"], headers["content-type"]) == ("old/sse", "application/json")
        server.more.put_nowait(b'event: message\ndata: {"jsonrpc": "2.0",\ndata: "id": 1, "result": {}}\n\n')
        await eventually(lambda: stage.received, "the answer", until=lambda seen: seen[0:1] == [ANSWER])


ANSWER = {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_only_the_first_endpoint_counts_and_other_events_are_passed_over() -> None:
    server = Server(send=[
        b": hello\n\n", b"event: ping\ndata: {}\n\n", b"event: endpoint\ndata:\n\n", ENDPOINT,
        b"event: endpoint\ndata: /other\n\n", b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n',
    ])  # fmt: skip
    async with connected(server) as stage:
        await eventually(lambda: stage.received, "the message", until=lambda seen: seen == [ANSWER])
        stage.peer.write(ask(2))
        await eventually(
            lambda: [path for path, _, _ in server.posts], "a", until=lambda seen: seen == ["/messages?id=7"]
        )


async def test_an_endpoint_elsewhere_ends_it() -> None:
    server = Server(send=[b"event: endpoint\ndata: http://127.0.0.1:1/messages\n\n"])
    async with connected(server) as stage:
        stage.peer.write(ask(1))
        assert await stage.ended() == "named an endpoint for messages that is not at its own origin, so it is not used"
        assert server.posts == []
        with pytest.raises(NotRead, match="has ended"):
            stage.peer.write(ask(2))


async def test_without_an_endpoint_only_so_much_is_kept() -> None:
    async with connected(Server(send=[])) as stage:
        large = tell(1) + b" " * (1 << 16)
        stage.peer.write(large)
        stage.peer.write(large)
        with pytest.raises(NotRead, match="does not take messages"):
            stage.peer.write(tell(1))


async def test_without_an_endpoint_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MAX_UNSENT", 2)
    async with connected(Server(send=[])) as stage:
        stage.peer.write(tell(1))
        stage.peer.write(tell(2))
        with pytest.raises(NotRead, match="does not take messages"):
            stage.peer.write(tell(3))


async def test_an_event_over_the_bound_ends_it() -> None:
    async with connected(Server(send=[ENDPOINT, b"data: " + b"x" * (1 << 17)])) as stage:
        assert await stage.ended() == "sent an event that is larger than limits.event_bytes"


async def test_what_is_no_message_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(send=[ENDPOINT, b"data: my key is hush-hush-2\n\n" * 1000])
    async with connected(server) as stage:
        server.more.put_nowait(b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')
        await eventually(lambda: stage.received, "the message", until=lambda seen: seen == [ANSWER])
    found = logged(caplog, "event_is_no_message")
    assert found[0] == {"server": "old", "data": "my key is [redacted]"}
    assert 0 < len(found) < 100


async def test_a_stream_that_closes_ends_it() -> None:
    server = Server()
    async with connected(server) as stage:
        server.more.put_nowait(None)
        assert await stage.ended() == "has closed its event stream"
        assert not stage.peer.was_asked


async def test_its_end_closes_the_stream() -> None:
    server = Server()
    async with connected(server) as stage:
        await eventually(lambda: server.streams, "its event stream")
        await stage.peer.end()
        assert stage.peer.was_asked
        await eventually(lambda: server.streams, "its end", until=lambda count: count == 0)


@pytest.mark.parametrize(
    ("status", "headers", "text"),
    [
        (401, {"content-type": "text/plain"}, "answered HTTP 401 with text/plain, not with events"),
        (200, {"content-type": "text/html"}, "answered HTTP 200 with text/html, not with events"),
        (503, {"x-mcp-upstream-failure": "UpstreamConnectionFailure"}, "is unreachable (UpstreamConnectionFailure)"),
        (
            307,
            {"location": "http://evil.example/sse"},
            "answered HTTP 307, a redirect to another origin, which is not followed",
        ),
    ],
)
async def test_no_event_stream(status: int, headers: dict[str, str], text: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    async with connected(Server(answer=answer)) as stage:
        assert await stage.ended() == text


async def test_nobody_listens() -> None:
    async def receive(_: Incoming | TooLong) -> None: ...

    peer = await Connection.start("old", spec(), receive)
    async with asyncio.timeout(30):
        await peer.ended.wait()
    assert peer.ending_text == "has lost its event stream (ClientConnectorError)"


async def test_redirects_within_the_server_are_followed() -> None:
    server = Server(send=[b"event: endpoint\ndata: messages\n\n"])

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.path_qs == "/sse?key=hush-hush-1"
        server.answer = None
        return web.Response(status=307, headers={"location": "http://old.example/sse/"})

    server.answer = answer
    async with connected(server) as stage:
        stage.peer.write(ask(1))
        [(path, _, _)] = await eventually(lambda: server.posts, "the message")
        assert path == "/sse/messages"


async def test_a_request_that_is_refused_is_answered() -> None:
    async def refuse(_: Any) -> int:
        return 500

    async with connected(Server(take=refuse)) as stage:
        stage.peer.write(ask(5))
        [answer] = await eventually(lambda: stage.received, "the answer")
        assert (answer["id"], answer["error"]["message"]) == (5, "The server old answered HTTP 500 to a message.")
        assert not stage.peer.ended.is_set()


async def test_a_notification_that_is_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_: Any) -> int:
        return 400

    async with connected(Server(take=refuse)) as stage:
        stage.peer.write(tell(1))
        await eventually(lambda: logged(caplog, "message_not_taken"), "its log entry")
        assert stage.received == []


async def test_a_session_that_the_server_does_not_know_ends_it() -> None:
    async def refuse(_: Any) -> int:
        return 404

    async with connected(Server(take=refuse)) as stage:
        stage.peer.write(ask(1))
        assert await stage.ended() == "does not know its session any more"


async def test_notifications_stay_in_order_and_requests_hold_up_nobody() -> None:
    """Some servers acknowledge a request only when it is answered."""
    free, slow = asyncio.Event(), asyncio.Event()

    async def take(message: Any) -> int:
        await (free if message.get("id") == 1 else slow).wait()
        return 202

    server = Server(take=take)
    async with connected(server) as stage:
        stage.peer.write(ask(1))
        await eventually(lambda: server.posts, "the request")
        stage.peer.write(tell(1))
        await eventually(lambda: len(server.posts), "the notification", until=lambda count: count == 2)
        for number in (2, 3):
            stage.peer.write(tell(number))
        slow.set()
        await eventually(lambda: len(server.posts), "the others", until=lambda count: count == 4)
        assert [message["params"]["n"] for _, _, message in server.posts[1:]] == [1, 2, 3]
        free.set()


def test_what_the_bridge_is_told() -> None:
    config = GatewayConfig.model_validate({
        "servers": {
            "old": {
                "endpoints": ["old.example:80", "10.0.0.7:81"], "path": "/deep/sse?key=hush", "transport": "sse",
                "headers": {"X-Key": "hush"}, "discovery_timeout": "5s",
            },
            "new": {"url": "http://new.example/mcp"},
            "some": {"url": "http://some.example/mcp", "transport": "auto"},
        },
    })  # fmt: skip
    told = sse_servers(config, TcpAddress("127.0.0.1", 9003))
    assert told.keys() == {"old"}
    old: Bridged = told["old"]
    assert old == spec(
        authority="old.example:80", upstreams="127.0.0.1:9003", path="/deep/sse?key=hush", headers=(("x-key", "hush"),),
        origins=("http://10.0.0.7:81", "http://old.example:80"), start_timeout=4.0, answer_within=4.0,
        timeout_key="discovery_timeout", request_bytes=4 << 20, event_bytes=10 << 20,
    )  # fmt: skip
    assert "hush" not in repr(old)
