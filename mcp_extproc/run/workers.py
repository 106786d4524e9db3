"""Workers for an Envoy that runs separately: in another container, or under another supervisor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from mcp_extproc.config import Loaded, Source
from mcp_extproc.envoy.files import BOOTSTRAP
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.extproc.certificates import TlsFiles
from mcp_extproc.run.authorization_servers import AuthorizationServers
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.collector import CollectorProcess
from mcp_extproc.run.known import Gateway
from mcp_extproc.run.nursery import Starter
from mcp_extproc.run.page import Page
from mcp_extproc.run.reload import LiveConfig
from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.run.resident import give_back, mapped
from mcp_extproc.run.supervisor import Supervisor
from mcp_extproc.telemetry import log

_LOG = log.logger("serve")


class Workers:
    """The workers, and the files that their Envoy watches. Use as an async context manager; leaving it ends the workers.

    Args:
        source: of the configuration.
        served: its content.
        starter: starts workers.
        layout: addresses of Envoy and the workers, one for each worker.
        options: further arguments of ``mcp-extproc worker``.
        tls: what they have of TLS, for the collector.
        envoy_config: directory of Envoy's files, as Envoy sees it; ``None`` if Envoy is configured separately.
        port: port for clients, instead of the configuration's.
        stop_seconds: time for running calls when the workers stop.
        inherits: whether the workers' transport can take over a listening socket.
    """

    def __init__(
        self,
        source: Source,
        served: Loaded,
        starter: Starter,
        layout: Layout,
        options: Sequence[str],
        tls: TlsFiles | None,
        envoy_config: Path | None,
        port: int | None,
        stop_seconds: float,
        *,
        inherits: bool,
    ) -> None:
        self._stop_seconds = stop_seconds
        self._layout = layout
        self._envoy_config = envoy_config
        self._reports = ReportChannel()
        self._workers = Supervisor(
            served,
            ["--upstreams", str(layout.upstreams), "--batches", str(layout.batches), *options],
            layout.extproc,
            starter,
            self._reports,
            inherits=inherits,
        )
        self._bridge = Bridge(layout, source.folder)
        # An Envoy that is configured separately does not ask.
        self._issuers = AuthorizationServers(layout.keys if envoy_config is not None else None)
        # An Envoy that is configured separately has its admin interface anywhere.
        seen = layout if envoy_config is not None else replace(layout, admin=None)
        self._page = Page(layout.upstreams, self._as_it_is)
        self._collector = CollectorProcess(seen, source.folder, self._reports, self._page, tls)
        self._live = LiveConfig(
            source,
            served,
            port,
            self._workers,
            self._bridge,
            self._issuers,
            layout,
            envoy_config,
            collector=self._collector,
        )

    @property
    def pids(self) -> Sequence[int]:
        """Process ids of the workers."""
        return self._workers.pids

    def _as_it_is(self) -> Gateway:
        served = self._live.served
        # A listener that others own may be anywhere, as may one at a port that Envoy chooses.
        port = None if self._envoy_config is None else served.config.listen.port or None
        return Gateway(served.config, served.name, "serve", port, len(self._layout.extproc))

    def reload_soon(self) -> None:
        """Replace the workers by new ones with the present configuration."""
        self._live.reload_soon()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            StartError: a worker can't serve.
            OSError: the files can't be written.
        """
        async with AsyncExitStack() as starting:
            starting.callback(self._reports.close)
            starting.push_async_callback(self._collector.stop)  # after the workers, whose last calls have records, too
            starting.push_async_callback(self._bridge.stop)
            starting.push_async_callback(self._workers.stop, self._stop_seconds)
            # First, as another process that serves here would see its Envoy's files change.
            await self._workers.open()
            starting.push_async_callback(self._issuers.stop)
            await self._issuers.serve(self._live.served.config)
            await self._collector.serve(self._live.served.config)
            # An Envoy that runs already, with what was served before, is ready for the new workers.
            await self._bridge.serve(self._live.served.config)
            if self._envoy_config is not None:
                self._live.write_watched()
            await self._workers.start()
            if self._envoy_config is not None:
                self._live.write_bootstrap()
            starting.push_async_callback(self._live.close)
            self._live.watch()
            self._running = starting.pop_all()
        give_back(mapped())  # from here on it only waits
        ready = {"listen": ",".join(map(str, self._layout.extproc)), "workers": len(self.pids)}
        if self._page.url is not None:
            ready["status_page"] = self._page.url
        if self._envoy_config is not None:
            ready["start_envoy_with"] = f"-c {self._envoy_config / BOOTSTRAP}"
        log.event(_LOG, logging.INFO, "ready", ready)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()
