"""One worker: the processor with its upstreams behind a transport, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.extproc.certificates import Certificates, TlsFiles
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.extproc.http2.transport import Http2Server
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.run import open_files
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.counters import Counters
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.get_streams import Streams

DRAIN_SECONDS = 10.0
"""Default time for running exchanges after SIGTERM, in seconds."""

_MOST_STEPS = 3
"""Seconds to find the owner of a URI without prefix: resources, templates, and a session with the server."""

TRANSPORTS: Mapping[str, type[Http2Server | GrpcioServer]] = {"http2": Http2Server, "grpcio": GrpcioServer}
"""Transports by name: the lean one, and grpc.aio as the reference."""

DEFAULT_TRANSPORT = "http2"

_PATIENCE_MARGIN = 5.0

# From mallopt in glibc's malloc.h.
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
    memory = SessionMemory()
    gateway = Gateway(config, secret, memory)
    entries = gateway.catalog.entries
    tls = Certificates(options.tls) if options.tls is not None else None
    async with (
        UpstreamClient(options.upstreams, config.limits) as client,
        BatchClient(options.batches, config) as front,
    ):
        legs = LegRunner(client, front, entries, memory, config.limits)
        streams = Streams(client, legs, entries, memory, gateway.identifiers, time.time, config.limits.stream_bytes)
        processor = Processor(gateway, legs, streams, counters, time.time, _patience(config))
        server = TRANSPORTS[options.transport](processor, options.listen, config.limits.request_bytes, tls)
        if isinstance(options.listen, UnixAddress):
            Path(options.listen.path).unlink(missing_ok=True)
        await server.start()
        if isinstance(options.listen, UnixAddress):
            Path(options.listen.path).chmod(0o600)
        try:
            yield counters
        finally:
            await _drain(server, streams, options.drain_seconds, hurry)
            await legs.close()


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


def session_secret(config: GatewayConfig, environ: Mapping[str, str]) -> str:
    """The configured secret, or the one that ``run`` generated for its workers, or a random one with a warning."""
    if config.session.secret is not None:
        return config.session.secret.get_secret_value()
    if handed_down := environ.get(SECRET_VARIABLE):
        return handed_down
    log.event(_LOG, logging.WARNING, "random_session_secret", {
        "effect": "sessions end with this process and are not shared with other workers",
        "remedy": "set session.secret",
    })  # fmt: skip
    return secrets.token_urlsafe(32)


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
        on_ready()
        where = "an inherited socket" if isinstance(options.listen, socket.socket) else str(options.listen)
        log.event(_LOG, logging.INFO, "serving", {"listen": where, "servers": ",".join(config.servers)})
        await stop.wait()
        log.event(_LOG, logging.INFO, "draining", {"seconds": options.drain_seconds})
    log.event(_LOG, logging.INFO, "stopped", counters.snapshot())


async def _drain(
    server: Http2Server | GrpcioServer, streams: Streams, seconds: float, hurry: asyncio.Event | None
) -> None:
    stopping = asyncio.create_task(server.stop(seconds))
    await asyncio.sleep(0)
    # Client streams would last for the whole draining time. Clients open them again at another worker.
    await streams.close()
    if hurry is not None:
        hurrying = asyncio.create_task(hurry.wait())
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not stopping.done():
            await server.stop(0)
    await stopping


def _patience(config: GatewayConfig) -> float:
    """Deadline of requests that the worker responds to itself, or that have to wait before they are forwarded."""
    return (
        _MOST_STEPS * max((server.discovery_timeout for server in config.servers.values()), default=0.0)
        + _PATIENCE_MARGIN
    )
