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
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.gateway.gateway import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.mcp.sessions import Sealer
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.counters import Counters
from mcp_extproc.upstreams.address import Address, UnixAddress
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.legs import Legs

DRAIN_SECONDS = 10.0
"""How long running exchanges may go on after SIGTERM."""

_PATIENCE_MARGIN = 5.0

_LOG = log.logger("worker")


@asynccontextmanager
async def worker(config: GatewayConfig, listen: Address, upstreams: Address, secret: str) -> AsyncIterator[Counters]:
    """A serving worker.

    Args:
        config: the whole configuration.
        listen: where Envoy's ext_proc filter connects.
        upstreams: Envoy's private listener.
        secret: seals session tokens.

    Raises:
        OSError: ``listen`` can't be listened on.
    """
    counters = Counters()
    memory = SessionMemory()
    previous = [old.get_secret_value() for old in config.session.previous_secrets]
    gateway = Gateway(config, Sealer(secret, previous), memory)
    async with UpstreamClient(upstreams, config.limits.response_bytes) as client:
        legs = Legs(client, gateway.catalog.entries, memory, config.limits)
        processor = Processor(gateway, legs, counters, time.time, _patience(config))
        server = GrpcioServer(processor, listen, config.limits.request_bytes)
        if isinstance(listen, UnixAddress):
            Path(listen.path).unlink(missing_ok=True)
        await server.start()
        if isinstance(listen, UnixAddress):
            Path(listen.path).chmod(0o600)
        try:
            yield counters
        finally:
            await server.stop(DRAIN_SECONDS)
            await legs.close()


def serve(config: GatewayConfig, listen: Address, upstreams: Address) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Blocks.

    Raises:
        OSError: ``listen`` can't be listened on.
    """
    uvloop.run(_serve(config, listen, upstreams, session_secret(config, os.environ)))


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


async def _serve(config: GatewayConfig, listen: Address, upstreams: Address, secret: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with worker(config, listen, upstreams, secret) as counters:
        log.event(_LOG, logging.INFO, "serving", {"listen": str(listen), "servers": ",".join(config.servers)})
        await stop.wait()
        log.event(_LOG, logging.INFO, "draining", {"seconds": DRAIN_SECONDS})
    log.event(_LOG, logging.INFO, "stopped", counters.snapshot())


def _patience(config: GatewayConfig) -> float:
    """How long the slowest fan-out may take: open a session late, find it lost, list again."""
    return max(server.discovery_timeout for server in config.servers.values()) + _PATIENCE_MARGIN
