"""The collector, which makes spans, metrics and the audit of Envoy's records, and serves the status page: a process of its
own, started when there is something to collect, or somebody looks at the page, and restarted.

Nobody waits for it: while it is away, records wait in their pipe (:mod:`.records_pipe`), or are lost where Envoy sends them as
messages, and no call is harmed. It is told what to do on its standard input, and ends when that does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from mcp_extproc.address import TcpAddress, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config import otel_variables as otel
from mcp_extproc.config.otlp_tls import OtlpTls
from mcp_extproc.config.telemetry import Metrics
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.extproc.certificates import TlsFiles
from mcp_extproc.run.page import Page
from mcp_extproc.run.process import PYTHON, START_SECONDS, Restarts, StartError, end, ending, spawn
from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.spec import AuditTo, CollectorSpec, Export, ExportTls, PageAt, TlsWith

STOP_SECONDS = 10.0
"""It still sends what it has."""

_FREE_PORT: Final = "127.0.0.1:0"

_LOG = log.logger("collector")


def spec_of(
    config: GatewayConfig,
    environ: Mapping[str, str],
    layout: Layout,
    folder: Path,
    page: int | None = None,
    tls: TlsFiles | None = None,
) -> CollectorSpec | None:
    """What it is told; ``None`` where nothing is on, or it has no address.

    Args:
        config: what is on.
        environ: with OpenTelemetry's variables.
        layout: where it listens, and Envoy's admin interface.
        folder: of the configuration's file, in which the path of the audit starts.
        page: descriptor of the status page's socket; ``None`` where there is none.
        tls: for TLS with Envoy, if it listens at a TCP address.
    """
    if layout.collector is None or not (config.collects_always or page is not None):
        return None
    on = otel.exports(config.telemetry, config.audit, environ)
    metrics, audit = config.telemetry.metrics, config.audit
    at_page = page is not None and metrics is not None and metrics.address in (None, config.status.address)
    return CollectorSpec(
        listen=str(layout.collector),
        resource={**on.resource},
        tls=_tls(tls) if isinstance(layout.collector, TcpAddress) else None,
        ratio=on.sampler.ratio,
        parent_based=on.sampler.parent_based,
        traces=_export(on.traces),
        metrics=_export(on.metrics),
        logs=_export(on.logs),
        audit=_export(on.audit),
        audit_file=None
        if audit is None or audit.file is None
        else AuditTo(str(folder.absolute() / audit.file), audit.rotate_bytes, audit.keep),
        metrics_address=None if metrics is None or at_page else _scraped_at(metrics),
        admin=layout.admin.path if isinstance(layout.admin, UnixAddress) else None,
        label_values=(metrics or Metrics()).label_values,
        page=None
        if page is None
        else PageAt(
            page,
            has_metrics=at_page,
            records_on_demand=layout.admin is not None and not config.collects_always,
        ),
    )


def _scraped_at(metrics: Metrics) -> str | None:
    """Where Prometheus finds them, if that is not at the page: somewhere, unless they are sent."""
    return metrics.address or (_FREE_PORT if metrics.otlp is None else None)


def _tls(files: TlsFiles | None) -> TlsWith | None:
    if files is None:
        return None
    client_ca = None if files.client_ca is None else str(files.client_ca.absolute())
    return TlsWith(str(files.certificate.absolute()), str(files.key.absolute()), client_ca)


def _export(found: otel.Export | None) -> Export | None:
    if found is None:
        return None
    return Export(found.url, found.protocol == "grpc", {**found.headers}, _export_tls(found.tls))


def _export_tls(files: OtlpTls | None) -> ExportTls | None:
    if files is None:
        return None
    return ExportTls(
        *(None if file is None else str(file.absolute()) for file in (files.ca, files.certificate, files.key))
    )


class CollectorProcess:
    """The process, while there is something to collect, as its supervisor has it.

    Args:
        layout: where it listens.
        folder: of the configuration's file.
        reports: at which workers report.
        page: the status page.
        tls: for TLS with Envoy, if it listens at a TCP address.
        environ: with OpenTelemetry's variables.
    """

    def __init__(
        self,
        layout: Layout,
        folder: Path,
        reports: ReportChannel,
        page: Page | None = None,
        tls: TlsFiles | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._page = page
        self._tls = tls
        self._layout = layout
        self._reports = reports
        self._folder = folder
        self._environ = environ
        self._spec: CollectorSpec | None = None
        self._log_options: Sequence[str] = ()
        self._process: Process | None = None
        self._changing = asyncio.Lock()
        self._tasks = Tasks(_LOG)
        self._keeping: asyncio.Task[None] | None = None
        self._restarts = Restarts()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def spec(self) -> CollectorSpec | None:
        """What it does; ``None`` where nothing is on."""
        return self._spec

    async def serve(self, config: GatewayConfig) -> None:
        """Have it do what a configuration says, from now on. Where that has changed the process is replaced.

        Raises:
            StartError: it does not start; it has written why to standard error.
            OSError: it can't be started.
        """
        async with self._changing:
            if self._page is not None and not self._page.is_at(config):
                await self._end()
                self._spec = None
                self._page.open(config)
            wanted = spec_of(config, self._environ, self._layout, self._folder, self._descriptor(), self._tls)
            options = {"--log-level": config.log.level, "--log-format": config.log.format}
            self._log_options = [word for name, value in options.items() if value is not None for word in (name, value)]
            if wanted == self._spec:
                return
            await self._end()
            self._spec = wanted
            if wanted is not None:
                # For a page that nobody looks at there is no process.
                if config.collects_always:
                    await self._start(wanted)
                self._keeping = self._tasks.keep("keep_collector", self._keep)

    def _descriptor(self) -> int | None:
        return None if self._page is None else self._page.descriptor

    async def stop(self) -> None:
        """End it."""
        await self._tasks.close()
        async with self._changing:
            await self._end()
            self._spec = None
        if self._page is not None:
            await self._page.stop()

    async def _end(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
            self._keeping = None
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            await end(process, STOP_SECONDS)

    async def _start(self, wanted: CollectorSpec, visitors: Sequence[socket.socket] = ()) -> None:
        reports = self._reports.collector_end
        descriptors = [reports]
        began_with = msgspec.structs.replace(wanted, restarts=self._reports.restarts)
        if wanted.page is not None:
            connected = [one.fileno() for one in visitors]
            descriptors += [wanted.page.descriptor, *connected]
            began_with = msgspec.structs.replace(
                began_with, page=msgspec.structs.replace(wanted.page, visitors=tuple(connected))
            )
        process = await spawn(
            [*PYTHON, "-m", "mcp_extproc", "collector-process", *self._log_options, "--reports", str(reports)],
            keep_stdin=True,
            stdout=PIPE,
            descriptors=descriptors,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(began_with) + b"\n")
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await process.stdout.readline()
        except TimeoutError:
            await end(process)
            raise StartError(f"the collector was not ready within {START_SECONDS:g} s") from None
        if not ready:
            code = await process.wait()
            raise StartError(f"the collector ended at start with {ending(code)}; see its messages above")
        self._process = process
        if wanted.page is not None and self._page is not None:
            self._tasks.start("attend_page", self._page.attend(process))

    async def _keep(self) -> None:
        """Start it when somebody looks, if it is not there for anything else, and again when it dies by itself."""
        while self._spec is not None:
            if self._process is None:
                assert self._page is not None
                with _ours_until_then(await self._page.visited()) as visitors:
                    async with self._changing:
                        is_started = await self._is_started(self._spec, visitors)
                if not is_started:
                    await asyncio.sleep(self._restarts.pause(0))
                    continue
            process, started = self._process, time.monotonic()
            assert process is not None
            code = await process.wait()
            pause = self._restarts.pause(time.monotonic() - started)
            died = {"pid": process.pid, "exit": ending(code), "restart_in_seconds": pause}
            log.event(_LOG, logging.ERROR, "collector_died", died)
            await asyncio.sleep(pause)
            async with self._changing:
                if process is self._process and self._spec is not None:
                    await self._again(self._spec)

    async def _again(self, wanted: CollectorSpec) -> None:
        self._reports.restarts.collector += 1
        if not await self._is_started(wanted):
            self._reports.restarts.collector -= 1

    async def _is_started(self, wanted: CollectorSpec, visitors: Sequence[socket.socket] = ()) -> bool:
        try:
            await self._start(wanted, visitors)
        except (StartError, OSError) as error:
            # The next round finds the same dead process, or none, and waits longer.
            log.event(_LOG, logging.ERROR, "collector_not_started", {"why": str(error)})
            return False
        return True


@contextmanager
def _ours_until_then(visitors: Sequence[socket.socket]) -> Iterator[Sequence[socket.socket]]:
    """Connections that a process inherits, or that are closed where none does."""
    try:
        yield visitors
    finally:
        for one in visitors:
            one.close()
