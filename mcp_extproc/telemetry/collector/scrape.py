"""Where Prometheus finds metrics: ours, and Envoy's where it is ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.prometheus import CONTENT_TYPE

PATH: Final = "/metrics"

ENVOY_SECONDS: Final = 3.0
"""For Envoy's answer. Without it there are ours."""

_LOG = log.logger("collector")


class Scrape:
    """An HTTP server with one path.

    Args:
        address: where it listens.
        ours: our metrics as text.
        admin: path of the socket of Envoy's admin interface.
    """

    def __init__(self, address: TcpAddress, ours: Callable[[], str], admin: str | None) -> None:
        self._address = address
        self._ours = ours
        self._admin = admin
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
        text = self._ours() + await self._envoys()
        return web.Response(body=text.encode(), headers={"content-type": CONTENT_TYPE})

    async def _envoys(self) -> str:
        if self._admin is None:
            return ""
        try:
            async with (
                asyncio.timeout(ENVOY_SECONDS),
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(self._admin)) as session,
                session.get("http://envoy/stats/prometheus?usedonly") as response,
            ):
                response.raise_for_status()
                return await response.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.event(_LOG, logging.WARNING, "envoy_not_scraped", {"why": type(error).__name__})
            return ""
