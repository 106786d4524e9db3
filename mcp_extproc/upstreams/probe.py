"""Asking every server who it is, for people who start a gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.decision import CloseLeg, Failed, Listed, ListLeg, Opened, OpenLeg, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.merge import entries
from mcp_extproc.mcp import versions
from mcp_extproc.mcp.methods import Entry
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner


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


@dataclass(frozen=True, slots=True)
class Survey:
    """What one server answered to everything it was asked."""

    name: str
    opened: Opened | Failed
    lists: Mapping[str, Listed | Failed]
    """By what they are lists of; of those alone that the server has."""


async def survey(config: GatewayConfig, upstreams: Address, kinds: Sequence[str]) -> list[Survey]:
    """Initialize each server, read its lists, and end the session, all in parallel and each within its own deadline.

    Args:
        config: the servers.
        upstreams: Envoy's private listener.
        kinds: of lists: ``tools``, ``prompts``, ``resources``.
    """
    memory = SessionMemory(capacity=len(config.servers))
    front = BatchClient(None, config)
    async with UpstreamClient(upstreams, config.limits) as client:
        legs = LegRunner(client, front, Catalog(config).entries, memory, config.limits)
        opened = await legs.run([OpenLeg(name, versions.LATEST, frozenset()) for name in config.servers])
        refs = {
            o.server: SessionRef(o.server, o.session.id or o.server, o.session, o.session.version, frozenset())
            for o in opened
            if isinstance(o, Opened)
        }
        lists: dict[str, dict[str, Listed | Failed]] = {name: {} for name in config.servers}
        for kind in kinds:
            asked = [ListLeg(name, ref, f"{kind}/list", kind, kind) for name, ref in refs.items() if _has(ref, kind)]
            for outcome in await legs.run(asked):
                if isinstance(outcome, Listed | Failed):
                    lists[outcome.server][kind] = outcome
        await legs.run([CloseLeg(name, ref) for name, ref in refs.items()])
        await legs.close()
    return [Survey(o.server, o, lists[o.server]) for o in opened if isinstance(o, Opened | Failed)]


async def probe(config: GatewayConfig, upstreams: Address) -> list[ServerStatus]:
    """Ask each server for its tools."""
    catalog = Catalog(config)
    statuses = []
    for asked in await survey(config, upstreams, ["tools"]):
        version = asked.opened.session.version if isinstance(asked.opened, Opened) else None
        count, problem = None, None
        tools = asked.lists.get("tools", Listed(asked.name, ())) if version is not None else asked.opened
        if isinstance(tools, Listed):
            shown, _ = entries(
                [tools], Entry.NAME, partial(catalog.visible, "tools"), _as_it_is, config.limits.list_items
            )
            count, problem = len(shown), tools.truncated
        elif isinstance(tools, Failed):
            problem = tools.message
        address, prefix = address_of(config, asked.name), config.prefix_of(asked.name)
        statuses.append(ServerStatus(asked.name, address, prefix, version, count, problem))
    return statuses


def _has(ref: SessionRef, kind: str) -> bool:
    return ref.known is not None and kind in ref.known.capabilities


def address_of(config: GatewayConfig, server: str) -> str:
    """``host:port`` of a server, of the first replica where there are several."""
    host, port = config.servers[server].addresses[0]
    return str(TcpAddress(host, port))


def _as_it_is(_: str, entry: bytes) -> bytes:
    return entry
