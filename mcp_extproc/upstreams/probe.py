"""Queries every server when a gateway starts, for the table of servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.gateway.catalog import Catalog, CatalogEntry
from mcp_extproc.gateway.endpoints import Endpoints
from mcp_extproc.gateway.legs import CloseLeg, Failed, Listed, ListLeg, Opened, OpenLeg, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.merge import entries
from mcp_extproc.mcp import methods, versions
from mcp_extproc.mcp.methods import Entry, Method
from mcp_extproc.slices import whole
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of one server, for people."""

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
    entries = Endpoints(config).servers
    memory = SessionMemory(capacity=len(entries))
    rows = [row for kind in kinds for row in methods.REQUESTS.values() if row.items == kind]
    async with UpstreamClient(upstreams, config.limits) as client:
        legs = LegRunner(client, BatchClient(None, config.limits), entries, memory, config.limits)
        opened = await legs.run([
            OpenLeg(name, versions.LATEST, frozenset(), deadline=entry.discovery_timeout)
            for name, entry in entries.items()
        ])  # fmt: skip
        refs = {
            o.server: SessionRef(o.server, o.session.id or o.server, o.session, o.session.version, frozenset())
            for o in opened
            if isinstance(o, Opened)
        }
        lists: dict[str, dict[str, Listed | Failed]] = {name: {} for name in entries}
        for row in rows:
            for outcome in await legs.run([_list_leg(row, ref, entries) for ref in refs.values() if _has(ref, row)]):
                if isinstance(outcome, Listed | Failed):
                    lists[outcome.server][row.items or ""] = outcome
        await legs.run([
            CloseLeg(name, ref, deadline=entries[name].discovery_timeout) for name, ref in refs.items()
        ])  # fmt: skip
        await legs.close()
    return [Survey(o.server, o, lists[o.server]) for o in opened if isinstance(o, Opened | Failed)]


def _list_leg(row: Method, ref: SessionRef, entries: Mapping[str, CatalogEntry]) -> ListLeg:
    deadline = entries[ref.server].discovery_timeout
    return ListLeg(ref.server, ref, row.name, row.items or "", row.capability or "", deadline=deadline)


async def probe(config: GatewayConfig, upstreams: Address) -> list[ServerStatus]:
    """Ask each server for its tools."""
    served = {name: (one, Catalog(one)) for one in endpoints(config) for name in one.servers}
    statuses = []
    for asked in await survey(config, upstreams, ["tools"]):
        version = asked.opened.session.version if isinstance(asked.opened, Opened) else None
        count, problem = None, None
        tools = asked.lists.get("tools", Listed(asked.name, ())) if version is not None else asked.opened
        endpoint, catalog = served[asked.name]
        if isinstance(tools, Listed):
            visible = partial(catalog.visible, "tools")
            shown, _ = whole(entries([tools], Entry.NAME, visible, _as_it_is, config.limits.list_items))
            count, problem = len(shown), tools.truncated
        elif isinstance(tools, Failed):
            problem = tools.message
        address, prefix = address_of(config, asked.name), endpoint.prefixes[asked.name]
        statuses.append(ServerStatus(asked.name, address, prefix, version, count, problem))
    return statuses


def _has(ref: SessionRef, row: Method) -> bool:
    return ref.known is not None and row.capability in ref.known.capabilities


def address_of(config: GatewayConfig, server: str) -> str:
    """``host:port`` of a server, of the first replica where there are several; of a stdio server its program."""
    command = config.servers[server].command
    if command is not None:
        return command[0].get_secret_value()
    host, port = config.servers[server].addresses[0]
    return str(TcpAddress(host, port))


def _as_it_is(_: str, entry: bytes) -> bytes:
    return entry
