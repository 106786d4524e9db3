"""Where Prometheus finds metrics, if that is not at the status page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mcp_extproc.address import TcpAddress, names_this_machine
from mcp_extproc.telemetry.collector.http_server import HttpServer
from mcp_extproc.telemetry.prometheus import CONTENT_TYPE

PATH: Final = "/metrics"

_SHUTDOWN_SECONDS: Final = 1.0


class Scrape:
    """An HTTP server with one path.

    Args:
        address: where it listens. At a loopback address no site's page reads it, whatever its name resolves to.
        metrics: as text.
    """

    def __init__(self, address: TcpAddress, metrics: Callable[[], Awaitable[str]]) -> None:
        self._address = address
        self._metrics = metrics
        application = web.Application()
        application.router.add_get(PATH, self._answer)
        self._server = HttpServer(application, _SHUTDOWN_SECONDS)

    async def start(self) -> int:
        """Serve. Returns the port.

        Raises:
            OSError: it can't listen there.
        """
        return await self._server.start(host=self._address.host, port=self._address.port)

    async def close(self) -> None:
        """Serve no longer."""
        await self._server.stop()

    async def _answer(self, request: web.Request) -> web.Response:
        if self._address.is_loopback and not names_this_machine(request.headers.get("host", "")):
            raise web.HTTPForbidden(text="Metrics are for this machine: use localhost or a loopback address.\n")
        return exposed(await self._metrics())


def exposed(text: str) -> web.Response:
    """Metrics as Prometheus is answered."""
    return web.Response(body=text.encode(), headers={"content-type": CONTENT_TYPE})
