"""One worker: the processor with its upstreams behind a transport, from start to drain."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.extproc import files
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.extproc.http2.transport import Http2Server
from mcp_extproc.gateway.gateway import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.counters import Counters
from mcp_extproc.upstreams.address import Address, UnixAddress
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.front import FrontDoor
from mcp_extproc.upstreams.legs import Legs
from mcp_extproc.upstreams.streams import Streams

DRAIN_SECONDS = 10.0
"""How long running exchanges may go on after SIGTERM."""

_MOST_STEPS = 3
"""To find the owner of a URI without prefix: the resources, the templates, and a session with the server."""

TRANSPORTS = {"http2": Http2Server, "grpcio": GrpcioServer}
"""By name: the lean one, and grpc.aio as the reference."""

DEFAULT_TRANSPORT = "http2"

_PATIENCE_MARGIN = 5.0

_LOG = log.logger("worker")


@asynccontextmanager
async def worker(
    config: GatewayConfig,
    listen: Address,
    upstreams: Address,
    batches: Address | None,
    secret: str,
    transport: str = DEFAULT_TRANSPORT,
) -> AsyncIterator[Counters]:
    """A serving worker.

    Args:
        config: the whole configuration.
        listen: where Envoy's ext_proc filter connects.
        upstreams: Envoy's private listener.
        batches: Envoy's listener for the messages of batches; ``None`` where there is none.
        secret: seals session tokens.
        transport: a name in :data:`TRANSPORTS`.

    Raises:
        OSError: ``listen`` can't be listened on.
    """
    counters = Counters()
    memory = SessionMemory()
    gateway = Gateway(config, secret, memory)
    entries = gateway.catalog.entries
    async with UpstreamClient(upstreams, config.limits) as client, FrontDoor(batches, config) as front:
        legs = Legs(client, front, entries, memory, config.limits)
        streams = Streams(client, legs, entries, memory, gateway.identifiers, time.time, config.limits.stream_bytes)
        processor = Processor(gateway, legs, streams, counters, time.time, _patience(config))
        server = TRANSPORTS[transport](processor, listen, config.limits.request_bytes)
        if isinstance(listen, UnixAddress):
            Path(listen.path).unlink(missing_ok=True)
        await server.start()
        if isinstance(listen, UnixAddress):
            Path(listen.path).chmod(0o600)
        try:
            yield counters
        finally:
            # Streams would last for the whole time of grace; clients open them again elsewhere.
            await streams.close()
            await server.stop(DRAIN_SECONDS)
            await legs.close()


def serve(config: GatewayConfig, listen: Address, upstreams: Address, batches: Address | None, transport: str) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Blocks.

    Raises:
        OSError: ``listen`` can't be listened on.
    """
    files.allow_many()
    uvloop.run(_serve(config, listen, upstreams, batches, session_secret(config, os.environ), transport))


def session_secret(config: GatewayConfig, environ: Mapping[str, str]) -> str:
    """The configured secret, or the one that ``run`` made for its workers, or a random one with a warning."""
    if config.session.secret is not None:
        return config.session.secret.get_secret_value()
    if handed_down := environ.get(SECRET_VARIABLE):
        return handed_down
    log.event(_LOG, logging.WARNING, "random_session_secret", {
        "effect": "sessions end with this process and are not shared with other workers",
        "remedy": "set session.secret",
    })  # fmt: skip
    return secrets.token_urlsafe(32)


async def _serve(
    config: GatewayConfig, listen: Address, upstreams: Address, batches: Address | None, secret: str, transport: str
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with worker(config, listen, upstreams, batches, secret, transport) as counters:
        log.event(_LOG, logging.INFO, "serving", {"listen": str(listen), "servers": ",".join(config.servers)})
        await stop.wait()
        log.event(_LOG, logging.INFO, "draining", {"seconds": DRAIN_SECONDS})
    log.event(_LOG, logging.INFO, "stopped", counters.snapshot())


def _patience(config: GatewayConfig) -> float:
    """How long a request may take that is answered here, or has to be waited for before it is forwarded."""
    return _MOST_STEPS * max(server.discovery_timeout for server in config.servers.values()) + _PATIENCE_MARGIN
