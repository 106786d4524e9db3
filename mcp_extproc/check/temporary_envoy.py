"""An Envoy for the duration of a check, with the servers' clusters and the private listener, but without a listener for
clients. A service that says who calls is one of the servers.

So they are checked with the same TLS, name resolution, limits and retries as in operation.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.files import BOOTSTRAP, File, write, write_secrets
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import to_json, upstreams_only
from mcp_extproc.envoy.watched_files import secret_files
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.run.envoy_binary import command
from mcp_extproc.run.envoy_log import complaint, ended, kept
from mcp_extproc.run.process import START_SECONDS, StartError, end, spawn
from mcp_extproc.upstreams.http_sse import speaking_sse

_POLL_SECONDS = 0.02

_Found = TypeVar("_Found")
_NODE = ("--service-node", "mcp-extproc", "--service-cluster", "mcp-extproc")
"""Envoy reads no secrets from files without them."""


@dataclass(frozen=True, slots=True)
class TemporaryEnvoy:
    """A running Envoy."""

    upstreams: Address
    """Its private listener."""
    service: Address
    """Its listener that asks the service that says who calls, if there is one."""
    admin: Admin


async def asked(
    config: GatewayConfig,
    folder: Path,
    envoy: str,
    ask: Callable[[GatewayConfig, TemporaryEnvoy], Awaitable[_Found]],
) -> _Found:
    """What is found out through a temporary Envoy, in which it is known which servers speak HTTP+SSE.

    Args:
        config: the servers.
        folder: of the configuration's file.
        envoy: the Envoy binary.
        ask: finds it out, given the configuration with what is known of the servers.

    Raises:
        StartError: Envoy rejects the configuration.
        OSError: its file can't be written.
    """
    async with temporary_envoy(config, folder, envoy) as running:
        if not (found := await speaking_sse(config, running.upstreams)):
            return await ask(config, running)
    return await asked(config.with_sse(found), folder, envoy, ask)


@asynccontextmanager
async def temporary_envoy(config: GatewayConfig, folder: Path, envoy: str) -> AsyncIterator[TemporaryEnvoy]:
    """A running Envoy.

    Args:
        config: the servers.
        folder: of the configuration's file.
        envoy: the Envoy binary.

    Raises:
        StartError: Envoy rejects the configuration.
        OSError: its file can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="mcp-extproc-") as place:
        directory = Path(place)
        layout = replace(Layout.in_directory(directory), secrets=directory)
        service = UnixAddress(str(directory / "service.sock"))
        bridge = Bridge(layout, folder)
        file, log = directory / BOOTSTRAP, directory / "envoy.log"
        write_secrets(directory, secret_files(config))
        write(directory, File(BOOTSTRAP, to_json(upstreams_only(config, layout, service)).encode()))
        process = None
        try:
            await bridge.serve(config)
            with log.open("wb") as output:
                process = await spawn(
                    [*command(envoy, file), *_NODE, "--log-level", "error", "--concurrency", "1"],
                    stderr=output.fileno(),
                )
            assert layout.admin is not None
            admin, deadline = Admin(layout.admin), time.monotonic() + START_SECONDS
            while await admin.ask("GET", "/ready") is None:
                if process.returncode is not None:
                    raise StartError(f"Envoy ended at start with {ended(process.returncode, log)}")
                if time.monotonic() > deadline:
                    raise StartError(f"Envoy was not ready within {START_SECONDS:g} s: {complaint(log)}{kept(log)}")
                await asyncio.sleep(_POLL_SECONDS)
            yield TemporaryEnvoy(layout.upstreams, service, admin)
        finally:
            await end(process)
            await bridge.stop()
