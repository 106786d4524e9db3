"""A scripted MCP server with event streams that a test speaks on by hand, and a client that reads such streams.

The server has what the SDKs' servers have: one GET stream for each session (a second one gets 409), and, if told to, an event
store, so that streams are resumed with ``Last-Event-ID``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

from tests.support.gateway import ACCEPT, Answer, TestClient, TestGateway
from tests.support.scripted import Received, ScriptedServer, answer
from tests.support.waiting import PATIENCE

_T = TypeVar("_T")

_ACCEPTED = {"logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
"""Requests that are answered with an empty result."""


class Channel:
    """One stream of a server: its events, and the connection that carries them at the moment.

    Args:
        name: event ids start with it.
        numbered: whether events have ids.
        message: the request that the stream answers; empty for the stream of a GET.
        session: whose stream it is.
    """

    def __init__(self, name: str, *, numbered: bool, message: dict[str, Any], session: str) -> None:
        self.name = name
        self.message = message
        self.session = session
        self.connections = 0
        self.connected = False
        self._numbered = numbered
        self._blocks: list[bytes] = []
        self._sent = 0
        self._finished = False
        self._transport: asyncio.Transport | None = None
        self._hung_up = False
        self._changed = asyncio.Condition()

    # -- What a test does -----------------------------------------------------------------------------------------------

    async def write(self, block: bytes) -> None:
        """Raw bytes, now or when somebody listens. Returns once they were written where somebody does."""
        self._blocks.append(block)
        await self._wake()
        if self.connected:
            await self.until(lambda: self._sent == len(self._blocks) or not self.connected)

    async def send(self, message: object, *, retry: int | None = None) -> None:
        """One event."""
        await self.write(self.block(json.dumps(message), retry=retry))

    def block(self, data: str, *, retry: int | None = None) -> bytes:
        """The bytes of an event, with its id where the server keeps events."""
        lines = [f"id: {self.name}/{len(self._blocks)}"] if self._numbered else []
        lines += [f"retry: {retry}"] if retry is not None else []
        return "\n".join([*lines, f"data: {data}", "\n"]).encode()

    async def prime(self, retry: int | None = None) -> None:
        """A priming event: an id without data (SEP-1699)."""
        await self.write(self.block("", retry=retry))

    async def tell(self, method: str, params: dict[str, Any] | None = None) -> None:
        """A notification."""
        await self.send({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})

    async def ask(self, id: int | str, method: str, params: dict[str, Any] | None = None) -> None:
        """A request of the server's."""
        await self.send(
            {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
        )

    async def log(self, text: str, level: str = "error") -> None:
        """A log message. Tests tell by one of these that nothing else came before it."""
        await self.tell("notifications/message", {"level": level, "data": text})

    async def answer(self, **members: Any) -> None:
        """The response; then the stream ends."""
        await self.send({"jsonrpc": "2.0", "id": self.message["id"], **members})
        await self.finish()

    async def finish(self) -> None:
        """The stream is over."""
        self._finished = True
        await self._wake()

    async def hang_up(self) -> None:
        """End the connection, as servers do that want to be polled; the stream goes on."""
        self._hung_up = True
        await self._wake()
        await self.until(lambda: not self.connected)

    def cut(self) -> None:
        """The connection breaks."""
        assert self._transport is not None
        self._transport.abort()

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait for a state of this stream."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(ready)

    async def left(self) -> None:
        """Whoever listened is gone."""
        await self.until(lambda: not self.connected)

    # -- What the server does -------------------------------------------------------------------------------------------

    def position(self, event_id: str | None) -> int | None:
        """Where to go on after an event; ``None`` for an event of another stream."""
        if event_id is None:
            return len(self._blocks) if self._numbered and self.connections else 0
        name, _, number = event_id.rpartition("/")
        return int(number) + 1 if name == self.name and int(number) < len(self._blocks) else None

    async def serve(self, request: web.Request, start: int) -> web.StreamResponse:
        """Carry the events to one connection until it or the stream ends."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        await response.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self._transport, self._hung_up, self._sent = request.transport, False, start
        self.connected, self.connections = True, self.connections + 1
        try:
            await self._wake()
            while not self._hung_up:
                while self._sent < len(self._blocks):
                    await response.write(self._blocks[self._sent])
                    self._sent += 1
                    await self._wake()
                if self._finished:
                    break
                async with self._changed:
                    await self._changed.wait_for(
                        lambda: self._sent < len(self._blocks) or self._finished or self._hung_up
                    )
            await response.write_eof()
        finally:
            self.connected = False
            await self._wake()
        return response

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@dataclass
class StreamingServer(ScriptedServer):
    """A server with streams. Calls of tools named in ``streamed`` are answered by the test, through :meth:`called`."""

    capabilities: dict[str, Any] = field(
        default_factory=lambda: {
            "tools": {"listChanged": True},
            "logging": {},
            "resources": {"subscribe": True, "listChanged": True},
        }
    )
    keeps_events: bool = False
    """Whether events have ids, and streams can be resumed."""
    get_status: int = 200
    """Answer to GETs: another status than 200 refuses them."""
    resume_statuses: list[int] = field(default_factory=list)
    """Answers to the next GETs with ``Last-Event-ID``, before they are served."""
    streamed: set[str] = field(default_factory=lambda: {"stream"})
    channels: list[Channel] = field(default_factory=list)
    _opened: asyncio.Queue[Channel] = field(default_factory=asyncio.Queue)
    _called: asyncio.Queue[Channel] = field(default_factory=asyncio.Queue)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    # -- What a test does -----------------------------------------------------------------------------------------------

    async def opened(self) -> Channel:
        """The next stream that a GET opened, or opened again."""
        async with asyncio.timeout(PATIENCE):
            return await self._opened.get()

    async def called(self) -> Channel:
        """The stream of the next call that the test has to answer."""
        async with asyncio.timeout(PATIENCE):
            return await self._called.get()

    async def until(self, ready: Callable[[], _T]) -> _T:
        """What ``ready`` says, as soon as it is true. It is asked after each request that arrives."""
        async with asyncio.timeout(PATIENCE), self._news:
            return await self._news.wait_for(ready)

    @property
    def gets(self) -> list[Received]:
        """All GETs."""
        return [request for request in self.received if request.http_method == "GET"]

    @property
    def deletes(self) -> list[Received]:
        """All DELETEs."""
        return [request for request in self.received if request.http_method == "DELETE"]

    @property
    def answers(self) -> list[Received]:
        """All answers of clients to requests of this server."""
        posts = [request for request in self.received if request.http_method == "POST"]
        return [post for post in posts if "method" not in post.message]

    async def answered(self, count: int = 1) -> list[Received]:
        """The answers of clients, once there are as many."""
        return await self.until(lambda: self.answers[:count] if len(self.answers) >= count else [])

    async def restart(self) -> None:
        """Come back on the same port; sessions, streams and events are forgotten."""
        self.channels.clear()
        await super().restart()

    # -- What it does by itself -----------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.method == "GET":
                return await self._listen(request)
            body = await request.read()
            message = json.loads(body) if body else {}
            if message.get("method") == "tools/call" and message["params"]["name"] in self.streamed:
                return await self._call(request, message)
            return await self._plain(request, message)
        finally:
            await self._tell()

    async def _plain(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        method = message.get("method")
        known = request.headers.get("mcp-session-id") in self.sessions
        if "method" not in message and request.method == "POST":
            await self._record(request)
            return web.Response(status=202 if known else 404)
        if known and method in _ACCEPTED and method not in self.on:
            await self._record(request)
            return answer(message, result={})
        if request.method == "DELETE":
            for channel in self.channels:
                if channel.session == request.headers.get("mcp-session-id"):
                    await channel.finish()
        # It is recorded before anything is awaited, and its handler may take long.
        told = asyncio.create_task(self._tell())
        try:
            return await super()._serve(request)
        finally:
            await told

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        session, last = request.headers.get("mcp-session-id", ""), request.headers.get("last-event-id")
        if self.get_status != 200:
            return web.Response(status=self.get_status)
        if not self.stateless and session not in self.sessions:
            return web.Response(status=self.lost_status)
        if last is not None and self.resume_statuses:
            return web.Response(status=self.resume_statuses.pop(0))
        if last is not None and not self.keeps_events:
            return web.Response(status=500)  # as the Python SDK's, without an event store
        own = [channel for channel in self.channels if channel.session == session]
        if last is not None:
            for channel in own:
                if (position := channel.position(last)) is not None:
                    return await self._carry(channel, request, position)
            return web.Response(status=400)
        standing = [channel for channel in own if not channel.message]
        if any(channel.connected for channel in standing):
            return web.Response(status=409)
        if self.keeps_events and standing:
            return await self._carry(standing[0], request, standing[0].position(None) or 0)
        return await self._carry(self._channel({}, session), request, 0)

    async def _carry(self, channel: Channel, request: web.Request, start: int) -> web.StreamResponse:
        if channel.connected:
            return web.Response(status=409)
        self._opened.put_nowait(channel)
        return await channel.serve(request, start)

    async def _call(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        await self._record(request)
        session = request.headers.get("mcp-session-id", "")
        if not self.stateless and session not in self.sessions:
            return web.Response(status=self.lost_status)
        channel = self._channel(message, session)
        self._called.put_nowait(channel)
        return await channel.serve(request, 0)

    def _channel(self, message: dict[str, Any], session: str) -> Channel:
        name = f"{session}.{len(self.channels)}"
        channel = Channel(name, numbered=self.keeps_events, message=message, session=session)
        self.channels.append(channel)
        return channel

    async def _record(self, request: web.Request) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.method, request.path_qs, headers, await request.read()))
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


# -- Clients ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One event, or (``data`` is ``None``) a block without any."""

    data: str | None
    id: str | None
    retry: int | None
    raw: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The JSON-RPC message in it."""
        assert self.data, self.raw
        parsed = json.loads(self.data)
        assert isinstance(parsed, dict)
        return parsed


class Events:
    """A client's end of a stream. A reader of its own, so that the product is not tested against itself."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.status = response.status
        self.last_id: str | None = None
        self._buffer = b""

    async def block(self) -> Event | None:
        """The next block, comments included; ``None`` at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while b"\n\n" not in self._buffer:
                chunk = await self.response.content.readany()
                if not chunk:
                    assert not self._buffer, self._buffer
                    return None
                self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\n\n")
        event = _event(raw)
        self.last_id = event.id or self.last_id
        return event

    async def event(self) -> Event | None:
        """The next block that is no comment."""
        while (event := await self.block()) is not None and event.data is None:
            continue
        return event

    async def message(self) -> dict[str, Any]:
        """The next message."""
        event = await self.event()
        assert event is not None, "the stream ended"
        return event.message

    async def rest(self) -> list[dict[str, Any]]:
        """All messages until the stream ends."""
        messages = []
        while (event := await self.event()) is not None:
            if event.data:
                messages.append(event.message)
        return messages

    async def read(self) -> Answer:
        """The whole body of an answer that is no stream."""
        return Answer(self.status, self.response.headers, await self.response.read())


def _event(raw: bytes) -> Event:
    data: list[str] = []
    id = retry = None
    for line in raw.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                data.append(value)
            case "id":
                id = value
            case "retry":
                retry = int(value)
            case "" | "event":
                pass
            case _:
                raise AssertionError(raw)
    return Event("\n".join(data) if data else None, id, retry, raw)


@asynccontextmanager
async def listen(
    gateway: TestClient, session: str, last_event_id: str | None = None, **headers: str
) -> AsyncIterator[Events]:
    """A GET of a client. Leaving it drops the connection."""
    fields = {"accept": "text/event-stream", "mcp-session-id": session}
    if last_event_id is not None:
        fields["last-event-id"] = last_event_id
    async with _request(gateway, "GET", None, fields | headers) as events:
        yield events


@asynccontextmanager
async def calling(
    gateway: TestClient,
    session: str,
    name: str,
    *,
    id: Any = 1,
    meta: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> AsyncIterator[Events]:
    """A call of a tool whose answer is read as a stream. Leaving it drops the connection."""
    params: dict[str, Any] = {"name": name, "arguments": arguments or {}}
    if meta is not None:
        params["_meta"] = meta
    body = json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()
    fields = {"accept": ACCEPT, "content-type": "application/json", "mcp-session-id": session}
    async with _request(gateway, "POST", body, fields) as events:
        yield events


@asynccontextmanager
async def _request(
    gateway: TestClient, method: str, body: bytes | None, headers: Mapping[str, str]
) -> AsyncIterator[Events]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE * 2)
    async with gateway.http.request(method, gateway.url, data=body, headers=headers, timeout=timeout) as response:
        yield Events(response)


@asynccontextmanager
async def two(
    start: Callable[..., Any], *, keeps_events: bool = False, **config: Any
) -> AsyncIterator[tuple[StreamingServer, StreamingServer, TestGateway]]:
    """Two servers, ``alpha`` and ``beta``, behind one gateway. Because of ``beta``, Envoy expects event streams."""
    async with (
        StreamingServer("alpha", keeps_events=keeps_events) as alpha,
        StreamingServer("beta", keeps_events=keeps_events, begins_in_events=True) as beta,
        start({"alpha": alpha.url, "beta": beta.url}, **config) as gateway,
    ):
        yield alpha, beta, gateway


async def reply(gateway: TestClient, session: str, id: Any, **members: Any) -> Answer:
    """A client's answer to a request of a server."""
    body = json.dumps({"jsonrpc": "2.0", "id": id, **members}).encode()
    return await gateway.send(body, mcp_session_id=session)
