"""Connections to HTTP+SSE servers, against a server that does what a test wants. Real servers: tests/e2e/test_sse.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_extproc.bridge import connection, peer
from mcp_extproc.bridge.connection import Connection, endpoint
from mcp_extproc.bridge.lines import Skipped
from mcp_extproc.bridge.messages import Incoming, Outgoing
from mcp_extproc.bridge.peer import NotRead
from mcp_extproc.bridge.places import Places
from mcp_extproc.bridge.pool import Pool
from mcp_extproc.bridge.sharing import Private
from mcp_extproc.bridge.spec import SseServer
from mcp_extproc.held import HeldBytes
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.upstreams.turns import Turns
from tests.support.rounds import LEAST, MOST, flooded, lines_parsed
from tests.support.waiting import PATIENCE, eventually
from tests.unit.bridge.support import HELD, conversation

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
    inbox: Inbox

    async def ended(self) -> str:
        async with asyncio.timeout(PATIENCE):
            await self.peer.ended.wait()
        return self.peer.ending_text


class Inbox:
    """Takes what the server says."""

    def __init__(self, held: HeldBytes | None = None) -> None:
        holding = (held or HeldBytes(HELD)).holding("")
        self.reading, self.unsent = holding.part(), holding.part()
        self.received: list[Any] = []
        self.whys: list[str | None] = []
        """Of errors that the bridge says are its own."""

    async def receive(self, message: Incoming | Skipped) -> None:
        assert isinstance(message, Incoming)
        self.received.append(json.loads(message.text))
        self.whys.append(message.why)


@asynccontextmanager
async def connected(
    server: Server, held: HeldBytes | None = None, places: Places | None = None, **options: Any
) -> AsyncIterator[Stage]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.get)
    app.router.add_post("/{path:.*}", server.post)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    inbox = Inbox(held)
    peer = await Connection.start(
        "old", spec(upstreams=f"{host}:{port}", **options), Turns(), places or Places(100), inbox
    )
    try:
        yield Stage(peer, inbox.received, inbox)
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
        "most": 1000,
        "timeout": 300.0,
        "start_timeout": 20.0,
        "answer_within": 20.0,
        "lent_after": 3.0,
        "idle_timeout": 600.0,
        "request_bytes": 1 << 16,
        "event_bytes": 1 << 16,
        **options,
    })  # fmt: skip


def ask(id: int) -> Outgoing:
    return Outgoing(json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/list"}).encode(), b"%d" % id)


def tell(number: int) -> Outgoing:
    return Outgoing(json.dumps({"jsonrpc": "2.0", "method": "notifications/x", "params": {"n": number}}).encode())


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
        large = Outgoing(tell(1).text + b" " * (1 << 16))
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
        (
            401,
            {"content-type": "text/plain"},
            (
                "answered HTTP 401 with text/plain, not with events"
                ": it refuses the credentials in headers.Authorization, look whether they are still valid"
            ),
        ),
        (
            404,
            {"content-type": "text/plain"},
            (
                "answered HTTP 404 with text/plain, not with events: is its path right? "
                'For Streamable HTTP, set "type": "http" (in YAML transport: streamable_http)'
            ),
        ),
        (500, {"content-type": "text/plain"}, "answered HTTP 500 with text/plain, not with events"),
        (200, {"content-type": "text/html"}, "answered HTTP 200 with text/html, not with events"),
        (503, {"x-mcp-upstream-failure": "UpstreamConnectionFailure"}, "is unreachable (UpstreamConnectionFailure)"),
        (
            307,
            {"location": "http://evil.example/hush-hush-2?key=hush-hush-2"},
            "answered HTTP 307, a redirect to http://evil.example/[redacted], which is not followed",
        ),
    ],
)
async def test_no_event_stream(status: int, headers: dict[str, str], text: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    async with connected(Server(answer=answer)) as stage:
        assert await stage.ended() == text


async def test_who_waits_for_its_end_does_so_no_longer_though_closing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bug(Exception):
        """Nobody expects it."""

    async def breaks(_: aiohttp.ClientSession) -> None:
        raise Bug

    peer = await Connection.start("old", spec(), Turns(), Places(0), Inbox())
    with monkeypatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "close", breaks)
        with pytest.raises(Bug):
            await peer.end()
    assert peer.ended.is_set()
    await peer._http.close()


@pytest.mark.parametrize("down", [3, 4])
async def test_replicas_that_are_down_are_passed_over(down: int) -> None:
    """Envoy chooses a replica by a header; messages go where the event stream is."""
    server, asked = Server(), []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["x-mcp-connection"])
        if len(asked) == down:
            server.answer = None
        return web.Response(status=503, headers={"x-mcp-upstream-failure": "UpstreamConnectionFailure"})

    server.answer = answer
    async with connected(server, origins=("http://10.0.0.1:80", "http://10.0.0.2:80")) as stage:
        if down == 4:
            assert await stage.ended() == "is unreachable (UpstreamConnectionFailure)"
        else:
            stage.peer.write(ask(1))
            [(_, headers, _)] = await eventually(lambda: server.posts, "the message")
            assert headers["x-mcp-connection"] not in asked
        assert len({*asked}) == down


@flooded
async def test_others_have_their_turn_while_a_server_floods(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(send=[ENDPOINT + flood])
    server.more.put_nowait(None)
    with lines_parsed(monkeypatch) as parsed:
        async with connected(server) as stage:
            assert await stage.ended() == "has closed its event stream"
    assert parsed.total() >= LEAST
    assert max(parsed.values()) <= MOST


async def test_nobody_listens() -> None:
    peer = await Connection.start("old", spec(), Turns(), Places(0), Inbox())
    async with asyncio.timeout(PATIENCE):
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
        assert stage.inbox.whys == ["answered HTTP 500 to a message"]
        assert not stage.peer.ended.is_set()


async def test_a_request_that_is_refused_is_answered_however_many_members_it_has() -> None:
    """What a client may send was decided before: here is no second bound, which would leave the client without an answer."""
    many = b"0," * 1_000_001 + b"0"
    message = envelope.read(b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"many":[%s]}}' % many)
    own = conversation()
    outgoing = Private(own).outgoing(own, message)
    assert outgoing is not None
    async with connected(Server()) as stage:
        stage.peer.write(outgoing)  # more than aiohttp's server takes
        [answer] = await eventually(lambda: stage.received, "the answer")
        assert (answer["id"], answer["error"]["code"]) == (5, -32603)


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


async def test_a_server_that_acknowledges_late_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_IN_ORDER_SECONDS", 0.05)

    async def take(message: Any) -> int:
        await asyncio.sleep(0 if "id" in message else 3600)
        return 202

    server = Server(take=take)
    async with connected(server) as stage:
        stage.peer.write(tell(1))
        stage.peer.write(ask(1))
        await eventually(lambda: len(server.posts), "the request", until=lambda count: count == 2)
        monkeypatch.setattr(connection, "_IN_ORDER_SECONDS", 3600.0)
        stage.peer.write(tell(2))
        stage.peer.write(ask(2))
        await eventually(lambda: len(server.posts), "the others at once", until=lambda count: count == 4)


async def test_a_message_that_is_never_acknowledged_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "_TAKEN_SECONDS", 0.05)

    async def never(_: Any) -> int:
        await asyncio.sleep(3600)
        return 202

    async with connected(Server(take=never)) as stage:
        stage.peer.write(tell(1))
        [fields] = await eventually(lambda: logged(caplog, "message_not_taken"), "its log entry")
        assert fields["why"] == "has not acknowledged a message within 0.05 s"
        await eventually(lambda: stage.peer._unsent, "nothing is left of it", until=lambda count: count == 0)


async def test_only_so_many_requests_are_open_and_each_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others of the client's messages are not held up by them."""
    monkeypatch.setattr(connection, "_MOST_OPEN", 2)
    monkeypatch.setattr(connection, "_ACKNOWLEDGED_SECONDS", 0.0)

    async def take(message: Any) -> int:
        await asyncio.sleep(3600 if "id" in message else 0)
        return 202

    server = Server(take=take)
    async with connected(server) as stage:
        for id in (1, 2, 3):
            stage.peer.write(ask(id))
        stage.peer.write(tell(1))
        seen = await eventually(lambda: list(server.posts), "what is sent", until=lambda seen: len(seen) == 3)
        assert [message.get("id") for _, _, message in seen] == [1, 2, None]
        server.more.put_nowait(b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')
        await eventually(lambda: server.posts[3:], "the third")
        assert stage.received == [ANSWER]
        await eventually(lambda: len(stage.peer._asking), "those that are open", until=lambda count: count == 2)


async def test_a_server_that_acknowledges_nothing_does_not_take_all_descriptors() -> None:
    """Others need some for their messages. One is the connection's own."""

    async def take(message: Any) -> int:
        await asyncio.sleep(3600)
        return 202

    server, places = Server(take=take), Places(1)
    async with connected(server, places=places) as stage:
        for id in (1, 2):
            stage.peer.write(ask(id))
        await eventually(lambda: server.posts[1:], "two that are open")
        stage.peer.write(ask(3))
        [refused] = await eventually(lambda: stage.received, "its answer")
        assert (refused["id"], "ulimit -n" in refused["error"]["message"]) == (3, True)
    assert places.take(1)


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/Hush-Hush-3"}, {"x-mcp-upstream-failure": "Hush-Hush-3"}],
    ids=["type", "failure"],
)
async def test_a_server_that_repeats_credentials_is_not_quoted(headers: dict[str, str]) -> None:
    """They would reach the log, and clients."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers=headers)

    async with connected(Server(answer=answer), headers=(("x-key", "Hush-Hush-3"),)) as stage:
        text = await stage.ended()
    assert "hush" not in text.lower()
    assert "[redacted]" in text


async def test_an_open_request_ends_before_the_servers_time_is_up_and_its_call_goes_on() -> None:
    async def never(_: Any) -> int:
        await asyncio.sleep(3600)
        return 202

    async with connected(Server(take=never), timeout=0.05) as stage:
        stage.peer.write(ask(1))
        await eventually(lambda: stage.peer._unsent, "its POST is over", until=lambda count: count == 0)
        assert stage.received == []
        assert not stage.peer.is_ending


async def test_headers_of_the_clients_request_go_along_and_configured_ones_win() -> None:
    server = Server()
    async with connected(server) as stage:
        stage.peer.write(ask(1), (("traceparent", "00-a-b-01"), ("authorization", "the client's")))
        [(_, headers, _)] = await eventually(lambda: server.posts, "the message")
        assert (headers["traceparent"], headers["authorization"]) == ("00-a-b-01", "Bearer hush-hush-2")


async def test_an_event_that_there_is_no_room_for_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "ROOM_SECONDS", 0.01)
    event = b"data: " + b"x" * 50_000
    async with connected(Server(send=[ENDPOINT, event]), held=HeldBytes(100_000)) as stage:
        assert (await stage.ended()).startswith("sent an event that was not read: the bridge holds as much as it may")


async def test_messages_that_there_is_no_room_for_are_refused() -> None:
    async with connected(Server(send=[]), held=HeldBytes(100_000)) as stage:
        stage.peer.write(Outgoing(tell(1).text + b" " * 20_000))
        with pytest.raises(NotRead, match="has not taken all messages, and the bridge holds as much as it may"):
            stage.peer.write(Outgoing(tell(1).text + b" " * 20_000))


async def test_no_more_connections_than_are_allowed() -> None:
    async def start(_: peer.Inbox) -> Connection:
        raise AssertionError

    body = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
    request = envelope.parse(body, 9, 1000)
    assert isinstance(request, envelope.Request)
    pool = Pool("old", spec(most=0), start, HeldBytes(HELD), Places(1000))
    with pytest.raises(McpError, match=r"The server old has all of its 0 connections in use \(max_sessions\)"):
        await pool.open(request)
