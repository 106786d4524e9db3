"""Which servers speak HTTP+SSE, where the configuration does not say.

Source: MCP 2025-11-25 basic/transports, Backwards Compatibility: ``initialize`` is refused, and a GET brings an event
``endpoint``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from mcp_extproc.address import Address
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.endpoints import Endpoints
from mcp_extproc.mcp import transport, versions
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import EventTooLarge, portions
from mcp_extproc.upstreams.client import UnexpectedStatus, UpstreamClient, UpstreamError
from mcp_extproc.upstreams.private_listener import attempts

_REFUSED = (404, 405)

_NOT_REACHED = ("connect", "timeout")
"""Why a question did not arrive."""

_NO_SESSION = UpstreamSession(versions.V_2024_11_05, None, frozenset())


async def speaking_sse(config: GatewayConfig, upstreams: Address) -> frozenset[str]:
    """The servers with ``transport: auto`` that speak HTTP+SSE, and don't speak Streamable HTTP. One that can't be reached is
    none of them.

    Args:
        config: all servers.
        upstreams: Envoy's private listener.
    """
    entries = [
        entry for name, entry in Endpoints(config).servers.items() if config.servers[name].transport == "auto"
    ]  # fmt: skip
    if not entries:
        return frozenset()
    async with UpstreamClient(upstreams, config.limits) as client:
        found = await asyncio.gather(*(
            _speaks_sse(client, entry, len(config.servers[entry.name].addresses)) for entry in entries
        ))  # fmt: skip
    return frozenset(entry.name for entry, speaks in zip(entries, found, strict=True) if speaks)


async def _speaks_sse(client: UpstreamClient, entry: CatalogEntry, replicas: int) -> bool:
    try:
        async with asyncio.timeout(entry.discovery_timeout):
            for question in (_refuses, _names_an_endpoint):
                if not await _of_any_replica(partial(question, client, entry), attempts(replicas)):
                    return False
            return True
    except (UpstreamError, EventTooLarge, TimeoutError):
        return False


async def _of_any_replica(question: Callable[[], Awaitable[bool]], times: int) -> bool:
    """What a replica says.

    Raises:
        UpstreamError: none could be asked.
    """
    for left in range(times - 1, -1, -1):
        try:
            return await question()
        except UpstreamError as error:
            if error.reason not in _NOT_REACHED or not left:
                raise
    return False


async def _refuses(client: UpstreamClient, entry: CatalogEntry) -> bool:
    try:
        session = (await client.initialize(entry, versions.LATEST, frozenset())).session
    except UnexpectedStatus as error:
        return error.status in _REFUSED
    await client.end(entry, session)
    return False


async def _names_an_endpoint(client: UpstreamClient, entry: CatalogEntry) -> bool:
    parser = client.parser()
    async with client.listen(entry, _NO_SESSION, None) as chunks:
        async for chunk in chunks:
            for piece, turn in portions(chunk):
                await client.turns.take(turn)
                for event in parser.feed(piece):
                    if event.data:
                        return event.event == transport.ENDPOINT
    return False
