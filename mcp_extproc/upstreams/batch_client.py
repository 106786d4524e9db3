"""Single messages of a batch, sent through a listener of Envoy's that treats them like any client's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp
import orjson
from yarl import URL

from mcp_extproc.address import Address
from mcp_extproc.config import Limits
from mcp_extproc.gateway.legs import NO_ROOM, Answered, BatchLeg, Failed, Outcome
from mcp_extproc.gateway.request import Headers
from mcp_extproc.held import Holding, Part
from mcp_extproc.mcp import jsontext, transport
from mcp_extproc.mcp.errors import METHOD_NOT_FOUND
from mcp_extproc.mcp.jsontext import Scan, TooManyMembers
from mcp_extproc.mcp.sse import EventTooLarge, SseParser, portions
from mcp_extproc.upstreams.client import PAGE_ENTRIES
from mcp_extproc.upstreams.private_listener import http_session
from mcp_extproc.upstreams.turns import Turns


class _Busy(Exception):
    """No more may be held."""


class _Told:
    """Notifications that have to wait until the batch is answered.

    Args:
        most: bytes. Those that are too many are dropped: the answer is worth more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._messages: list[bytes] = []
        self.size = 0

    @property
    def messages(self) -> tuple[bytes, ...]:
        return tuple(self._messages)

    def add(self, message: bytes) -> None:
        if self.size + len(message) <= self._most:
            self._messages.append(message)
            self.size += len(message)


class BatchClient:
    """Sends messages as the client that they came from.

    Args:
        address: Envoy's listener for them; ``None`` where there is none, and batches fail.
        limits: bounds on what is read.
        turns: of all that is read of servers; by default, of all that this client reads.
    """

    def __init__(self, address: Address | None, limits: Limits, turns: Turns | None = None) -> None:
        self._address = address
        self._limits = limits
        self._turns = turns or Turns()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._address is not None:
            self._http, self._base = http_session(self._address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def send(self, leg: BatchLeg, holding: Holding) -> Outcome:
        """The answer to one message. ``holding`` has what is read of it."""
        if self._http is None:
            return _NOT_SET_UP
        try:
            async with self._sent(self._http, leg) as response:
                return await self._answered(response, leg, holding.part())
        except _EXPECTED as error:
            return _failed(error)

    @asynccontextmanager
    async def opened(self, leg: BatchLeg, holding: Holding) -> AsyncIterator[Outcome | AsyncIterator[bytes]]:
        """The answer to one message, or the bytes of the event stream that is the answer. Reading these may raise
        :data:`mcp_extproc.upstreams.private_listener.BROKEN`."""
        if self._http is None:
            yield _NOT_SET_UP
            return
        async with AsyncExitStack() as stack:
            answer: Outcome | AsyncIterator[bytes]
            try:
                response = await stack.enter_async_context(self._sent(self._http, leg))
                is_stream = transport.media_type(response.headers.get("content-type", "")) == transport.SSE
                answer = (
                    response.content.iter_any() if is_stream else await self._answered(response, leg, holding.part())
                )
            except _EXPECTED as error:
                answer = _failed(error)
            yield answer

    def _sent(self, http: aiohttp.ClientSession, leg: BatchLeg) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return http.post(_url(self._base, leg), data=leg.body, headers=_verbatim(leg.headers), allow_redirects=False)

    async def _answered(self, response: aiohttp.ClientResponse, leg: BatchLeg, held: Part) -> Answered:
        if transport.media_type(response.headers.get("content-type", "")) == transport.SSE:
            return await self._from_stream(response, leg, held)
        body, scan = bytearray(), Scan(PAGE_ENTRIES * self._limits.json_members)
        async for chunk in response.content.iter_any():
            body += chunk
            _hold(held, len(body))
            scan.feed_late(chunk)
            if len(body) > self._limits.response_bytes:
                raise EventTooLarge
        return Answered(leg.server, response.status, bytes(body))

    async def _from_stream(self, response: aiohttp.ClientResponse, leg: BatchLeg, held: Part) -> Answered:
        parser, told = SseParser(self._limits.event_bytes), _Told(self._limits.response_bytes)
        async for chunk in response.content.iter_any():
            for piece, turn in portions(chunk):
                await self._turns.take(turn)
                for event in parser.feed(piece):
                    if event.data and await self._is_response(event.data, leg, told):
                        return Answered(leg.server, response.status, event.data, told.messages)
            _hold(held, parser.held + told.size)
        return Answered(leg.server, response.status, b"", told.messages)

    async def _is_response(self, text: bytes, leg: BatchLeg, told: _Told) -> bool:
        try:
            members = jsontext.split(text)
        except (TypeError, jsontext.NotJson):
            return False
        if "method" not in members:
            return True
        if "id" in members:
            await self._decline(bytes(members["id"]), leg)
        else:
            told.add(text)
        return False

    async def _decline(self, id: bytes, leg: BatchLeg) -> None:
        """A server asks the client something on the stream of a batched call: an array of answers has no place for that."""
        error = {"code": METHOD_NOT_FOUND, "message": "The call is part of a batch, whose client can't be asked."}
        body = orjson.dumps({"jsonrpc": "2.0", "id": orjson.Fragment(id), "error": error})
        assert self._http is not None
        fields = _verbatim(leg.headers)
        async with self._http.post(_url(self._base, leg), data=body, headers=fields, allow_redirects=False):
            pass


_NOT_SET_UP = Failed("", "no_front_door", "batches are not set up")
_EXPECTED = (EventTooLarge, TooManyMembers, _Busy, aiohttp.ClientError, OSError)


def _failed(error: Exception) -> Failed:
    if isinstance(error, EventTooLarge | TooManyMembers):
        return Failed("", "too_large", "the answer is too large")
    if isinstance(error, _Busy):
        return Failed("", NO_ROOM, "the gateway holds as much as it may for this client (limits.held_bytes)")
    return Failed("", "connect", f"the gateway could not be asked ({type(error).__name__})")


def _hold(part: Part, size: int) -> None:
    if not part.keep(size):
        raise _Busy


def _url(base: str, leg: BatchLeg) -> URL:
    """Percent-encoding stays as the client sent it."""
    return URL(base + leg.path, encoded=True)


def _verbatim(headers: Headers) -> list[tuple[str, str]]:
    """Headers as aiohttp, which encodes as UTF-8, writes the bytes that the client sent. Here each byte is a character."""
    return [(name, value.encode("latin-1").decode("utf-8")) for name, value in headers]
