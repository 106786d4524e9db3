"""HTTP servers in the collector's process: whoever connects can't take the descriptors and the memory that the audit needs."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

MAX_CONNECTIONS: Final = 256
"""Of one server. More are closed at once."""

SILENT_SECONDS: Final = 15.0
"""After which a connection is closed that asks nothing."""


UNREAD_SECONDS: Final = 20.0
"""After which a connection is closed whose peer takes nothing of what it is sent: it holds an answer, which may be large."""


_PIECE: Final = 64 << 10


async def answer(request: web.Request, body: bytes, content_type: str) -> web.StreamResponse:
    """An answer that all who ask have in common: of each of them only a piece is held, however slowly they read."""
    response = web.StreamResponse(headers={"content-type": content_type, "content-length": str(len(body))})
    await response.prepare(request)
    if request.method != "HEAD":
        for start in range(0, len(body), _PIECE):
            await response.write(body[start : start + _PIECE])
    await response.write_eof()
    return response


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Timed(asyncio.Protocol):
    """A connection, until its peer has taken nothing for too long.

    Args:
        inner: what it does.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.BaseProtocol`, as of all others."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Passed on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Passed on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Too much waits to be taken."""
        self._unread = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._transport.abort)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Most of it was."""
        self._end_timer()
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Passed on."""
        self._end_timer()
        self._inner.connection_lost(exc)

    def _end_timer(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class HttpServer:
    """An application that is served.

    Args:
        application: it.
        shutdown_seconds: for requests under way when it ends.
    """

    def __init__(self, application: web.Application, shutdown_seconds: float) -> None:
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=SILENT_SECONDS,
            shutdown_timeout=shutdown_seconds,
        )
        self._server: asyncio.Server | None = None

    async def start(self, **where: Any) -> int:
        """Serve. Returns the port.

        Args:
            where: for :meth:`asyncio.loop.create_server`: ``host`` and ``port``, or ``sock``.

        Raises:
            OSError: it can't listen there.
        """
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, **where)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def take(self, connection: socket.socket) -> None:
        """Serve somebody who has connected already."""
        with suppress(OSError):  # they have left
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    async def stop(self) -> None:
        """Serve no longer."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return _Timed(server()) if len(server.connections) < MAX_CONNECTIONS else _Refused()
