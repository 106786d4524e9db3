"""The HTTP face: Streamable HTTP for each server, at ``/<server>`` (MCP 2025-11-25 basic/transports).

Only Envoy connects here. Who may call, and what a client may send, was decided before; so this checks what it takes to
pass a message on, and no more.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web

from mcp_extproc.bridge import places
from mcp_extproc.bridge.child import Child, Reports
from mcp_extproc.bridge.connection import Connection
from mcp_extproc.bridge.conversation import Call, Stream
from mcp_extproc.bridge.peer import NO_ROOM, HasEnded, NotRead, Start
from mcp_extproc.bridge.pool import Pool, Session, Unavailable
from mcp_extproc.bridge.spec import SseServer, StdioServer, Told
from mcp_extproc.contract import BRIDGE_HEADER, HAS_FAILED
from mcp_extproc.gateway.request import Headers
from mcp_extproc.held import HeldBytes
from mcp_extproc.mcp import envelope, errors, methods, sse, transport
from mcp_extproc.mcp.envelope import Message, Request
from mcp_extproc.mcp.errors import INTERNAL_ERROR, INVALID_REQUEST, McpError
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.turns import Turns

_SESSION = "mcp-session-id"

_PASSED = ("traceparent", "tracestate", "baggage", "x-request-id", "accept-language", "user-agent")
"""Headers of a client's request that a server gets, where it gets headers: those of calls to Streamable HTTP servers."""

_BODY_SECONDS = 30.0
"""For the body of a request. Envoy has all of it, or most, before it asks."""

_FAILED = {BRIDGE_HEADER: HAS_FAILED}

_AT_ONCE = 1 << 16
"""Bytes that are written at a time. So of what a client does not read there is one copy."""

_NUMBERS = itertools.count(1)
_LOG = log.logger("bridge")


class BridgeServer:
    """All servers that speak another transport."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._leaving: list[Pool] = []
        """Of servers that were removed or changed, while calls of them run."""
        self._held = HeldBytes(0)
        self._places = places.of_this_process()
        self._turns = Turns()

    def apply(self, told: Told) -> None:
        """Serve these servers from now on. Children of unchanged ones go on, those of others until no call of theirs runs."""
        servers, self._held.most = told.servers, told.held_bytes
        self._leaving = [pool for pool in self._leaving if not pool.is_over]
        for name, pool in list(self._pools.items()):
            if servers.get(name) != pool.spec:
                del self._pools[name]
                self._leaving.append(pool)
                pool.retire()
        for name, spec in servers.items():
            if name not in self._pools:
                self._pools[name] = Pool(name, spec, self._starting(name, spec), self._held, self._places)
                self._pools[name].begin()

    def _starting(self, name: str, spec: StdioServer | SseServer) -> Start:
        match spec:
            case StdioServer():
                return partial(Child.start, spec, Reports(name), self._turns)
            case SseServer():
                return partial(Connection.start, name, spec, self._turns, self._places)

    async def close(self) -> None:
        """End all children."""
        await asyncio.gather(*(pool.end() for pool in (*self._pools.values(), *self._leaving)))

    def application(self, request_bytes: int) -> web.Application:
        """What is served.

        Args:
            request_bytes: most bytes of a request's body.
        """
        self._request_bytes = request_bytes
        app = web.Application()
        app.router.add_get("/", _alive, allow_head=False)
        app.router.add_post("/{server}", _answering_errors(self._post))
        app.router.add_get("/{server}", _answering_errors(self._get), allow_head=False)
        app.router.add_delete("/{server}", _answering_errors(self._delete))
        return app

    # -- Requests -------------------------------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.StreamResponse:
        sent = await self._sent(request)
        if isinstance(sent, web.Response):
            return sent
        session, call, stream = sent
        try:
            if not call.is_clients_own:
                await _lending(session, call, stream, self._pool(request).spec.lent_after)
            return await _respond(request, stream)
        finally:
            session.leave(stream)

    async def _sent(self, request: web.Request) -> web.Response | tuple[Session, Call, Stream]:
        """Send a message on. A function of its own, so that the message is not kept until it is answered.

        Returns:
            The response, or the call and the stream that brings its answer.
        """
        message = envelope.read(await self._body(request, self._holder(request)))
        context = tuple((name, value) for name in _PASSED if (value := request.headers.get(name)) is not None)
        if isinstance(message, Request) and message.method == methods.INITIALIZE.name:
            return await _initialize(self._pool(request), message, context)
        session = self._session(request, message)
        if not isinstance(message, Request):
            _send(_name(request), session, message, context)
            return web.Response(status=202)
        stream = session.conversation.stream()
        call = session.conversation.call(message, stream)
        try:
            _send(_name(request), session, message, context)
        except Unavailable as error:
            session.fail(call, error.message)
        except McpError:
            session.forget(call)
            raise
        return session, call, stream

    def _holder(self, request: web.Request) -> str:
        """For whose sake a request's body is held: its session's, or its own where it begins one.

        Raises:
            McpError: nobody may send it. Found out before anything of it is held.
        """
        if _SESSION in request.headers:
            return f"requests of {self._session(request, None).id}"
        self._pool(request)
        return f"request {next(_NUMBERS)}"

    async def _body(self, request: web.Request, holder: str) -> bytes:
        """Of a request. aiohttp's own would be kept as long as the request.

        Raises:
            McpError: there is no room for it, or it does not come.
        """
        body = bytearray()
        with self._held.holding(holder) as holding:
            part = holding.part()
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    async for chunk in request.content.iter_any():
                        body += chunk
                        if len(body) > self._request_bytes:
                            raise web.HTTPRequestEntityTooLarge(self._request_bytes, len(body))
                        if not part.keep(len(body)):
                            raise McpError(INTERNAL_ERROR, f"The request was not read: {NO_ROOM}.", reason="busy")
            except TimeoutError:
                why = f"The request's body did not arrive within {_BODY_SECONDS:g} s."
                raise McpError(INVALID_REQUEST, why, reason="timeout", status=408) from None
            return bytes(body)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request, None)
        stream = session.conversation.stream()
        session.conversation.listen(stream)
        try:
            return await _as_events(request, stream)
        finally:
            session.leave(stream)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request, None)
        for pool in self._named(request):
            pool.close(session)
        return web.Response(status=204)

    def _pool(self, request: web.Request) -> Pool:
        pool = self._pools.get(_name(request))
        if pool is None or not _is_meant(pool, request):
            raise _not_found("There is no such server.", None)
        return pool

    def _named(self, request: web.Request) -> list[Pool]:
        name = _name(request)
        named = (pool for pool in (*self._pools.values(), *self._leaving) if pool.name == name)
        return [pool for pool in named if _is_meant(pool, request)]

    def _session(self, request: web.Request, message: Message | None) -> Session:
        id = request.headers.get(_SESSION)
        about = message.id if isinstance(message, Request) else None
        if id is None:
            raise McpError(
                INVALID_REQUEST, "A session begins with initialize.", reason="no_session", status=400, id=about
            )
        for pool in self._named(request):
            if (session := pool.session(id)) is not None:
                return session
        raise _session_ended(about)


async def _alive(_: web.Request) -> web.Response:
    """For health checks."""
    return web.Response(status=204)


def _not_found(why: str, id: bytes | None) -> McpError:
    return McpError(INVALID_REQUEST, why, reason="session_not_found", status=404, id=id)


def _session_ended(id: bytes | None) -> McpError:
    return _not_found("The session has ended.", id)


async def _initialize(pool: Pool, message: Request, context: Headers) -> web.Response:
    session, text = await pool.open(message, context)
    return _json(text, {_SESSION: session} if session else {})


def _is_meant(pool: Pool, request: web.Request) -> bool:
    """Whether a request comes from Envoy, which knows the server's authority. A page in a browser that calls a bridge at a TCP
    port has the port's or its own in ``Host`` (CSRF, DNS rebinding)."""
    return request.host == pool.spec.authority


def _name(request: web.Request) -> str:
    return request.match_info["server"]


def _send(server: str, session: Session, message: Message, context: Headers) -> None:
    try:
        session.send(message, context)
    except NotRead as error:
        id = message.id if isinstance(message, Request) else None
        if isinstance(error, HasEnded):
            # It has heard nothing of the message, which may be sent once more.
            raise _session_ended(id) from None
        raise Unavailable(server, str(error), id) from None


async def _lending(session: Session, call: Call, stream: Stream, seconds: float) -> None:
    """Wait for a list's answer. A server that takes long may be waiting for one itself, with no other stream to ask on."""
    try:
        async with asyncio.timeout(seconds):
            await stream.something()
    except TimeoutError:
        session.conversation.lend(call)


async def _respond(request: web.Request, stream: Stream) -> web.StreamResponse:
    """The answer as JSON where it is the first thing that comes, and else as the last one of an event stream."""
    await stream.something()
    if not stream.is_answer_alone:
        return await _as_events(request, stream)
    if stream.size <= _AT_ONCE:
        return _json(stream.take() or b"", _FAILED if stream.has_failed else {})
    response = web.StreamResponse(headers={"content-type": transport.JSON})
    response.content_length = stream.size
    await response.prepare(request)
    await _write(response, stream.take() or b"")
    await response.write_eof()
    return response


async def _as_events(request: web.Request, stream: Stream) -> web.StreamResponse:
    headers = [("content-type", transport.SSE), ("cache-control", "no-cache"), transport.UNBUFFERED]
    response = web.StreamResponse(headers=dict(headers))
    await response.prepare(request)
    stream.on_cut = request.transport.abort if request.transport is not None else stream.on_cut
    while await _write_event(response, stream):
        pass
    await response.write_eof()
    return response


async def _write_event(response: web.StreamResponse, stream: Stream) -> bool:
    """Write the next message; whether there was one. A function of its own, so that the last one is not kept."""
    message = await stream.next()
    if message is None:
        return False
    message = sse.render(sse.SseEvent(message))
    await _write(response, message)
    return True


async def _write(response: web.StreamResponse, text: bytes) -> None:
    whole = memoryview(text)
    for start in range(0, len(text), _AT_ONCE):
        await response.write(whole[start : start + _AT_ONCE])


def _json(text: bytes, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=text, content_type=transport.JSON, headers=headers)


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _answering_errors(handler: _Handler) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except McpError as error:
            log.event(_LOG, logging.DEBUG, "refused", {"reason": error.reason})
            return _refusal(error)
        except web.HTTPException:
            raise
        except ConnectionError:
            return web.Response()  # nobody is there to get it, and aiohttp would log a traceback
        except Exception as error:  # noqa: BLE001 - it is logged, and answered
            # aiohttp would log its message, which may quote what a server or a client sent.
            log.failure(_LOG, "request_failed", error, {"server": _name(request)})
            return _refusal(McpError(INTERNAL_ERROR, "The bridge failed.", reason="internal", status=500))

    return answer


def _refusal(error: McpError) -> web.Response:
    body, headers = errors.render(error), _FAILED | dict(error.headers)
    return web.Response(body=body, status=error.status, headers=headers, content_type=transport.JSON)
