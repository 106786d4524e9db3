"""The bridge by itself, for a gateway that runs elsewhere: in another container, say."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from mcp_extproc.config import Loaded, Source
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.changes import Changes, refusals_logged
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

_LOG = log.logger("bridge")


class StandingBridge:
    """The bridge with a configuration's stdio servers, which follows the changes of it. Use as an async context manager;
    leaving it ends the bridge and all children.

    Args:
        source: of the configuration.
        served: its content.
        layout: where Envoy connects to the bridge.
    """

    def __init__(self, source: Source, served: Loaded, layout: Layout) -> None:
        self._source = source
        self._served = served
        self._address = layout.bridge
        self._bridge = Bridge(layout, source.folder)
        self._changes = Changes(source)
        self._tasks = Tasks(_LOG)

    def reload_soon(self) -> None:
        """Take up the present configuration, changed or not."""
        self._changes.ask()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            StartError: the bridge can't listen, or does not start.
            OSError: the same.
        """
        try:
            await self._bridge.begin(self._served.config)
        except BaseException:
            await self._bridge.stop()
            raise
        self._tasks.keep("watch_config", self._watch)
        servers = ",".join(self._served.config.servers)
        log.event(_LOG, logging.INFO, "ready", {"listen": str(self._address), "servers": servers})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.close()
        await self._bridge.stop()

    async def _watch(self) -> None:
        while True:
            asked = await self._changes.next()
            with refusals_logged(_LOG, "bridge"):
                await self._reload(even_if_same=asked)

    async def _reload(self, *, even_if_same: bool) -> None:
        new = self._source.load()
        if new.text == self._served.text and not even_if_same:
            return
        try:
            await self._bridge.serve(new.config)
        except Exception:
            await self._bridge.serve(self._served.config)
            raise
        self._served = new
        for warning in new.warnings:
            log.event(_LOG, logging.WARNING, "config_warning", {"warning": warning})
        log.event(_LOG, logging.INFO, "config_reloaded", {"servers": ",".join(new.config.servers)})
