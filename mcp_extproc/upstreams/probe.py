"""Asking every server who it is, for people who start a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.decision import CloseLeg, Failed, Listed, ListLeg, Opened, OpenLeg, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.merge import entries
from mcp_extproc.mcp import versions
from mcp_extproc.mcp.methods import Entry
from mcp_extproc.upstreams.address import Address, TcpAddress
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.front import FrontDoor
from mcp_extproc.upstreams.legs import Legs


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What a server said when it was asked."""

    name: str
    address: str
    """``host:port``, of the first replica where there are several."""
    prefix: str
    version: str | None
    """Negotiated protocol version, or ``None`` where the server did not answer."""
    tools: int | None
    """Tools that clients see, or ``None`` where they could not be listed."""
    problem: str | None
    """Why something is missing."""


async def probe(config: GatewayConfig, upstreams: Address) -> list[ServerStatus]:
    """Initialize each server, list its tools, and end the session, all in parallel and each within its own deadline."""
    memory = SessionMemory(capacity=len(config.servers))
    catalog = Catalog(config)
    front = FrontDoor(None, config)
    async with UpstreamClient(upstreams, config.limits) as client:
        legs = Legs(client, front, catalog.entries, memory, config.limits)
        opened = await legs.run([OpenLeg(name, versions.LATEST, frozenset()) for name in config.servers])
        refs = {
            o.server: SessionRef(o.server, o.session.id or o.server, o.session, o.session.version, frozenset())
            for o in opened
            if isinstance(o, Opened)
        }
        listed = await legs.run([ListLeg(name, ref, "tools/list", "tools", "tools") for name, ref in refs.items()])
        await legs.run([CloseLeg(name, ref) for name, ref in refs.items()])
        await legs.close()
    by_server = {outcome.server: outcome for outcome in listed}
    statuses = []
    for outcome in opened:
        name, tools = outcome.server, by_server.get(outcome.server)
        version = outcome.session.version if isinstance(outcome, Opened) else None
        count, problem = None, None
        if isinstance(tools, Listed):
            shown, _ = entries(
                [tools], Entry.NAME, partial(catalog.visible, "tools"), _as_it_is, config.limits.list_items
            )
            count, problem = len(shown), tools.truncated
        elif isinstance(failed := tools or outcome, Failed):
            problem = failed.message
        statuses.append(ServerStatus(name, _address(config, name), config.prefix_of(name), version, count, problem))
    return statuses


def _address(config: GatewayConfig, server: str) -> str:
    host, port = config.servers[server].addresses[0]
    return str(TcpAddress(host, port))


def _as_it_is(_: str, entry: bytes) -> bytes:
    return entry
