"""A small MCP client: JSON-RPC over Streamable HTTP, through Envoy's private listener.

Source: MCP 2025-11-25 basic/transports (client side), basic/lifecycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import resource
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec
import orjson

from mcp_extproc import __version__
from mcp_extproc.address import Address
from mcp_extproc.config import Limits
from mcp_extproc.config.credentials import AUTHORIZATION
from mcp_extproc.contract import BRIDGE_HEADER, CREDENTIALS_UNAVAILABLE, FAILURE_HEADER, IS_STARTING, SERVER_HEADER
from mcp_extproc.gateway.advice import NO_SUBJECT, NOT_ASKED, advice_on, advice_on_credentials
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.legs import NO_ROOM, STARTING, Challenge, Failed
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.gateway.relay import outcomes
from mcp_extproc.gateway.relay.outcomes import CREDENTIALS_REFUSED
from mcp_extproc.gateway.request import NO_CONTEXT, Headers, RequestContext, Subject
from mcp_extproc.gateway.tokens import Granted, Tokens
from mcp_extproc.held import Holding
from mcp_extproc.mcp import jsontext, methods, transport, versions
from mcp_extproc.mcp.capabilities import Flags, declared_to_servers, server_flags
from mcp_extproc.mcp.errors import METHOD_NOT_FOUND
from mcp_extproc.mcp.jsontext import Scan, TooManyMembers
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import EventTooLarge, SseEvent, SseParser, is_resumable, portions
from mcp_extproc.mcp.trace_context import SpanContext, with_context
from mcp_extproc.tasks import Tasks, in_slices
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.telemetry.printable import printable
from mcp_extproc.upstreams import redirects
from mcp_extproc.upstreams.observed import Failure, sending
from mcp_extproc.upstreams.pauses import Pause
from mcp_extproc.upstreams.private_listener import BROKEN, http_session
from mcp_extproc.upstreams.token_exchange import Exchanges, NotExchanged
from mcp_extproc.upstreams.turns import Turns

CLIENT_INFO = {"name": "mcp-extproc", "version": __version__}

MAX_SESSION_ID_CHARS = 4096
"""Longest ``Mcp-Session-Id`` taken from a server: all of a client's fit into one token in one header."""

_MAX_MESSAGE_CHARS = 256
"""Most of why a sub-request did not work out, a server's own words included."""

_MAX_QUOTED_CHARS = 64 * 1024
"""Most of that in which the caller's credentials are looked for. Nobody is shown more."""

_TOKEN_PAUSES = (0.5, 0.5, 0.5, 0.5)
"""Seconds between attempts to open a session while Envoy has no token for the server: at its start, that takes a second."""

_MAX_CHALLENGE_CHARS = 4096
_CHALLENGE = re.compile(r"[ -~]*")
"""Of a ``WWW-Authenticate`` that goes on to a client."""

_CODE = re.compile(r"-?[0-9]{1,6}")
"""Of a JSON-RPC error. Others are no code that anybody could know."""

_CHUNK = 64 * 1024

PAGE_ENTRIES = 10
"""A page of a list may have as many times the members that one of its entries may have."""

NOT_HELD = "was not read: the gateway holds as much as it may for this client, or for all (limits.held_bytes)"
"""Why a leg fails for reasons of our own."""

_SHARE_OF_STREAMS = 0.75
"""Of the descriptors that this process may have."""


class Initialized(NamedTuple):
    """A server's answer to ``initialize``."""

    session: UpstreamSession
    instructions: str | None
    streamed: bool
    """Whether it came as an event, and not as JSON."""


class Result(NamedTuple):
    """A server's result."""

    members: jsontext.Members
    size: int
    """Of the result, in bytes."""
    streamed: bool
    """Whether it came as an event, and not as JSON."""


class UpstreamError(Failure):
    """A sub-request did not work out."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def failed(self, server: str) -> Failed:
        """The outcome of a leg that ended so."""
        return Failed(server, self.reason, self.message, self.challenge)

    @property
    def challenge(self) -> Challenge | None:
        """What the client is told where it logs in at the server itself."""
        return None

    @property
    def error_type(self) -> str:
        """See :class:`Failure`."""
        return self.reason


class ErrorAnswer(UpstreamError):
    """The server answered with a JSON-RPC error."""

    def __init__(self, reason: str, message: str, code: str) -> None:
        super().__init__(reason, message)
        self._code = code

    @property
    def error_type(self) -> str:
        """See :class:`Failure`."""
        return self._code if _CODE.fullmatch(self._code) else self.reason


class SessionLost(UpstreamError):
    """The server does not know the session any more."""

    def __init__(self, *, doubtful: bool = False) -> None:
        super().__init__("session_lost", "does not know its session any more")
        self.doubtful = doubtful
        """Whether it may have been about something else: it answered 400."""


class UnexpectedStatus(UpstreamError):
    """The server answered with another status than one of success."""

    def __init__(self, status: int) -> None:
        super().__init__("status", f"answered HTTP {status}")
        self.status = status

    @property
    def error_type(self) -> str:
        """See :class:`Failure`."""
        return str(self.status)


class NoTokenYet(UpstreamError):
    """Envoy has no token for the server. It may have one soon."""

    def __init__(self) -> None:
        super().__init__(outcomes.CREDENTIALS_UNAVAILABLE, NOT_ASKED)


class CredentialsRefused(UpstreamError):
    """The server answered 401 or 403."""

    def __init__(self, response: aiohttp.ClientResponse, entry: CatalogEntry) -> None:
        status = response.status
        said = advice_on_credentials(status, entry.credential_keys)
        super().__init__(CREDENTIALS_REFUSED, f"answered HTTP {status}{said}")
        self.status = status
        self._asks = ", ".join(response.headers.getall("www-authenticate", ()))
        self._passes = entry.passes_challenges

    @property
    def challenge(self) -> Challenge | None:
        """See :class:`UpstreamError`."""
        is_sound = len(self._asks) <= _MAX_CHALLENGE_CHARS and _CHALLENGE.fullmatch(self._asks) is not None
        return Challenge(self.status, self._asks if is_sound else "") if self._passes else None

    @property
    def error_type(self) -> str:
        """See :class:`Failure`."""
        return str(self.status)


class StreamBusy(UpstreamError):
    """Another connection holds the stream of a GET: another worker's, or one whose end the server has not noticed yet. It may
    be free soon."""

    def __init__(self, status: int) -> None:
        super().__init__("busy", f"answered HTTP {status} to a GET")


class NoStream(UpstreamError):
    """The server has no stream for a GET."""

    def __init__(self, status: int, session: UpstreamSession) -> None:
        super().__init__("no_stream", f"answered HTTP {status} to a GET")
        self.may_mean_session = status in (400, 404) and session.id is not None
        """Whether it may not know the session. Only another request can tell: some without a stream say the same."""


class UpstreamClient:
    """Sends messages to servers.

    Args:
        address: Envoy's private listener.
        limits: bounds on what is read.
        turns: of all that is read of servers; by default, of all that this client reads.
        tokens: where those are kept that servers get for callers' own; by default, with this client.
        observer: is told of requests.
    """

    def __init__(
        self,
        address: Address,
        limits: Limits,
        turns: Turns | None = None,
        tokens: Tokens | None = None,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._address = address
        self.limits = limits
        self.turns = turns or Turns()
        self._observer = observer
        self._exchanges = Exchanges(tokens or Tokens(), observer=observer)
        self._http: aiohttp.ClientSession | None = None
        self._tasks = Tasks(log.logger("upstreams"))
        # Servers keep what runs in a session by its id, and the client's own requests run in the same session.
        self._ids = (f"mcp-extproc-{secrets.token_hex(4)}-{number}" for number in itertools.count())

    async def __aenter__(self) -> Self:
        self._http, self._base = http_session(self._address)
        self._streams, _ = http_session(self._address, _most_streams())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        # Each of them, also where whoever leaves is cancelled meanwhile.
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._streams.close)
            closing.push_async_callback(self._http.close)
            closing.push_async_callback(self._exchanges.close)
            closing.push_async_callback(self._tasks.close)

    async def initialize(
        self,
        entry: CatalogEntry,
        version: str,
        client_flags: Flags,
        *,
        context: RequestContext = NO_CONTEXT,
        holding: Holding | None = None,
    ) -> Initialized:
        """Open a session with a server and confirm it.

        Args:
            entry: the server.
            version: of the protocol, to ask for.
            client_flags: what the client can be asked for.
            context: the request for whose sake it is opened.
            holding: has what is read of the answer; ``None`` where nobody is served.

        Raises:
            UpstreamError: the server is unreachable or does not speak MCP.
        """
        for pause in _TOKEN_PAUSES:
            try:
                return await self._initialize(entry, version, client_flags, context, holding)
            except NoTokenYet:
                await asyncio.sleep(pause)
        return await self._initialize(entry, version, client_flags, context, holding)

    async def _initialize(
        self,
        entry: CatalogEntry,
        version: str,
        client_flags: Flags,
        context: RequestContext,
        holding: Holding | None,
    ) -> Initialized:
        params = {
            "protocolVersion": version,
            "capabilities": orjson.Fragment(declared_to_servers(client_flags, version)),
            "clientInfo": CLIENT_INFO,
        }
        id = next(self._ids)
        body = _request(id, methods.INITIALIZE.name, params)
        session_id = None
        try:
            asking = self._send(methods.INITIALIZE.name, entry, None, body, context)
            async with _advising(entry), asking as response:
                session_id = response.headers.get("mcp-session-id")
                result = await self._result(response, _Wanted(self, entry, None, id, context, holding))
                streamed = _is_stream(response)
            carried = entry.key_of(context.carried.get(entry.name, ()))
            session, instructions = _read_initialize(result, session_id, carried)
            confirmed = _notification(methods.INITIALIZED.name)
            await self.notify(entry, session, confirmed, context=context, method=methods.INITIALIZED.name)
        except BaseException:
            # It failed, the time is up, or the client is gone: the server would keep a session that nobody uses.
            if session_id is not None and _may_be_sent(session_id):
                abandoned = UpstreamSession(version, session_id, frozenset())
                self._in_background("end_session", entry, partial(self.end, entry, abandoned, context=context))
            raise
        if instructions is not None:
            instructions = entry.redact(instructions, len(instructions))
        return Initialized(session, instructions, streamed)

    async def request(
        self,
        entry: CatalogEntry,
        session: UpstreamSession,
        method: str,
        params: object,
        *,
        context: RequestContext = NO_CONTEXT,
        holding: Holding | None = None,
    ) -> Result:
        """Send a request and wait for its result.

        Args:
            entry: the server.
            session: with it.
            method: of the request.
            params: of the request.
            context: the request for whose sake it is sent.
            holding: has what is read of the answer; ``None`` where nobody is served.

        Raises:
            SessionLost: the server answers 404, or 400, to a session.
            UpstreamError: no result came.
        """
        id = next(self._ids)
        try:
            async with self._send(method, entry, session, _request(id, method, params), context) as response:
                result = await self._result(response, _Wanted(self, entry, session, id, context, holding))
                streamed = _is_stream(response)
        except asyncio.CancelledError:
            # The result is no longer needed: the time is up, or the client is gone.
            self._tell_cancelled(entry, session, id, context)
            raise
        return Result(_object(result, "result"), len(bytes(result)), streamed)

    def _tell_cancelled(self, entry: CatalogEntry, session: UpstreamSession, id: str, context: RequestContext) -> None:
        """Let a server stop working for us (basic/utilities/cancellation; basic/lifecycle, Timeouts)."""
        reason = "The gateway no longer waits for the answer."
        method = methods.CANCELLED.name
        body = _notification(method, {"requestId": id, "reason": reason})
        telling = partial(self.notify, entry, session, body, context=context, method=method)
        self._in_background("tell_cancelled", entry, telling)

    def _in_background(self, name: str, entry: CatalogEntry, work: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(entry.discovery_timeout):
                    await work()

        self._tasks.start(name, quietly(), server=entry.name)

    async def notify(
        self,
        entry: CatalogEntry,
        session: UpstreamSession,
        body: bytes,
        *,
        context: RequestContext = NO_CONTEXT,
        method: str | None = None,
    ) -> None:
        """Send a notification, or a response.

        Args:
            entry: the server.
            session: with it.
            body: the message.
            context: the request for whose sake it is sent.
            method: of the notification; ``None`` for a response.

        Raises:
            UpstreamError: it was not accepted.
        """
        if method is None:
            async with self._exchange("POST", entry, session, body, context):
                return
        async with self._send(method, entry, session, body, context):
            pass

    async def end(self, entry: CatalogEntry, session: UpstreamSession, *, context: RequestContext = NO_CONTEXT) -> None:
        """End a session. Servers may refuse (405) or have forgotten it (404, 400): both are as good.

        Raises:
            UpstreamError: the server is unreachable.
        """
        if session.id is None:
            return
        try:
            async with self._exchange("DELETE", entry, session, None, context):
                pass
        except SessionLost:
            pass
        except UpstreamError as error:
            if error.reason not in ("status", CREDENTIALS_REFUSED):
                raise

    @asynccontextmanager
    async def listen(
        self,
        entry: CatalogEntry,
        session: UpstreamSession,
        last_event_id: str | None,
        *,
        context: RequestContext = NO_CONTEXT,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the stream of a GET; it yields chunks, which end where the stream does.

        Args:
            entry: the server.
            session: with it.
            last_event_id: after which to go on, or ``None``.
            context: of the request for whose sake it is opened.

        Raises:
            StreamBusy: not yet.
            NoStream: the server has no stream, or not this one, or does not know the session.
            UpstreamError: it is unreachable, or the stream broke.
        """
        async with self._exchange("GET", entry, session, None, context, last_event_id) as response:
            if response.status != 200 or not _is_stream(response):
                raise NoStream(response.status, session)
            yield response.content.iter_any()

    def parser(self) -> SseParser:
        """A parser for a stream."""
        return SseParser(self.limits.event_bytes)

    def _send(
        self,
        method: str,
        entry: CatalogEntry,
        session: UpstreamSession | None,
        body: bytes,
        context: RequestContext,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request, or a notification, until its response is read."""
        if self._observer.is_on:
            return self._observed(method, entry, session, body, context)
        return self._exchange("POST", entry, session, body, context)

    @asynccontextmanager
    async def _observed(
        self,
        method: str,
        entry: CatalogEntry,
        session: UpstreamSession | None,
        body: bytes,
        context: RequestContext,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        version = None if session is None else session.version
        with sending(self._observer, method, entry, version, context) as within:
            if within.span is not None:
                body = with_context(body, within.span)
            async with self._exchange("POST", entry, session, body, within) as response:
                yield response

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        entry: CatalogEntry,
        session: UpstreamSession | None,
        body: bytes | None,
        context: RequestContext,
        last_event_id: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._http is not None, "used outside of its context"
        http = self._http if method != "GET" else self._streams
        carried = await self._carried(entry, context)
        headers = dict((*context.headers, *carried, *_headers(entry, session, body)))
        if method == "GET":
            headers["accept"] = transport.SSE
            # Streams are read as they come; a compressor holds back what it has not filled a block with.
            headers["accept-encoding"] = "identity"
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        target = redirects.Target(self._base, entry.path, entry.origins)
        try:
            async with redirects.followed(http, method, target, headers, body) as response:
                _check_status(response, method, entry, session)
                yield response
        except redirects.LeadsAway as error:
            raise UpstreamError("status", _quoting(entry, str(error), carried)) from None
        except UpstreamError as error:
            if isinstance(error, CredentialsRefused) and error.status == 401:
                self._exchanges.refused(context.subject, entry.name)
            error.message = _quoting(entry, error.message, carried)
            error.args = (error.message,)
            raise
        except BROKEN as error:
            raise UpstreamError("connect", f"could not be asked ({type(error).__name__})") from error

    async def _carried(self, entry: CatalogEntry, context: RequestContext) -> Headers:
        """What a server gets of the caller.

        Raises:
            UpstreamError: there is no token for it.
        """
        carried = context.carried.get(entry.name, ())
        if entry.exchanging is None or any(name == AUTHORIZATION for name, _ in carried):
            return carried
        if context.subject is None:
            raise UpstreamError(outcomes.CREDENTIALS_UNAVAILABLE, NO_SUBJECT)
        return (*carried, *(await self.token(entry, context.subject, context.span)).headers)

    async def token(self, entry: CatalogEntry, subject: Subject, span: SpanContext | None = None) -> Granted:
        """The token that a server gets for a caller's.

        Args:
            entry: the server.
            subject: whose it is.
            span: for whose sake it is asked for.

        Raises:
            UpstreamError: it can't be had.
        """
        assert self._http is not None, "used outside of its context"
        try:
            return await self._exchanges.token(self._http, self._base, entry, subject, span)
        except NotExchanged as error:
            raise UpstreamError(outcomes.CREDENTIALS_UNAVAILABLE, str(error)) from None

    async def _result(self, response: aiohttp.ClientResponse, wanted: _Wanted) -> msgspec.Raw:
        if _is_stream(response):
            return await self._result_from_streams(response, wanted)
        content_type = response.headers.get("content-type", "")
        if response.status != 200 or transport.media_type(content_type) != transport.JSON:
            # Redacted as it came: in lower case, nothing would be found in it.
            carried = wanted.context.carried.get(wanted.entry.name, ())
            kind = transport.media_type(_quoting(wanted.entry, content_type, carried)) or "no content type"
            raise UpstreamError("protocol", f"answered HTTP {response.status} with {kind}, not with JSON")
        wanted.bridge_says = response.headers.get(BRIDGE_HEADER, "") if wanted.entry.is_bridged else ""
        body, scan = bytearray(), Scan(self._most_members)
        async for chunk in response.content.iter_chunked(_CHUNK):
            wanted.came(chunk)
            body += chunk
            wanted.hold(len(body))
            try:
                scan.feed_late(chunk)
            except TooManyMembers:
                raise self._too_many_members() from None
        found = _response_in(bytes(body), wanted)
        if found is None:
            raise UpstreamError("protocol", "answered with JSON that is no response to the request")
        return found

    async def _result_from_streams(self, response: aiohttp.ClientResponse, wanted: _Wanted) -> msgspec.Raw:
        """The result from the stream of the request, or from those that go on where it ended (SEP-1699, polling)."""
        reading = _StreamReading(self, wanted)
        found = await reading.result_in(response.content.iter_any())
        while found is None and reading.last_event_id and wanted.session is not None:
            await asyncio.sleep(reading.pause.next())
            reading.parser = self.parser()
            going_on = self.listen(wanted.entry, wanted.session, reading.last_event_id, context=wanted.context)
            with contextlib.suppress(StreamBusy):
                async with going_on as chunks:
                    found = await reading.result_in(chunks)
        if found is None:
            raise UpstreamError("protocol", "ended its stream without an answer")
        return found

    async def check_members(self, text: bytes) -> None:
        """Refuse an event that has too many members to be read."""
        if await in_slices(jsontext.has_more_members(text, self._most_members)):
            raise self._too_many_members()

    def _too_many_members(self) -> UpstreamError:
        return UpstreamError("too_large", f"answered with more than {self._most_members} members")

    @property
    def _most_members(self) -> int:
        return PAGE_ENTRIES * self.limits.json_members


class _Wanted:
    """The response to one request of ours, before and while it is read."""

    def __init__(
        self,
        client: UpstreamClient,
        entry: CatalogEntry,
        session: UpstreamSession | None,
        id: str,
        context: RequestContext,
        holding: Holding | None,
    ) -> None:
        self.entry = entry
        self.session = session
        self.id = id
        self.context = context
        self.bridge_says = ""
        """What the bridge says of an error, where that is its own."""
        self._most = client.limits.response_bytes
        self._held = None if holding is None else holding.part()
        self._size = 0

    def came(self, chunk: bytes) -> None:
        """More was read.

        Raises:
            UpstreamError: it is more than may be read.
        """
        self._size += len(chunk)
        if self._size > self._most:
            raise UpstreamError("too_large", f"answered with more than {self._most} bytes")

    def hold(self, size: int) -> None:
        """So much of it is held.

        Raises:
            UpstreamError: it is more than may be held.
        """
        if self._held is not None and not self._held.keep(size):
            # At once: of many that grow at the same time, those that are left can go on.
            self._held.keep(0)
            raise UpstreamError(NO_ROOM, NOT_HELD)


class _StreamReading:
    """Looks for one response in the streams that may carry it, and answers what the server asks meanwhile."""

    def __init__(self, client: UpstreamClient, wanted: _Wanted) -> None:
        self.parser = client.parser()
        self.last_event_id = ""
        self.pause = Pause()
        self._client = client
        self._wanted = wanted

    async def result_in(self, chunks: AsyncIterator[bytes]) -> msgspec.Raw | None:
        """The result, or ``None`` where the stream ends before."""
        try:
            async for chunk in chunks:
                self._wanted.came(chunk)
                for piece, turn in portions(chunk):
                    await self._client.turns.take(turn)
                    for event in self.parser.feed(piece):
                        if (found := await self._event(event)) is not None:
                            self._wanted.hold(len(event.data or b""))
                            return found
                self._wanted.hold(self.parser.held)
        except EventTooLarge as error:
            raise UpstreamError("too_large", f"sent an event that is too large: {error}") from None
        except BROKEN:
            if not self.last_event_id:
                raise
            return None
        last = self.parser.finish()
        return None if last is None else await self._event(last)

    async def _event(self, event: SseEvent) -> msgspec.Raw | None:
        if event.id is not None:
            self.last_event_id = event.id if is_resumable(event.id) else ""
        if event.retry is not None:
            self.pause.ask_for(event.retry)
        if not event.data:
            return None
        self.pause.reset()
        await self._client.check_members(event.data)
        wanted = self._wanted
        found = _response_in(event.data, wanted)
        if found is None and wanted.session is not None and (answer := _own_answer(event.data)) is not None:
            # A server that does not take it may answer us all the same.
            with contextlib.suppress(UpstreamError):
                await self._client.notify(wanted.entry, wanted.session, answer, context=wanted.context)
        return found


def _most_streams() -> int:
    """How many streams of servers there may be at a time; 0 for no bound. Each takes a descriptor for as long as its client
    stays, and requests need some, too."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if most == resource.RLIM_INFINITY else max(1, int(most * _SHARE_OF_STREAMS))


def _headers(entry: CatalogEntry, session: UpstreamSession | None, body: bytes | None) -> Headers:
    fields: list[tuple[str, str]] = [*entry.headers, (SERVER_HEADER, entry.name)]
    if body is not None:
        fields.append(("content-type", "application/json"))
        fields.append(("accept", "application/json, text/event-stream"))
    if session is not None:
        if session.id is not None:
            fields.append(("mcp-session-id", session.id))
        if versions.defines_version_header(session.version):
            fields.append(("mcp-protocol-version", session.version))
    return tuple(fields)


def _quoting(entry: CatalogEntry, message: str, carried: Headers = ()) -> str:
    """What may quote the server, which may repeat what it got."""
    if carried:
        message = Redactor((value for _, value in carried), "")(message, _MAX_QUOTED_CHARS)
    return printable(entry.redact(message, _MAX_MESSAGE_CHARS))


def _check_status(
    response: aiohttp.ClientResponse, method: str, entry: CatalogEntry, session: UpstreamSession | None
) -> None:
    failure = response.headers.get(FAILURE_HEADER)
    if failure == CREDENTIALS_UNAVAILABLE:
        raise NoTokenYet
    if failure is not None:
        reason = "timeout" if "Timeout" in failure else "connect"
        raise UpstreamError(reason, f"is unreachable ({failure[:100]})")
    if method == "GET" and session is not None:
        if response.status in (409, 429):
            raise StreamBusy(response.status)
        if 400 <= response.status < 500:
            raise NoStream(response.status, session)
    # Examples of the TypeScript SDK answer 400 where the specification says 404.
    if response.status in (400, 404) and session is not None and session.id is not None:
        raise SessionLost(doubtful=response.status == 400)
    if response.status in (401, 403) and not entry.is_bridged:
        raise CredentialsRefused(response, entry)
    if not 200 <= response.status < 300:
        raise UnexpectedStatus(response.status)


@asynccontextmanager
async def _advising(entry: CatalogEntry) -> AsyncIterator[None]:
    """Say what to do about a status that a server refuses a first request with."""
    try:
        yield
    except UnexpectedStatus as error:
        if not entry.is_bridged:
            error.message += advice_on(error.status, entry.credential_keys)
            error.args = (error.message,)
        raise


def _is_stream(response: aiohttp.ClientResponse) -> bool:
    return transport.media_type(response.headers.get("content-type", "")) == transport.SSE


def _request(id: str, method: str, params: object) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def _notification(method: str, params: object = None) -> bytes:
    message = {"jsonrpc": "2.0", "method": method}
    return orjson.dumps(message if params is None else {**message, "params": params})


def _own_answer(text: bytes) -> bytes | None:
    """The answer to a request that a server sends while it works on one of ours: only a ping can be answered here."""
    try:
        members = jsontext.split(text)
    except (TypeError, jsontext.NotJson):
        return None
    if "method" not in members or "id" not in members:
        return None
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": orjson.Fragment(bytes(members["id"]))}
    row = methods.SERVER_REQUESTS.get(jsontext.text_of(members["method"]) or "")
    if row is not None and row.relaying is methods.Relaying.ANSWER:
        return orjson.dumps({**answer, "result": {}})
    error = {"code": METHOD_NOT_FOUND, "message": "This request is the gateway's own: there is no client to ask."}
    return orjson.dumps({**answer, "error": error})


def _response_in(text: bytes, wanted: _Wanted) -> msgspec.Raw | None:
    """The ``result`` of our response in a message or (2025-03-26) a batch of messages; ``None`` where it is not there."""
    try:
        if not text.isascii():
            text.decode("utf-8")
        batch = msgspec.json.decode(text, type=list[msgspec.Raw]) if text.lstrip()[:1] == b"[" else [msgspec.Raw(text)]
        for message in batch:
            members = jsontext.split(message)
            if "method" in members or "id" not in members or jsontext.text_of(members["id"]) != wanted.id:
                continue
            if "error" in members and not jsontext.is_null(members["error"]):
                raise _error_answer(members["error"], wanted)
            if "result" in members:
                return members["result"]
    except (jsontext.NotJson, TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("protocol", "answered with something that is no JSON-RPC message") from None
    return None


def _error_answer(raw: msgspec.Raw, wanted: _Wanted) -> UpstreamError:
    error = _object(raw, "JSON-RPC error")
    code = bytes(error.get("code", msgspec.Raw(b"no code")))[:24].decode(errors="replace")
    text = jsontext.text_of(error["message"]) if "message" in error else None
    if text is not None and wanted.bridge_says:
        # It begins with what every clause here is about.
        clause = text.removeprefix(f"The server {wanted.entry.name} ")
        return ErrorAnswer(STARTING if wanted.bridge_says == IS_STARTING else "error", clause, code)
    return ErrorAnswer("error", f"answered with error {code}: {text or 'no message'}", code)


def _object(raw: msgspec.Raw, what: str) -> jsontext.Members:
    try:
        return jsontext.split(raw)
    except (TypeError, jsontext.NotJson):
        raise UpstreamError("protocol", f"answered with a {what} that is no JSON object") from None


def _read_initialize(raw: msgspec.Raw, session_id: str | None, carried: str) -> tuple[UpstreamSession, str | None]:
    result = _object(raw, "result")
    version = jsontext.text_of(result["protocolVersion"]) if "protocolVersion" in result else None
    if version not in versions.OF_SERVERS:
        raise UpstreamError("protocol", f"speaks protocol version {str(version)[:64]}, which is not served here")
    if session_id is not None and not _may_be_sent(session_id):
        raise UpstreamError("protocol", "gave a session id that is too long or holds blanks or control characters")
    declared = _object(result.get("capabilities", msgspec.Raw(b"{}")), "list of capabilities")
    instructions = jsontext.text_of(result["instructions"]) if "instructions" in result else None
    return UpstreamSession(version, session_id, server_flags(declared), carried), instructions


def _may_be_sent(session_id: str) -> bool:
    """Whether it is visible ASCII, and not too long."""
    return 0 < len(session_id) <= MAX_SESSION_ID_CHARS and all("\x21" <= char <= "\x7e" for char in session_id)
