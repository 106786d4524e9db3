"""Where Prometheus finds metrics, if that is not at the status page."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mcp_extproc.address import TcpAddress, names_this_machine
from mcp_extproc.telemetry.collector.http_server import HttpServer, answer
from mcp_extproc.telemetry.prometheus import CONTENT_TYPE

PATH: Final = "/metrics"

_SHUTDOWN_SECONDS: Final = 1.0


class ScrapeError(Exception):
    """It can't listen: where, why, and what to do."""


class Scrape:
    """An HTTP server with one path.

    Args:
        address: where it listens. At a loopback address no site's page reads it, whatever its name resolves to.
        metrics: as text.
    """

    def __init__(self, address: TcpAddress, metrics: Callable[[], Awaitable[bytes]]) -> None:
        self._address = address
        self._metrics = metrics
        application = web.Application()
        application.router.add_get(PATH, self._answer)
        application.router.add_get("/{path:.*}", self._elsewhere)
        self._server = HttpServer(application, _SHUTDOWN_SECONDS)

    async def start(self) -> int:
        """Serve. Returns the port.

        Raises:
            ScrapeError: it can't listen there.
        """
        try:
            return await self._server.start(host=self._address.host, port=self._address.port)
        except OSError as error:
            # asyncio's own text for an address says the address again.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise ScrapeError(
                f"cannot serve metrics on {self._address}: {why}. Choose another address with telemetry.metrics.address."
            ) from None

    async def close(self) -> None:
        """Serve no longer."""
        await self._server.stop()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._address.is_loopback and not names_this_machine(request.headers.get("host", "")):
            raise web.HTTPForbidden(text="Metrics are for this machine: use localhost or a loopback address.\n")
        return await answer(request, await self._metrics(), CONTENT_TYPE)

    async def _elsewhere(self, _: web.Request) -> web.Response:
        raise web.HTTPNotFound(text=f"Metrics are at {PATH}.\n")
