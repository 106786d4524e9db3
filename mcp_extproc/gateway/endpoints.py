"""The endpoints that a worker serves, each with what it offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authorization import KINDS, Authorization
from mcp_extproc.config.endpoint import Endpoint, all_servers, endpoints
from mcp_extproc.contract import VIRTUAL_SERVER_HEADER
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.authorization.rules import Resolved, Rules
from mcp_extproc.gateway.catalog import Catalog, CatalogEntry
from mcp_extproc.gateway.policy.followed import Policies, followed
from mcp_extproc.gateway.policy.followed import Resolved as Foreseen
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.vetting.entries import VettingEntries
from mcp_extproc.mcp import transport


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """One endpoint."""

    endpoint: Endpoint
    catalog: Catalog
    """All that is behind it. What one caller may see of it is in :attr:`Caller.catalog`."""
    rules: Rules | None
    """What callers may see and do; ``None`` for everything."""
    vetting: VettingEntries | None
    """About which calls users are asked; ``None`` for none."""
    policies: Policies | None
    """Of the operator, whose denials lists follow; ``None`` where there are none."""

    @property
    def audience(self) -> str:
        """The endpoint as session tokens name it: the main one by its path, which begins with a slash."""
        return self.endpoint.name or self.endpoint.path


class Endpoints:
    """All endpoints of a gateway."""

    def __init__(self, config: GatewayConfig) -> None:
        main, served = all_servers(config), endpoints(config)
        self.servers: Mapping[str, CatalogEntry] = Catalog(main).entries
        """All servers."""
        catalogs = [(one, Catalog(one, self.servers)) for one in served]
        # For all of them, so that their bounds are a worker's.
        resolved, foreseen = Resolved(), Foreseen()
        self._by_name = {
            one.name: ServedEndpoint(
                one,
                offer,
                rules_of(one, resolved),
                VettingEntries(one.vetting) if one.vetting else None,
                followed(config, one, offer, foreseen),
            )
            for one, offer in catalogs
        }
        self.with_rules = frozenset(
            name for one in self._by_name.values() if one.rules is not None for name in one.catalog.entries
        )
        """The servers that rules say something about, at one endpoint or another."""
        self._path = main.path if config.main_endpoint else None
        self._takes_header = config.virtual_server_header
        self._to_choose = {
            one.name: replace(self._by_name[one.name], endpoint=_chosen_at(main, one))
            for one in (served if self._takes_header else ())
            if one.name
        }

    def named(self, name: str) -> ServedEndpoint | None:
        """The endpoint of a name; ``None`` where there is none."""
        return self._by_name.get(name)

    def find(self, head: RequestHead) -> ServedEndpoint:
        """The endpoint that a request came in at. Envoy says which that is, by its route; a path chooses none.

        Raises:
            McpError: 404, there is none; 400, its header chooses none that it may.
        """
        served = None if head.endpoint is None else self.named(head.endpoint)
        if served is None or (self._path is not None and head.endpoint == "" and not _is_at(head, self._path)):
            raise refusals.path(self._path)
        if head.endpoint == "" and self._takes_header and VIRTUAL_SERVER_HEADER in head.headers:
            return self._chosen(head)
        return served

    def _chosen(self, head: RequestHead) -> ServedEndpoint:
        if VIRTUAL_SERVER_HEADER in head.repeated:
            raise refusals.virtual_server_twice()
        name = head.headers[VIRTUAL_SERVER_HEADER]
        # Clients may write a namespace where the configuration has none.
        served = self._to_choose.get(name) or self._to_choose.get(name.partition("/")[2])
        if served is None:
            raise refusals.virtual_server_unknown()
        if served.endpoint.has_own_authentication:
            raise refusals.virtual_server_not_chosen()
        return served


def _chosen_at(main: Endpoint, one: Endpoint) -> Endpoint:
    """What a request that chooses an endpoint by a header may be. It came in under the main endpoint's names, whatever host
    names the chosen one has, and from a page that the main one lets call: what browsers ask beforehand has no such header."""
    origins = one.origins
    if one.origins is not None:
        origins = (
            main.origins
            if "*" in one.origins
            else tuple(origin for origin in one.origins if transport.origin_allowed(origin, main.origins))
        )
    return replace(one, hosts=main.hosts, origins=origins)


def _is_at(head: RequestHead, path: str) -> bool:
    return head.path == path or head.path.partition("?")[0] == path


def rules_of(endpoint: Endpoint, resolved: Resolved | None = None) -> Rules | None:
    """What callers of an endpoint may see and do; ``None`` for everything. ``resolved``: see :class:`Rules`."""
    offered = endpoint.offered
    if offered is not None and all(one.is_whole(kind) for one in offered.values() for kind in KINDS):
        offered = None
    if endpoint.authorization is None and offered is None:
        return None
    rules = endpoint.authorization or Authorization(default="allow")
    return Rules(rules, endpoint.scopes_supported, offered, resolved)
