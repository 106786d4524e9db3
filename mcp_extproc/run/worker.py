"""One worker: the processor with its upstreams behind a transport, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvloop

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.extproc.certificates import Certificates, TlsFiles
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.http2.transport import Http2Server
from mcp_extproc.extproc.recorder import Recorder
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.run import open_files, unix_sockets
from mcp_extproc.run.process import DRAIN_SECONDS
from mcp_extproc.run.resident import give_back, mapped
from mcp_extproc.run.session_secret import session_secret
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.counters import Counters
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.expiry import Expiry
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.get_streams import Streams
from mcp_extproc.upstreams.handover import Handover
from mcp_extproc.upstreams.open_streams import OpenStreams
from mcp_extproc.upstreams.secret_files import SecretFiles
from mcp_extproc.upstreams.stream_services import StreamServices
from mcp_extproc.upstreams.turns import Turns
from mcp_extproc.upstreams.unread import Unread
from mcp_extproc.upstreams.vetted_calls import VettedCalls

if TYPE_CHECKING:
    from mcp_extproc.extproc.grpcio_transport import GrpcioServer
    from mcp_extproc.run.reporter import Reporter
    from mcp_extproc.telemetry.accumulator import Accumulator

TRANSPORTS = ("http2", "grpcio")
"""Names of the transports: the lean one, and grpc.aio as the reference."""

DEFAULT_TRANSPORT = "http2"

# Of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 32 << 20
"""glibc's maximum for the former."""

_LOG = log.logger("worker")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Address and options of a worker."""

    listen: Address | socket.socket
    """Where Envoy's ext_proc filter connects: an address, or a listening socket."""
    upstreams: Address
    """Envoy's private listener for sub-requests."""
    batches: Address | None
    """Envoy's listener for the messages of batches; ``None`` if there is none."""
    transport: str = DEFAULT_TRANSPORT
    """A name in :data:`TRANSPORTS`."""
    tls: TlsFiles | None = None
    """For TLS on ``listen``."""
    drain_seconds: float = DRAIN_SECONDS
    """Time for running exchanges after the first SIGTERM, in seconds. A second one ends them."""
    collector: socket.socket | None = None
    """To the collector, where there is one."""


@asynccontextmanager
async def worker(
    config: GatewayConfig, options: WorkerOptions, secret: str, hurry: asyncio.Event | None = None
) -> AsyncIterator[Counters]:
    """A serving worker. It drains when the block is left.

    Args:
        config: the whole configuration.
        options: address and options.
        secret: seals session tokens.
        hurry: ends draining once set.

    Raises:
        OSError: ``options.listen`` can't be used.
        TlsError: the files of ``options.tls`` can't be used.
    """
    counters = Counters()
    accumulator = None if options.collector is None else _accumulator()
    observer = accumulator or UNOBSERVED
    gateway = Gateway(config, secret, SessionMemory())
    tls = Certificates(options.tls) if options.tls is not None else None
    secret_files = SecretFiles(gateway.servers.values(), gateway.renew)
    secret_files.read()
    async with AsyncExitStack() as stack:
        secret_files.start()
        stack.push_async_callback(secret_files.close)
        upstreams = await _upstreams(stack, gateway, options, observer)
        recorder = Recorder(config, secret, observer=observer) if config.collects else None
        processor = Processor(
            gateway, upstreams.legs, upstreams.streams, upstreams.vetted, counters, time.time, recorder
        )
        server = transport(options.transport)(processor, options.listen, config.limits.request_bytes, tls)
        if isinstance(options.listen, UnixAddress):
            await unix_sockets.require_free(Path(options.listen.path))
            Path(options.listen.path).unlink(missing_ok=True)
        with unix_sockets.only_for_us():
            await server.start()
            if config.vetting:
                upstreams.handover.start()
                stack.callback(upstreams.handover.close)
        if accumulator is not None and options.collector is not None:
            stack.push_async_callback(_reporter(options.collector, accumulator, upstreams.open, gateway).close)
        stack.push_async_callback(_drain, server, upstreams.streams, upstreams.vetted, options.drain_seconds, hurry)
        yield counters


class _Upstreams(NamedTuple):
    """The side of a worker that asks servers."""

    legs: LegRunner
    streams: Streams
    vetted: VettedCalls
    handover: Handover
    open: OpenStreams


async def _upstreams(stack: AsyncExitStack, gateway: Gateway, options: WorkerOptions, observer: Observer) -> _Upstreams:
    """That side, which ends with the stack. Streams and vetted calls end before, in :func:`_drain`."""
    config, entries, memory = gateway.config, gateway.servers, gateway.memory
    limits, turns = config.limits, Turns()
    client = await stack.enter_async_context(UpstreamClient(options.upstreams, limits, turns, gateway.tokens, observer))
    batches = await stack.enter_async_context(BatchClient(options.batches, limits, turns))
    legs = LegRunner(client, batches, entries, memory, limits, observer)
    stack.push_async_callback(legs.close)
    expiry = Expiry(legs, memory, time.time, config.session.ttl, observer)
    expiry.start()
    stack.push_async_callback(expiry.close)
    unread = Unread(limits.unread_bytes, limits.stream_bytes, config.listen.limits.unread_timeout, time.monotonic)
    opened = OpenStreams(limits.streams, limits.session_streams)
    streams = Streams(StreamServices(
        client, legs, entries, memory, gateway.identifiers, time.time, unread, opened, turns, limits.json_members, legs.held,
    ))  # fmt: skip
    handover = Handover(_directory_of(options.listen), gateway.identifiers)
    vetted = VettedCalls(batches, memory, legs.held, unread, limits.response_bytes, handover)
    return _Upstreams(legs, streams, vetted, handover, opened)


def _accumulator() -> Accumulator:
    """The observer that tells the collector. Only imported where there is one."""
    from mcp_extproc.telemetry.accumulator import Accumulator

    return Accumulator(os.getpid())


def _reporter(collector: socket.socket, accumulator: Accumulator, opened: OpenStreams, gateway: Gateway) -> Reporter:
    """What reports, started."""
    from mcp_extproc.run.reporter import Reporter

    reporter = Reporter(collector, accumulator, lambda: len(opened), lambda: gateway.memory.begun, gateway.lookups)
    reporter.start()
    return reporter


def transport(name: str) -> type[Http2Server | GrpcioServer]:
    """The transport with a name in :data:`TRANSPORTS`. gRPC, which takes long to import, only where it is used."""
    if name == "http2":
        return Http2Server
    from mcp_extproc.extproc.grpcio_transport import GrpcioServer

    return GrpcioServer


def serve(config: GatewayConfig, options: WorkerOptions, on_ready: Callable[[], object] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain, until a second signal. Blocks.

    Args:
        config: the whole configuration.
        options: address and options.
        on_ready: called once it serves.

    Raises:
        OSError: ``options.listen`` can't be used.
        TlsError: the files of ``options.tls`` can't be used.
    """
    open_files.allow_many()
    _keep_memory()
    uvloop.run(_serve(config, options, session_secret(config, os.environ), on_ready))


def _keep_memory() -> None:
    """Have glibc keep large blocks instead of returning each to the system.

    A body of a megabyte is copied several times, and the system clears every page that it hands out. The memory kept is
    bounded by the peak use.
    """
    with contextlib.suppress(OSError, AttributeError):  # Another C library.
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK)


async def _serve(config: GatewayConfig, options: WorkerOptions, secret: str, on_ready: Callable[[], object]) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    async with worker(config, options, secret, hurry) as counters:
        gc.freeze()  # Modules and types are permanent: exclude them from garbage collection.
        libraries = mapped()
        on_ready()
        # Beside the loop: calls come from now on.
        threading.Thread(target=give_back, args=(libraries,), name="give-back", daemon=True).start()
        where = "an inherited socket" if isinstance(options.listen, socket.socket) else str(options.listen)
        log.event(_LOG, logging.INFO, "serving", {"listen": where, "servers": ",".join(config.servers)})
        await stop.wait()
        log.event(_LOG, logging.INFO, "draining", {"seconds": options.drain_seconds})
    log.event(_LOG, logging.INFO, "stopped", counters.snapshot())


def _directory_of(listen: Address | socket.socket) -> Path | None:
    """Where the workers of this machine have their sockets, where that is a directory."""
    if isinstance(listen, UnixAddress):
        return Path(listen.path).parent
    if isinstance(listen, socket.socket) and listen.family == socket.AF_UNIX:
        return Path(listen.getsockname()).parent
    return None


async def _drain(
    server: Http2Server | GrpcioServer,
    streams: Streams,
    vetted: VettedCalls,
    seconds: float,
    hurry: asyncio.Event | None,
) -> None:
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(server.stop(seconds))
        await asyncio.sleep(0)
        # They would last for the whole time. Clients open them again elsewhere, as nothing new is taken here by now.
        vetted.close()
        await streams.close()
        if hurry is not None:
            hurrying = group.create_task(hurry.wait())
            await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
            hurrying.cancel()
            if not stopping.done():
                await server.stop(0)
