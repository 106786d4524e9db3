"""A route, and its place in the one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.mcp_route import McpRouteSpec


@dataclass(frozen=True, slots=True)
class Hosts:
    """By which names clients reach a route; without any by whatever name."""

    names: tuple[str, ...]
    document: Document
    """That says so."""
    path: FieldPath
    """Where in it."""


@dataclass(frozen=True, slots=True)
class AttachedRoute:
    """An MCPRoute."""

    document: Document
    at: tuple[str, ...]
    """Where its endpoint is described: at the top, or as a virtual server."""
    servers: Mapping[str, str]
    """Names of servers by those of its backends. They differ where several routes have backends of one name."""
    hosts: Hosts

    @property
    def spec(self) -> McpRouteSpec:
        """What it says."""
        spec: McpRouteSpec = self.document.object.spec
        return spec
