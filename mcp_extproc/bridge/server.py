"""The HTTP face: Streamable HTTP for each server, at ``/<server>`` (MCP 2025-11-25 basic/transports).

Only Envoy connects here. Who may call, and what a client may send, was decided before; so this checks what it takes to
pass a message on, and no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web

from mcp_extproc.bridge.child import Child, Reports
from mcp_extproc.bridge.connection import Connection
from mcp_extproc.bridge.conversation import Stream
from mcp_extproc.bridge.peer import NotRead, Start
from mcp_extproc.bridge.pool import Pool, Session, Unavailable
from mcp_extproc.bridge.spec import SseServer, StdioServer
from mcp_extproc.mcp import envelope, errors, methods, sse, transport
from mcp_extproc.mcp.envelope import Message, Request
from mcp_extproc.mcp.errors import INTERNAL_ERROR, INVALID_REQUEST, McpError
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.turns import Turns

_SESSION = "mcp-session-id"
_LOG = log.logger("bridge")


class Bridge:
    """All servers that speak another transport."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._leaving: list[Pool] = []
        """Of servers that were removed or changed, while calls of them run."""
        self._turns = Turns()
        self._tasks = Tasks(_LOG)

    def apply(self, servers: Mapping[str, StdioServer | SseServer]) -> None:
        """Serve these servers from now on. Children of unchanged ones go on."""
        self._leaving = [pool for pool in self._leaving if not pool.is_over]
        for name, pool in list(self._pools.items()):
            if servers.get(name) != pool.spec:
                del self._pools[name]
                self._leave(pool, is_gone=name not in servers)
        for name, spec in servers.items():
            if name not in self._pools:
                self._pools[name] = Pool(name, spec, _starting(name, spec, self._turns))
                self._pools[name].begin()

    def _leave(self, pool: Pool, *, is_gone: bool) -> None:
        self._leaving.append(pool)
        if is_gone:
            self._tasks.start("end_server", pool.end(), server=pool.name)
        else:
            pool.retire()

    async def close(self) -> None:
        """End all children."""
        await asyncio.gather(*(pool.end() for pool in (*self._pools.values(), *self._leaving)))
        await self._tasks.close()

    def application(self, request_bytes: int) -> web.Application:
        """What is served.

        Args:
            request_bytes: most bytes of a request's body.
        """
        app = web.Application(client_max_size=request_bytes)
        app.router.add_post("/{server}", _answering_errors(self._post))
        app.router.add_get("/{server}", _answering_errors(self._get), allow_head=False)
        app.router.add_delete("/{server}", _answering_errors(self._delete))
        return app

    # -- Requests -------------------------------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.StreamResponse:
        pool = self._pool(request)
        message = envelope.read(await request.read())
        if isinstance(message, Request) and message.method == methods.INITIALIZE.name:
            return await _initialize(pool, message)
        session = self._session(request, message)
        if not isinstance(message, Request):
            _send(pool, session, message)
            return web.Response(status=202)
        stream = Stream()
        call = session.conversation.call(message, stream)
        try:
            try:
                _send(pool, session, message)
            except McpError as error:
                session.fail(call, error.message)
            return await _respond(request, stream)
        finally:
            session.leave(stream)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request, None)
        stream = Stream()
        session.conversation.listen(stream)
        try:
            return await _as_events(request, stream, None)
        finally:
            session.leave(stream)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request, None)
        for pool in self._named(request):
            pool.close(session)
        return web.Response(status=204)

    def _pool(self, request: web.Request) -> Pool:
        name = request.match_info["server"]
        if name not in self._pools:
            raise _not_found("There is no such server.", None)
        return self._pools[name]

    def _named(self, request: web.Request) -> list[Pool]:
        name = request.match_info["server"]
        current = [self._pools[name]] if name in self._pools else []
        return [*current, *(pool for pool in self._leaving if pool.name == name)]

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
        raise _not_found("The session has ended.", about)


def _starting(name: str, spec: StdioServer | SseServer, turns: Turns) -> Start:
    match spec:
        case StdioServer():
            return partial(Child.start, spec, Reports(name), turns)
        case SseServer():
            return partial(Connection.start, name, spec)


def _not_found(why: str, id: bytes | None) -> McpError:
    return McpError(INVALID_REQUEST, why, reason="session_not_found", status=404, id=id)


async def _initialize(pool: Pool, message: Request) -> web.Response:
    session, text = await pool.open(message)
    return _json(text, {_SESSION: session} if session else {})


def _send(pool: Pool, session: Session, message: Message) -> None:
    try:
        session.send(message)
    except NotRead as error:
        raise Unavailable(pool.name, str(error), message.id if isinstance(message, Request) else None) from None


async def _respond(request: web.Request, stream: Stream) -> web.StreamResponse:
    """The answer as JSON where it is the first thing that comes, and else as the last one of an event stream."""
    first = await stream.next()
    if first is not None and stream.ended and not stream.size:
        return _json(first, {})
    return await _as_events(request, stream, first)


async def _as_events(request: web.Request, stream: Stream, first: bytes | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": transport.SSE, "cache-control": "no-cache"})
    await response.prepare(request)
    message = first if first is not None else await stream.next()
    while message is not None:
        await response.write(sse.render(sse.SseEvent(message)))
        message = await stream.next()
    await response.write_eof()
    return response


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
            log.failure(_LOG, "request_failed", error, {"server": request.match_info["server"]})
            return _refusal(McpError(INTERNAL_ERROR, "The bridge failed.", reason="internal", status=500))

    return answer


def _refusal(error: McpError) -> web.Response:
    return web.Response(body=errors.render(error), status=error.status, content_type=transport.JSON)
