"""One connection to an HTTP+SSE server: a GET whose event stream brings the server's messages, and a POST for each message to
it. The connection is the session.

Source: MCP 2024-11-05 basic/transports, HTTP with SSE. The server is reached through Envoy's private listener, which knows its
addresses, TLS and limits.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace

import aiohttp

from mcp_extproc.address import parse_address
from mcp_extproc.bridge.messages import Key, Kind, Outgoing, failure, key_of, read, reading
from mcp_extproc.bridge.peer import NO_ROOM, HasEnded, Inbox, NotRead, kept
from mcp_extproc.bridge.places import NO_PLACE, Places
from mcp_extproc.bridge.said import LOOKED_AT_BYTES, Allowance, plain
from mcp_extproc.bridge.spec import SseServer
from mcp_extproc.contract import CONNECTION_HEADER, FAILURE_HEADER, OVER_SSE, SERVER_HEADER
from mcp_extproc.gateway.advice import advice_on
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.gateway.request import Headers
from mcp_extproc.mcp import transport
from mcp_extproc.mcp.sse import EventTooLarge, SseEvent, SseParser, portions
from mcp_extproc.tasks import Tasks, in_slices
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams import redirects
from mcp_extproc.upstreams.private_listener import BROKEN, attempts, http_session
from mcp_extproc.upstreams.turns import Turns

_MESSAGE = "message"

_UNSENT_MESSAGES = 2
"""As many of the largest size may wait for a server that does not take them."""

_MAX_UNSENT = 2000
"""As many of any size."""

_IN_ORDER_SECONDS = 1.0
"""How long a message waits until notifications and answers before it are taken. Requests are not waited for: some servers
acknowledge one only when it is answered, and ask for other things meanwhile."""

_TAKEN_SECONDS = 30.0
"""How long a server may take to acknowledge a notification or an answer."""

_ACKNOWLEDGED_SECONDS = 1.0
"""How long it may take to acknowledge a request that it has answered already."""

_MOST_OPEN = 100
"""Most requests that it has not acknowledged, and most other messages. Further ones wait."""

_PATIENCE = 0.9
"""Part of the server's time-out after which an open POST is closed: the call itself goes on. Envoy would fail it."""

_LINE_CHARACTERS = 200
_LOG = log.logger("bridge")


class _Failed(Exception):
    """The server can't be used. ``str()`` is a clause that says why."""


class _Unreachable(_Failed):
    """Envoy has not reached it, or not the replica that it chose."""


class _Unknown(_Failed):
    """The server does not know the session."""


class Connection:
    """One session's connection.

    Args:
        name: of the server.
        spec: where it is reached.
        turns: of all that is read of servers.
        places: for POSTs that are open at a time. Each connection has one for its event stream, and one for a POST.
        inbox: takes the server's messages.
    """

    def __init__(self, name: str, spec: SseServer, turns: Turns, places: Places, inbox: Inbox) -> None:
        self._name = name
        self._spec = spec
        self._turns = turns
        self._places = places
        self._posting = 0
        """POSTs that are open."""
        self._inbox = inbox
        self._http, self._base = http_session(parse_address(spec.upstreams))
        self._headers = dict(
            (*spec.headers, (SERVER_HEADER, f"{name}{OVER_SSE}"), (CONNECTION_HEADER, secrets.token_hex(8)))
        )
        self._origins = frozenset(spec.origins)
        self._redact = Redactor((value for _, value in spec.headers), spec.path)
        self._allowance = Allowance(time.monotonic())
        self._endpoint = ""
        """Path and query that messages are sent to, once it is known."""
        self._has_endpoint = asyncio.Event()
        self._unsent = 0
        """Messages."""
        self._unsent_bytes = 0
        self._before: asyncio.Task[None] | None = None
        """Sends the last message that is no request."""
        self._is_out_of_order = False
        """Whether the server does not acknowledge in time, so that waiting for it is no use."""
        self._open_requests = asyncio.Semaphore(_MOST_OPEN)
        self._open_others = asyncio.Semaphore(_MOST_OPEN)
        self._asking: dict[Key, asyncio.Task[None]] = {}
        """The open POSTs of requests, by id."""
        self._posts = Tasks(_LOG)
        self._tasks = Tasks(_LOG)
        self._reading: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        self.ending_text = ""
        self.was_asked = False

    @classmethod
    async def start(cls, name: str, spec: SseServer, turns: Turns, places: Places, inbox: Inbox) -> Connection:
        """Open one. Messages may be written at once."""
        connection = cls(name, spec, turns, places, inbox)
        connection._reading = connection._tasks.start(
            "read_sse_stream", connection._listen(), server=name, on_failure=lambda: connection._end_soon("has failed")
        )
        return connection

    @property
    def is_ending(self) -> bool:
        """Whether it is no use for anything new."""
        return self._ending is not None

    def write(self, message: Outgoing, context: Headers = ()) -> None:
        """Send the server a message. Where it refuses a request, an error is received as the answer.

        Args:
            message: to the server.
            context: headers that go along.

        Raises:
            NotRead: it does not take messages, or the connection has ended.
        """
        if self._ending is not None:
            raise HasEnded
        if self._unsent >= _MAX_UNSENT or self._unsent_bytes > _UNSENT_MESSAGES * self._spec.request_bytes:
            raise NotRead("does not take messages")
        if not self._inbox.unsent.keep(self._unsent_bytes + len(message.text)):
            raise NotRead(f"has not taken all messages, and {NO_ROOM}")
        self._unsent += 1
        self._unsent_bytes += len(message.text)
        asked = None if message.id is None else key_of(message.id)
        work = self._send(message, context, asked, self._before)
        sending = self._posts.start("post_to_sse_server", work, server=self._name)
        if asked is None:
            self._before = sending
        else:
            self._asking[asked] = sending

    async def end(self) -> None:
        """Close it."""
        if self._ending is None:
            self.was_asked = True
            self._end_soon("has ended")
        assert self._ending is not None
        await asyncio.shield(self._ending)

    # -- What the server sends ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        try:
            for left in range(attempts(len(self._origins)) - 1, -1, -1):
                try:
                    await self._listen_to_a_replica()
                    break
                except _Unreachable:
                    if not left:
                        raise
                    # Envoy chooses the replica by this.
                    self._headers[CONNECTION_HEADER] = secrets.token_hex(8)
            self._end_soon("has closed its event stream")
        except _Failed as error:
            self._end_soon(str(error))
        except EventTooLarge:
            self._end_soon("sent an event that is larger than limits.event_bytes")
        except BROKEN as error:
            self._end_soon(f"has lost its event stream ({type(error).__name__})")

    async def _listen_to_a_replica(self) -> None:
        async with self._exchange("GET", self._spec.path, None, ()) as response:
            content_type = response.headers.get("content-type", "")
            if response.status != 200 or transport.media_type(content_type) != transport.SSE:
                kind = transport.media_type(self._quoted(content_type)) or "no content type"
                keys = ["headers.Authorization"] if "authorization" in self._headers else []
                advice = advice_on(response.status, keys, speaks_sse=True)
                raise _Failed(f"answered HTTP {response.status} with {kind}, not with events{advice}")
            await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        parser = SseParser(self._spec.event_bytes)
        async for chunk in response.content.iter_any():
            await self._take_all(parser, chunk, response.url.raw_path_qs)
            if not await kept(self._inbox.reading, parser.held):
                raise _Failed(f"sent an event that was not read: {NO_ROOM}")

    async def _take_all(self, parser: SseParser, chunk: bytes, path: str) -> None:
        """A function of its own, so that the last event is not kept."""
        for piece, turn in portions(chunk):
            await self._turns.take(turn)
            for event in parser.feed(piece):
                await self._take(event, path)

    async def _take(self, event: SseEvent, path: str) -> None:
        if not event.data:
            return
        if event.event == transport.ENDPOINT and not self._has_endpoint.is_set():
            self._endpoint = endpoint(event.data, path, self._origins)
            self._has_endpoint.set()
        elif event.event == _MESSAGE:
            messages = await in_slices(reading(event.data))
            if messages is None:
                self._report_junk(event.data)
            for message in messages or ():
                if message.kind is Kind.RESPONSE and message.key is not None:
                    self._acknowledge(message.key)
                await self._inbox.receive(message)

    def _acknowledge(self, asked: Key) -> None:
        """A request is answered: its POST has nothing more to tell."""
        sending = self._asking.get(asked)
        if sending is not None:
            asyncio.get_running_loop().call_later(_ACKNOWLEDGED_SECONDS, sending.cancel)

    def _report_junk(self, data: bytes) -> None:
        if self._allowance.takes(time.monotonic()):
            fields = {"server": self._name, "data": self._quoted(data[:LOOKED_AT_BYTES].decode(errors="replace"))}
            log.event(_LOG, logging.WARNING, "event_is_no_message", fields)

    # -- What it is sent ------------------------------------------------------------------------------------------------

    async def _send(
        self, message: Outgoing, context: Headers, asked: Key | None, before: asyncio.Task[None] | None
    ) -> None:
        try:
            if before is not None and not self._is_out_of_order:
                done, _ = await asyncio.wait({before}, timeout=_IN_ORDER_SECONDS)
                self._is_out_of_order = not done
            await self._has_endpoint.wait()
            if asked is None:
                await self._tell(message.text, context)
            else:
                await self._ask(message.text, context)
        except _Unknown as error:
            self._end_soon(str(error))
        except _Failed as error:
            await self._refuse(message.id, str(error))
        except BROKEN as error:
            await self._refuse(message.id, f"could not be sent a message ({type(error).__name__})")
        finally:
            self._unsent -= 1
            self._unsent_bytes -= len(message.text)
            self._inbox.unsent.keep(self._unsent_bytes)
            if asked is not None and self._asking.get(asked) is asyncio.current_task():
                del self._asking[asked]

    async def _tell(self, message: bytes, context: Headers) -> None:
        async with self._open_others:
            began = time.monotonic()
            try:
                async with asyncio.timeout(_TAKEN_SECONDS):
                    await self._post(message, context)
            except TimeoutError:
                raise _Failed(f"has not acknowledged a message within {_TAKEN_SECONDS:g} s") from None
            if time.monotonic() - began < _IN_ORDER_SECONDS:
                self._is_out_of_order = False

    async def _ask(self, message: bytes, context: Headers) -> None:
        async with self._open_requests:
            # The answer may still come. Whoever waits for it has a time-out of its own.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._spec.timeout * _PATIENCE):
                    await self._post(message, context)

    async def _post(self, message: bytes, context: Headers) -> None:
        with self._place():
            await self._post_in_place(message, context)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """For a POST.

        Raises:
            _Failed: there is none. A server that acknowledges nothing would take the descriptors of all.
        """
        is_further = self._posting > 0
        if is_further and not self._places.take(1):
            raise _Failed(f"was not sent a message: {NO_PLACE}")
        self._posting += 1
        try:
            yield
        finally:
            self._posting -= 1
            if is_further:
                self._places.give_back(1)

    async def _post_in_place(self, message: bytes, context: Headers) -> None:
        async with self._exchange("POST", self._endpoint, message, context) as response:
            if response.status == 404:
                raise _Unknown("does not know its session any more")
            if not 200 <= response.status < 300:
                raise _Failed(f"answered HTTP {response.status} to a message")

    async def _refuse(self, asked: bytes | None, why: str) -> None:
        if asked is None:
            log.event(_LOG, logging.WARNING, "message_not_taken", {"server": self._name, "why": why})
            return
        for answer in read(failure(asked, f"The server {self._name} {why}.")) or ():
            await self._inbox.receive(replace(answer, why=why))

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: bytes | None, context: Headers
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, and those that it is redirected to within the server.

        Raises:
            _Failed: it redirects elsewhere, or Envoy does not reach it.
        """
        more = {"content-type": transport.JSON, "accept": "*/*"}
        if body is None:
            # Streams are read as they come; a compressor holds back what it has not filled a block with.
            more = {"accept": transport.SSE, "accept-encoding": "identity", "cache-control": "no-cache"}
        target, headers = redirects.Target(self._base, path, self._origins), dict(context) | self._headers | more
        try:
            async with redirects.followed(self._http, method, target, headers, body) as response:
                if (failed := response.headers.get(FAILURE_HEADER)) is not None:
                    raise _Unreachable(f"is unreachable ({self._quoted(failed)[:100]})")
                yield response
        except redirects.LeadsAway as error:
            raise _Failed(self._quoted(str(error))) from None

    def _quoted(self, text: str) -> str:
        """What a server may have written, for people. It knows our credentials, and may repeat them."""
        return self._redact(plain(text), _LINE_CHARACTERS)

    # -- Its end --------------------------------------------------------------------------------------------------------

    def _end_soon(self, why: str) -> None:
        if self._ending is None:
            self.ending_text = why
            self._ending = self._tasks.start("end_sse_connection", self._end(), server=self._name)

    async def _end(self) -> None:
        try:
            await self._end_all()
        finally:
            self.ended.set()

    async def _end_all(self) -> None:
        # Each of them, also where this is cancelled meanwhile.
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._http.close)
            closing.push_async_callback(self._posts.close)
            if self._reading is not None:
                self._reading.cancel()
                closing.push_async_callback(asyncio.wait, {self._reading})
        self._inbox.reading.keep(0)
        if not self.was_asked:
            log.event(_LOG, logging.INFO, "connection_ended", {"server": self._name, "why": self.ending_text})


def endpoint(data: bytes, path: str, origins: frozenset[str]) -> str:
    """Path and query that messages are sent to.

    Args:
        data: of the event that names it: a URI, which may be relative to that of the event stream.
        path: of the event stream.
        origins: of the server.

    Raises:
        _Failed: it is no URI, or leads away from the server: the configured credentials would go along.
    """
    found = redirects.path_of(origins, path, data.decode(errors="replace"))
    if found is None:
        raise _Failed("named an endpoint for messages that is not at its own origin, so it is not used")
    return found
