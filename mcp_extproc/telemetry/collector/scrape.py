"""Where Prometheus finds metrics, if that is not at the status page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.telemetry.prometheus import CONTENT_TYPE

PATH: Final = "/metrics"


class Scrape:
    """An HTTP server with one path.

    Args:
        address: where it listens.
        metrics: as text.
    """

    def __init__(self, address: TcpAddress, metrics: Callable[[], Awaitable[str]]) -> None:
        self._address = address
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Serve. Returns the port.

        Raises:
            OSError: it can't listen there.
        """
        application = web.Application()
        application.router.add_get(PATH, self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address.host, self._address.port).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Serve no longer."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        return exposed(await self._metrics())


def exposed(text: str) -> web.Response:
    """Metrics as Prometheus is answered."""
    return web.Response(body=text.encode(), headers={"content-type": CONTENT_TYPE})
