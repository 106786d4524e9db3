"""Queries servers when a gateway starts, for the table of servers, and again those that are still starting then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from mcp_extproc.address import Address, TcpAddress, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.command_words import program_name
from mcp_extproc.config.endpoint import all_servers
from mcp_extproc.config.model import Server, prefix_of
from mcp_extproc.contract import STARTED_AGAIN
from mcp_extproc.gateway.catalog import Catalog, CatalogEntry
from mcp_extproc.gateway.endpoints import Endpoints
from mcp_extproc.gateway.legs import STARTING, CloseLeg, Failed, Listed, ListLeg, Opened, OpenLeg, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.merge import entries
from mcp_extproc.gateway.relay.outcomes import CREDENTIALS_REFUSED, CREDENTIALS_UNAVAILABLE
from mcp_extproc.mcp import methods, versions
from mcp_extproc.mcp.methods import Entry, Method
from mcp_extproc.slices import whole
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.secret_files import SecretFiles

State = Literal["ready", "starting", "failed", "unknown"]
"""Of a server. ``starting``: its program does not answer yet, as ``npx`` may be downloading it. ``unknown``: it wants
credentials of a caller's, and nobody calls."""

_OF_CALLERS: Final = frozenset(f"credentials.{key}" for key in ("forward", "claims", "token_exchange", "pass_through"))
"""Keys by which a server gets what only a caller has."""

NOBODY_CALLS: Final = "nobody_calls"
""":attr:`Failed.reason` of a server that gets credentials of callers alone, and is asked for none."""


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
    state: State


@dataclass(frozen=True, slots=True)
class Survey:
    """What one server answered to everything it was asked."""

    name: str
    opened: Opened | Failed
    lists: Mapping[str, Listed | Failed]
    """By what they are lists of; of those alone that the server has."""

    @property
    def state(self) -> State:
        """Its state. What is wrong with single lists is said of them."""
        outcomes = (self.opened, *self.lists.values())
        if any(isinstance(outcome, Failed) and outcome.reason == NOBODY_CALLS for outcome in outcomes):
            return "unknown"
        if isinstance(self.opened, Opened):
            return "ready"
        return "starting" if self.opened.reason == STARTING else "failed"


Causes = Callable[[Sequence[Survey]], Awaitable[Mapping[str, str]]]
"""Why servers could not be asked, as far as it is known, by server."""


async def survey(
    config: GatewayConfig, upstreams: Address, kinds: Sequence[str], names: Collection[str] | None = None
) -> list[Survey]:
    """Initialize each server, read its lists, and end the session, all in parallel and each within its own deadline.

    Args:
        config: the servers.
        upstreams: Envoy's private listener.
        kinds: of lists: ``tools``, ``prompts``, ``resources``.
        names: of those that are asked. Default: all.
    """
    entries = {name: entry for name, entry in Endpoints(config).servers.items() if names is None or name in names}
    SecretFiles(entries.values(), lambda server, secret: entries[server].own.replace(secret)).read()
    memory = SessionMemory(capacity=len(entries))
    rows = [row for kind in kinds for row in methods.REQUESTS.values() if row.items == kind]
    async with UpstreamClient(upstreams, config.limits) as client:
        legs = LegRunner(client, BatchClient(None, config.limits), entries, memory, config.limits)
        try:
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
                for outcome in await legs.run(
                    [_list_leg(row, ref, entries) for ref in refs.values() if _has(ref, row)]
                ):
                    if isinstance(outcome, Listed | Failed):
                        told = _uncalled(config, outcome) if isinstance(outcome, Failed) else outcome
                        lists[outcome.server][row.items or ""] = told
            await legs.run([
                CloseLeg(name, ref, deadline=entries[name].discovery_timeout) for name, ref in refs.items()
            ])  # fmt: skip
        finally:
            await legs.close()
    return [Survey(o.server, _judged(config, o), lists[o.server]) for o in opened if isinstance(o, Opened | Failed)]


def _judged(config: GatewayConfig, opened: Opened | Failed) -> Opened | Failed:
    """For a command the bridge answers in time. Where it does not, it has only been started itself."""
    if isinstance(opened, Opened):
        return opened
    if opened.reason == "timeout" and config.servers[opened.server].command is not None:
        return replace(opened, reason=STARTING)
    if config.servers[opened.server].is_bridged:
        # A second start was asked for here, after the one in advance: not of interest to who reads a table.
        opened = replace(opened, message=opened.message.partition(STARTED_AGAIN)[0])
    return _uncalled(config, opened)


def _uncalled(config: GatewayConfig, failed: Failed) -> Failed:
    """A server that gets nothing but what callers have is right to refuse who has nothing."""
    server = config.servers[failed.server]
    keys = server.credential_keys
    if (
        failed.reason not in (CREDENTIALS_REFUSED, CREDENTIALS_UNAVAILABLE)
        or not keys
        or not _OF_CALLERS.issuperset(keys)
    ):
        return failed
    if server.credentials.pass_through:
        return replace(failed, reason=NOBODY_CALLS)
    message = f"wants what it gets of callers ({', '.join(keys)}), and here nobody calls"
    return replace(failed, reason=NOBODY_CALLS, message=message)


def lists_more_to_callers(server: Server) -> bool:
    """Whether a server knows who calls, and so may list more than it does to nobody."""
    return not _OF_CALLERS.isdisjoint(server.credential_keys)


async def survey_started(config: GatewayConfig, upstreams: Address, kinds: Sequence[str], name: str) -> Survey:
    """The same of one server that is starting, once it has started, has failed to, or its ``start_timeout`` is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.servers[name].start_timeout
    while True:
        # Each time this waits in the bridge, which tells at once when the server has failed.
        [asked] = await survey(config, upstreams, kinds, [name])
        if asked.state != "starting" or loop.time() >= deadline:
            return asked


def _list_leg(row: Method, ref: SessionRef, entries: Mapping[str, CatalogEntry]) -> ListLeg:
    deadline = entries[ref.server].discovery_timeout
    return ListLeg(ref.server, ref, row.name, row.items or "", row.capability or "", deadline=deadline)


async def probe(config: GatewayConfig, upstreams: Address, causes: Causes | None = None) -> list[ServerStatus]:
    """Ask each server for its tools.

    Args:
        config: the servers.
        upstreams: Envoy's private listener.
        causes: what is known beyond the answers.
    """
    catalog = _catalog(config)
    surveyed = await survey(config, upstreams, ["tools"])
    known = {} if causes is None else await causes(surveyed)
    return [_status(config, catalog, asked, known.get(asked.name)) for asked in surveyed]


async def probe_started(config: GatewayConfig, upstreams: Address, name: str) -> ServerStatus:
    """The same of one server that is starting, as :func:`survey_started` has it."""
    return _status(config, _catalog(config), await survey_started(config, upstreams, ["tools"], name))


def _catalog(config: GatewayConfig) -> Catalog:
    """Of all servers."""
    return Catalog(all_servers(config))


def _status(config: GatewayConfig, catalog: Catalog, asked: Survey, cause: str | None = None) -> ServerStatus:
    version = asked.opened.session.version if isinstance(asked.opened, Opened) else None
    count, problem = None, None
    tools = asked.lists.get("tools", Listed(asked.name, ())) if version is not None else asked.opened
    if isinstance(tools, Listed):
        visible = partial(catalog.visible, "tools")
        shown, _ = whole(entries([tools], Entry.NAME, visible, _as_it_is, config.limits.list_items))
        count, problem = len(shown), tools.truncated
    elif isinstance(tools, Failed):
        problem = tools.message if cause is None else f"{tools.message}: {cause}"
    state: State = "failed" if asked.state == "ready" and problem is not None else asked.state
    address, prefix = address_of(config, asked.name), prefix_of(asked.name, config.servers[asked.name])
    return ServerStatus(asked.name, address, prefix, version, count, problem, state)


def _has(ref: SessionRef, row: Method) -> bool:
    return ref.known is not None and row.capability in ref.known.capabilities


def address_of(config: GatewayConfig, server: str) -> str:
    """``host:port`` of a server, of the first replica where there are several, or ``unix:PATH``; of a stdio server its
    program."""
    found = config.servers[server]
    if found.command is not None:
        return program_name([found.command[0].get_secret_value()])
    host, port = found.addresses[0]
    return str(TcpAddress(host, port) if found.unix_socket is None else UnixAddress(found.unix_socket))


def _as_it_is(_: str, entry: bytes) -> bytes:
    return entry
