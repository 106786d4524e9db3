"""Where Prometheus finds metrics: ours, and Envoy's where it is ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.telemetry.collector.envoy import Envoy
from mcp_extproc.telemetry.prometheus import CONTENT_TYPE

PATH: Final = "/metrics"


class Scrape:
    """An HTTP server with one path.

    Args:
        address: where it listens.
        ours: our metrics as text.
        envoy: the Envoy that sends the records, if it is ours.
    """

    def __init__(self, address: TcpAddress, ours: Callable[[], str], envoy: Envoy | None) -> None:
        self._address = address
        self._ours = ours
        self._envoy = envoy
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
        envoys = "" if self._envoy is None else await self._envoy.metrics()
        return web.Response(body=(self._ours() + envoys).encode(), headers={"content-type": CONTENT_TYPE})
