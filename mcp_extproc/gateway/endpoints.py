"""The endpoints that a worker serves, each with what it offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import Endpoint, endpoints
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.authorization.rules import Rules
from mcp_extproc.gateway.catalog import Catalog, CatalogEntry
from mcp_extproc.gateway.request import RequestHead


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """One endpoint."""

    endpoint: Endpoint
    catalog: Catalog
    """All that is behind it. What one caller may see of it is in :attr:`Caller.catalog`."""
    rules: Rules | None
    """What callers may see and do; ``None`` for everything."""

    @property
    def audience(self) -> str:
        """The endpoint as session tokens name it."""
        return self.endpoint.path


class Endpoints:
    """All endpoints of a gateway."""

    def __init__(self, config: GatewayConfig) -> None:
        self._by_path = {one.path: _served(one) for one in endpoints(config)}
        self.servers: Mapping[str, CatalogEntry] = MappingProxyType(
            {name: entry for served in self._by_path.values() for name, entry in served.catalog.entries.items()}
        )
        """All servers, by their unique names."""
        self._by_server = {name: served for served in self._by_path.values() for name in served.catalog.entries}

    def of_server(self, server: str) -> ServedEndpoint | None:
        """The endpoint that a server is behind; ``None`` where it is behind none (any more)."""
        return self._by_server.get(server)

    def at(self, path: str) -> ServedEndpoint | None:
        """The endpoint at a path, without a query; ``None`` where there is none."""
        return self._by_path.get(path)

    def find(self, head: RequestHead) -> ServedEndpoint:
        """The endpoint that a request came in at.

        Raises:
            McpError: 404, there is none.
        """
        served = self._by_path.get(head.path) or self._by_path.get(head.path.partition("?")[0])
        if served is None:
            raise refusals.path(", ".join(self._by_path))
        return served


def _served(endpoint: Endpoint) -> ServedEndpoint:
    rules = endpoint.authorization
    return ServedEndpoint(
        endpoint, Catalog(endpoint), None if rules is None else Rules(rules, endpoint.scopes_supported)
    )
