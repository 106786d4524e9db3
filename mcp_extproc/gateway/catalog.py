"""What the configuration says of each server, prepared once so that a request only looks it up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcp_extproc.config import GatewayConfig, Server, Tools
from mcp_extproc.gateway.decision import Headers
from mcp_extproc.mcp.names import Names


class ToolFilter:
    """Which of a server's tools are offered. The same filter answers lists and calls."""

    def __init__(self, tools: Tools) -> None:
        self._include = frozenset(tools.include)
        self._exclude = frozenset(tools.exclude)
        self._include_regex = tuple(re.compile(pattern) for pattern in tools.includeRegex)
        self._exclude_regex = tuple(re.compile(pattern) for pattern in tools.excludeRegex)
        self._all = not (self._include or self._include_regex)

    def allows(self, name: str) -> bool:
        """Whether the tool of this (unprefixed) name is offered. Exclude wins."""
        if name in self._exclude or any(regex.search(name) for regex in self._exclude_regex):
            return False
        return self._all or name in self._include or any(regex.search(name) for regex in self._include_regex)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One server, as requests need it."""

    name: str
    path: str
    """``:path`` of its endpoint, query included."""
    headers: Headers
    """Configured request headers, names in lower case. They hold credentials: never log them."""
    tools: ToolFilter
    discovery_timeout: float
    """Seconds."""

    def __repr__(self) -> str:
        return f"CatalogEntry({self.name!r})"


class Catalog:
    """All servers, in the order of the configuration."""

    def __init__(self, config: GatewayConfig) -> None:
        self.entries: Mapping[str, CatalogEntry] = MappingProxyType(
            {name: _entry(name, server) for name, server in config.servers.items()}
        )
        self.names = Names({name: config.prefix_of(name) for name in config.servers}, config.separator)

    def resolve_tool(self, name: str) -> tuple[CatalogEntry, str] | None:
        """The server of a client-visible tool name and the name there, or ``None`` for what is unknown or filtered out."""
        found = self.names.split(name)
        if found is None:
            return None
        entry = self.entries[found[0]]
        return (entry, found[1]) if entry.tools.allows(found[1]) else None

    def visible_tool(self, server: str, name: str) -> str | None:
        """The name under which clients see a server's tool, or ``None`` for one they must not see."""
        visible = self.names.join(server, name)
        # What a call would not find is not listed: filtered out, or hidden behind another server's prefix.
        found = self.resolve_tool(visible)
        return visible if found is not None and found[0].name == server else None


def _entry(name: str, server: Server) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        path=server.path_and_query,
        headers=tuple((header.lower(), value.get_secret_value()) for header, value in server.headers.items()),
        tools=ToolFilter(server.tools),
        discovery_timeout=server.discovery_timeout,
    )
