"""HTTPRoute of the Gateway API, as far as one leads to an MCP server.

Source: kubernetes-sigs/gateway-api ``apis/v1/httproute_types.go``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.objects import Items, Name, Object, Port, Section


class PathMatch(Section):
    """Paths that are taken."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = Field(default="/", max_length=1024)

    def takes(self, path: str) -> bool:
        """Whether a path is among them, as far as it can be told."""
        if self.type == "PathPrefix":
            whole = self.value.rstrip("/")
            return path == whole or path.startswith(f"{whole}/")
        return self.type == "Exact" and path == self.value


class Match(Section):
    """Requests that are taken."""

    path: PathMatch = PathMatch()
    headers: Any = None
    query_params: Any = None
    method: Any = None

    def takes(self, path: str) -> bool:
        """Whether all requests with a path are."""
        return not (self.headers or self.query_params or self.method) and self.path.takes(path)


class Header(Section):
    """A header with its value."""

    name: Name
    value: str = Field(min_length=1, max_length=4096)


class HeaderModifier(Section):
    """Changes of headers."""

    set: Items[Header] = Field(default=(), max_length=16)
    add: Items[Header] = Field(default=(), max_length=16)
    remove: Items[str] = Field(default=(), max_length=16)


class UrlRewrite(Section):
    """Changes of where a request goes."""

    hostname: str | None = None
    path: Any = None


class Filter(Section):
    """What happens to a request."""

    type: str
    request_header_modifier: HeaderModifier = HeaderModifier()
    url_rewrite: UrlRewrite = UrlRewrite()
    response_header_modifier: Any = None
    request_mirror: Any = None
    request_redirect: Any = None
    cors: Any = None
    external_auth: Any = None
    extension_ref: Any = None


class HttpBackendReference(Reference):
    """Where requests go."""

    kind: str = "Service"
    port: Port | None = None
    weight: int | None = None
    filters: Items[Filter] = Field(default=(), max_length=16)


class Rule(Section):
    """What happens to requests."""

    name: str | None = None
    matches: Items[Match] = Field(default=(), max_length=64)
    filters: Items[Filter] = Field(default=(), max_length=16)
    backend_refs: Items[HttpBackendReference] = Field(default=(), max_length=16)
    timeouts: Any = None
    retry: Any = None
    session_persistence: Any = None


class HttpRouteSpec(Section):
    """Of an HTTPRoute."""

    parent_refs: Any = None
    use_default_gateways: Any = None
    hostnames: Items[str] = Field(default=(), max_length=16)
    rules: Items[Rule] = Field(default=(), max_length=16)


class HttpRoute(Object[HttpRouteSpec]):
    """Where requests of clients go."""
