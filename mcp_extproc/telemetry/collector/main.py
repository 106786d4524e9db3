"""The collector's process: it is told what to do on standard input, and ends when that ends.

So it notices that its supervisor is gone, however that ended: nobody else has the other end of the pipe. What it has by then
is still sent. Lines after the first, and those that it writes to standard output once it serves, are between the status page
and the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import grpc
import msgspec

from mcp_extproc.address import PipeAddress, TcpAddress, UnixAddress, parse_address, parse_address_or_pipe
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.audit_file import AuditFile
from mcp_extproc.telemetry.collector import als, transport
from mcp_extproc.telemetry.collector.envoy import Envoy
from mcp_extproc.telemetry.collector.intake import Intake, TakesEvents
from mcp_extproc.telemetry.collector.known_lines import KnownLines
from mcp_extproc.telemetry.collector.pipe_reader import PipeReader
from mcp_extproc.telemetry.collector.received import Received, received_file
from mcp_extproc.telemetry.collector.scrape import Scrape
from mcp_extproc.telemetry.collector.sender import Sender
from mcp_extproc.telemetry.collector.spec import CollectorSpec, Export, TlsWith
from mcp_extproc.telemetry.collector.workers import Workers, memory_labels
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.instruments import AUDIT_LOST, AUDIT_WRITTEN, MEMORY, RECORDS_LOST, SPANS_LOST, Instrument
from mcp_extproc.telemetry.memory import resident_bytes
from mcp_extproc.telemetry.prometheus import exposition
from mcp_extproc.telemetry.spans import Tracing
from mcp_extproc.telemetry.totals import Family, Totals

if TYPE_CHECKING:
    from mcp_extproc.telemetry.collector.span_writer import SpanWriter

MESSAGE_BYTES: Final = 16 << 20
"""Of a line from the supervisor: what the page shows of a large configuration."""
_SPAN_SECONDS: Final = 1.0
_METRIC_SECONDS: Final = 10.0
_MADE_SECONDS: Final = 0.5
"""For which metrics are not made again."""

_END_SECONDS: Final = 5.0
"""For what is still to be sent at the end."""

_LOG = log.logger("collector")


class Page(Protocol):
    """Shows people what comes."""

    def show(self, exchange: Exchange) -> None:
        """A request that is over."""

    def learn(self, line: bytes) -> None:
        """What the supervisor says."""

    async def start(self, metrics: Callable[[], Awaitable[bytes]] | None, workers: Workers) -> None:
        """Serve.

        Args:
            metrics: as Prometheus reads them, where it finds them here.
            workers: what they report.
        """

    async def stop(self) -> None:
        """Serve no longer."""


MakePage = Callable[[CollectorSpec, Callable[[bytes], None]], Page]
"""Makes it, given what tells the supervisor a line."""

Credentials: TypeAlias = grpc.ServerCredentials
MakeCredentials = Callable[[TlsWith], Credentials]
"""Makes them of the files' content, also of what is there later."""


def serve(reports: socket.socket | None, make_page: MakePage, make_credentials: MakeCredentials) -> None:
    """Serve until standard input ends, or SIGTERM. Blocks. A line is written to standard output once it serves.

    Args:
        reports: at which workers and their supervisor report.
        make_page: makes the status page, where there is one.
        make_credentials: makes those of TLS, where Envoy sends with it.

    Raises:
        AuditFileError: the audit can't be written.
        ScrapeError: the address of metrics can't be used.
        OSError: another address is taken.
    """
    asyncio.run(_serve(reports, make_page, make_credentials))


async def _serve(reports: socket.socket | None, make_page: MakePage, make_credentials: MakeCredentials) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    reader = asyncio.StreamReader(limit=MESSAGE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    spec = msgspec.json.decode(await reader.readline(), type=CollectorSpec)
    page = None if spec.page is None else make_page(spec, _tell)
    collector = Collector(spec, page, None if spec.tls is None else make_credentials(spec.tls))
    await collector.start(reports)
    _tell(b"ready\n")
    ended, stopped = asyncio.create_task(_listen(reader, page)), asyncio.create_task(stop.wait())
    await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, stopped):
        task.cancel()
    await collector.stop()


def _tell(line: bytes) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone
        os.write(sys.stdout.fileno(), line)


async def _listen(reader: asyncio.StreamReader, page: Page | None) -> None:
    while line := await reader.readline():
        if page is not None:
            page.learn(line)


class Collector:
    """All parts of it in its process, as far as they are on.

    Args:
        spec: what it does.
        page: the status page.
        credentials: for TLS with Envoy.
    """

    def __init__(self, spec: CollectorSpec, page: Page | None = None, credentials: Credentials | None = None) -> None:
        self._spec = spec
        self._page = page
        self._credentials = credentials
        self._address = parse_address_or_pipe(spec.listen)
        self._since = time.time_ns()
        self._senders: list[Sender] = []
        self._transports: list[transport.Transport] = []
        self._file: AuditFile | None = None
        self._spans: Sender | None = None
        self._audit: Sender | None = None
        self._scrape: Scrape | None = None
        self._send_metrics: Callable[[], Awaitable[None]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._had_problem = False
        self._writer: SpanWriter | None = None
        self._received: Received | None = None
        self._envoy: Envoy | None = None
        self._asked: asyncio.Task[bytes] | None = None
        self._asked_at = -math.inf
        self.workers = Workers(lambda report: self._intake.take_report(report), time.time)
        """What they are, and have told."""
        self.workers.restarts = spec.restarts

    async def start(self, reports: socket.socket | None = None) -> None:
        """Serve Envoy, and hear workers.

        Args:
            reports: at which they and their supervisor report.

        Raises:
            AuditFileError: the audit can't be written.
            ScrapeError: the address of metrics can't be used.
            OSError: another address is taken.
        """
        spec = self._spec
        self._know_envoy()
        self._intake = self._made_intake()
        self._tasks = [asyncio.create_task(sender.run()) for sender in self._senders]
        if spec.metrics is not None:
            self._send_metrics = self._metrics_sender(spec.metrics)
            self._tasks.append(asyncio.create_task(self._send_regularly(self._send_metrics)))
        if spec.metrics_address is not None:
            await self._serve_metrics(spec.metrics_address)
        if reports is not None:
            self.workers.listen(reports)
        self._stop_reading = await self._read()
        if self._page is not None:
            has_metrics = spec.page is not None and spec.page.has_metrics
            await self._page.start(self._all_metrics if has_metrics else None, self.workers)
        log.event(_LOG, logging.INFO, "collecting", {"listen": spec.listen, **spec.destinations})

    async def stop(self) -> None:
        """End it. What it has is sent, for a few seconds."""
        await self._stop_reading()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(*(sender.flush() for sender in self._senders))
                if self._send_metrics is not None:
                    await self._send_metrics()
        for each in self._transports:
            await each.close()
        if self._scrape is not None:
            await self._scrape.close()
        if self._page is not None:
            await self._page.stop()
        if self._file is not None:
            self._file.close()
        if isinstance(self._address, UnixAddress):
            Path(self._address.path).unlink(missing_ok=True)

    def _know_envoy(self) -> None:
        """How many of its records are lost, where it is ours, and its own metrics."""
        admin = self._spec.admin
        beside = self._address.path if isinstance(self._address, PipeAddress) else admin
        if beside is not None:
            self._received = Received(received_file(beside))
        if admin is not None and self._received is not None and self._spec.measures:
            self._envoy = Envoy(admin, self._received)

    def _made_intake(self) -> Intake:
        """What takes records, with whatever takes what is made of them."""
        spec = self._spec
        if spec.audit_file is not None:
            self._file = AuditFile(Path(spec.audit_file.path), spec.audit_file.rotate_bytes, spec.audit_file.keep)
            self._file.open()
        if spec.audit is not None:
            self._audit = self._sender(spec.audit, transport.LOGS, "audit.otlp")
        self._writer = self._span_writer(spec.traces)
        return Intake(
            Tracing(spec.ratio, spec.parent_based),
            secrets.token_hex,
            take_span=None if self._writer is None else self._writer.take,
            totals=Totals(spec.label_values) if spec.measures else None,
            take_lines=None if self._file is None else self._write,
            take_audit=None if self._audit is None else _takes_events(self._audit),
            take_access=None
            if spec.logs is None
            else _takes_events(self._sender(spec.logs, transport.LOGS, "telemetry.logs.otlp")),
            show=None if self._page is None else self._page.show,
        )

    async def _read(self) -> Callable[[], Awaitable[object]]:
        """Have records come. Returns what ends that."""
        if isinstance(self._address, PipeAddress):
            assert self._received is not None
            return PipeReader(self._address, partial(self._take_lines, self._known_lines()), self._received).stop
        server = await als.serve(self._address, self._take, self._credentials)
        return lambda: server.stop(grace=0.2)

    # -- Where things go --------------------------------------------------------------------------------------------------

    def _span_writer(self, export: Export | None) -> SpanWriter | None:
        if export is None:
            return None
        from mcp_extproc.telemetry.collector.span_writer import SpanWriter

        self._spans = self._sender(export, transport.TRACES, "telemetry.traces")
        return SpanWriter(self._spans)

    def _sender(self, export: Export, method: str, setting: str) -> Sender:
        from mcp_extproc.telemetry.collector import otlp

        resource, to = otlp.resource_of(self._spec.resource), self._transport(export, method, setting)

        async def send(records: Sequence[bytes]) -> bool:
            return await to.send(otlp.request_of(resource, records))

        sender = Sender(send, _SPAN_SECONDS)
        self._senders.append(sender)
        return sender

    def _transport(self, export: Export, method: str, setting: str) -> transport.Transport:
        to = transport.Transport(export, method, setting)
        self._transports.append(to)
        return to

    def _known_lines(self) -> KnownLines:
        tells = self._spec.audit is not None or self._spec.logs is not None
        return KnownLines(
            self._intake, self._writer, None if self._page is None else self._page.show, tells_records=tells
        )

    def _take_lines(self, lines: KnownLines, chunk: bytes) -> int:
        assert self._received is not None
        before = lines.unreadable
        self._received.add(lines.take(chunk))
        return lines.unreadable - before

    def _take(self, exchanges: Iterable[Exchange]) -> None:
        count = self._intake.take(exchanges)
        if self._received is not None:
            self._received.add(count)

    def _write(self, lines: list[bytes]) -> None:
        assert self._file is not None
        self._file.write(lines)
        problem = self._file.problem
        if problem is not None and not self._had_problem:
            why = {"why": problem.strerror or type(problem).__name__, "lost": self._file.lost}
            log.event(_LOG, logging.ERROR, "audit_not_written", why)
        self._had_problem = problem is not None

    # -- Metrics ----------------------------------------------------------------------------------------------------------

    async def _serve_metrics(self, at: str) -> None:
        address = parse_address(at)
        assert isinstance(address, TcpAddress)
        self._scrape = Scrape(address, self._all_metrics)
        port = await self._scrape.start()
        # A port that nobody has chosen has to be told of, also at a terminal.
        level = logging.INFO if address.port else logging.WARNING
        log.event(_LOG, level, "metrics_served", {"address": str(TcpAddress(address.host, port))})

    async def _all_metrics(self) -> bytes:
        """As Prometheus reads them: ours, and Envoy's where it is ours. They are made once for all who ask meanwhile, or soon
        after: whoever asks without end takes no time that records need."""
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._asked_at >= _MADE_SECONDS):
            self._asked, self._asked_at = asyncio.create_task(self._made_metrics()), now
        return await asyncio.shield(self._asked)

    async def _made_metrics(self) -> bytes:
        envoys = "" if self._envoy is None else await self._envoy.metrics()
        return (exposition(self._families()) + envoys).encode()

    def _families(self) -> list[Family]:
        kept = [Family(instrument, {(): value}, {}) for instrument, value in self._counts()]
        if (rss := resident_bytes()) is not None:
            kept.append(Family(MEMORY, {memory_labels("collector", os.getpid()): rss}, {}))
        return self._intake.families(time.time(), [*kept, *self.workers.families()])

    def _counts(self) -> Iterator[tuple[Instrument, float]]:
        if self._file is not None:
            yield AUDIT_WRITTEN, self._file.written
        if self._file is not None or self._audit is not None:
            yield AUDIT_LOST, sum(each.lost for each in (self._file, self._audit) if each is not None)
        if self._spans is not None:
            yield SPANS_LOST, self._spans.lost + self.workers.spans_lost
        if isinstance(self._address, PipeAddress):
            assert self._received is not None
            yield RECORDS_LOST, self._received.lost
        elif self._envoy is not None and self._envoy.lost is not None:
            yield RECORDS_LOST, self._envoy.lost

    def _metrics_sender(self, export: Export) -> Callable[[], Awaitable[None]]:
        from mcp_extproc.telemetry.collector import otlp, otlp_metrics

        resource = otlp.resource_of(self._spec.resource)
        to = self._transport(export, transport.METRICS, "telemetry.metrics.otlp")

        async def send() -> None:
            request = otlp_metrics.metrics(self._families(), resource, self._since, time.time_ns())
            await to.send(request)  # which says itself when it can't

        return send

    async def _send_regularly(self, send: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(_METRIC_SECONDS)
            if self._envoy is not None:
                await self._envoy.metrics()
            await send()


def _takes_events(sender: Sender) -> TakesEvents:
    from mcp_extproc.telemetry.collector import otlp

    def take(name: str, started: int, attributes: dict[str, Any], context: SpanContext | None) -> None:
        sender.put(otlp.item(otlp.record(name, started, attributes, context)))

    return take
