"""Envoy alone: the same servers behind its own ``mcp`` and ``mcp_router`` filters, without this gateway.

Source: Envoy 1.40 ``envoy.extensions.filters.http.mcp.v3`` and ``envoy.extensions.filters.http.mcp_router.v3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.config.config_error import field as field_path
from mcp_extproc.config.model import prefix_of, separator_of
from mcp_extproc.config.writing import Written
from mcp_extproc.envoy.message import camel
from mcp_extproc.envoy.render.clusters import cluster_alone

_TYPE: Final = "type.googleapis.com/envoy.extensions.filters"
_MAX_BODY: Final = 10 * 1024 * 1024
"""Most bytes that the ``mcp`` filter reads."""

_SEPARATOR: Final = "__"
"""Behind a server's name, where there are several."""

_RESTRICTING: Final = ("authentication", "authorization", "vetting", "rate_limits", "envoy", "pass_through")
"""Sections without which callers could do what they may not, or that are for this gateway alone."""

_KEPT: Final = frozenset({"servers", "separator", "include", "main_endpoint"})
_KEPT_OF_LISTEN: Final = frozenset({"address", "port", "path", "allowed_hosts"})
_KEPT_OF_SERVER: Final = frozenset({
    "url", "endpoints", "path", "headers", "prefix", "separator", "timeout", "connect_timeout", "tls", "http2", "idle_timeout",
    "max_requests_per_connection", "load_balancing", "dns", "health_check", "outlier_detection", "circuit_breakers",
    "keepalive", "tools", "transport", "command",
})  # fmt: skip

ALWAYS: Final = (
    "ids of sessions: mcp_router writes the servers' own into them, in base64, for clients to read and change",
    "the check of Origin: pages of other sites can call, by a name that Host may have",
    "what this gateway does with servers that fail, answer slowly, or send what they should not",
    "protocols after 2025-06-18: mcp_router agrees on no later one",
    "stability: Envoy calls mcp_router work in progress, which may change, and which its security team does not support",
)
"""What is lost of every configuration."""

_REFERENCE: Final = re.compile(r"(|[A-Za-z]+ )\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class NotForEnvoyAlone(Exception):
    """A configuration needs this gateway."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True)
class OwnFilters:
    """A configuration for Envoy alone."""

    bootstrap: dict[str, Any] = field(repr=False)
    """As Envoy reads it. Credentials are references to its environment."""
    losses: tuple[str, ...]


def own_filters(config: GatewayConfig, text: Written) -> OwnFilters:
    """The same for Envoy's own filters.

    Args:
        config: the configuration.
        text: the same as text, which has names for its credentials.

    Raises:
        NotForEnvoyAlone: it restricts what callers may do, or none of its servers can be served so.
    """
    reasons = list(_reasons(config))
    losses = list(ALWAYS)
    servers = {}
    for name, server in config.servers.items():
        left_out = _left_out(name, server, text)
        if left_out is None:
            servers[name] = server
        else:
            losses.append(left_out)
    if not servers:
        reasons.append("none of the servers can be behind mcp_router")
    if reasons:
        raise NotForEnvoyAlone(reasons)
    losses += [*_unread(config), *_names(config, servers)]
    filters = [_mcp(config), _router(servers)]
    bootstrap = {
        "staticResources": {
            "listeners": [_listener(config, filters, next(iter(servers)))],
            "clusters": [
                cluster_alone(name, server, _headers(name, server, text)).data(camel)
                for name, server in servers.items()
            ],
        }
    }
    return OwnFilters(bootstrap, tuple(losses))


# -- What can't be said -------------------------------------------------------------------------------------------------


def _reasons(config: GatewayConfig) -> Iterator[str]:
    for key in _RESTRICTING:
        if getattr(config, key) != type(config).model_fields[key].get_default(call_default_factory=True):
            yield f"{key}: only this gateway does that"
    if config.listen.tls is not None:
        yield "listen.tls: put it into the listener yourself, and leave it out here"
    if not config.main_endpoint:
        yield "main_endpoint: there is one endpoint, with all servers"
    for name, server in config.servers.items():
        if server.tools.model_fields_set:
            yield f"{field_path(('servers', name, 'tools'))}: clients could call all tools"


def _left_out(name: str, server: Server, text: Written) -> str | None:
    """Why a server can't be behind ``mcp_router``, if it can't."""
    path = field_path(("servers", name))
    if server.command is not None:
        return f"{path}: a command: Envoy starts none"
    if server.transport == "sse":
        return f"{path}: mcp_router does not speak HTTP+SSE"
    written = text.data["servers"][name]
    address = str(written.get("url", "")) + str(written.get("path", ""))
    if server.tls is not None and server.tls.client_key_inline is not None:
        return f"{path}: its client's key would stand in Envoy's configuration: put it into a file, tls.client_key"
    if any(f"${{{variable}}}" in address for variable in text.secrets):
        return f"{path}: its URL has a credential, which would stand in Envoy's configuration"
    return None


def _unread(config: GatewayConfig) -> Iterator[str]:
    """Keys that are given, and have no effect."""
    for key in sorted(config.model_fields_set - _KEPT - {"listen", *_RESTRICTING}):
        yield f"{field_path((key,))}: has no effect"
    for key in sorted(config.listen.model_fields_set - _KEPT_OF_LISTEN - {"tls"}):
        yield f"{field_path(('listen', key))}: has no effect"
    for name, server in config.servers.items():
        if server.transport == "auto":
            yield f"{field_path(('servers', name, 'transport'))}: it is taken for Streamable HTTP, as it has no type"
        for key in sorted(server.model_fields_set - _KEPT_OF_SERVER):
            why = "the server is asked without them" if key == "credentials" else "has no effect"
            yield f"{field_path(('servers', name, key))}: {why}"


def _names(config: GatewayConfig, servers: Mapping[str, Server]) -> Iterator[str]:
    """Names that change."""
    for name, server in servers.items():
        start, path = _shown(name, server, servers), field_path(("servers", name))
        ours = prefix_of(name, server)
        wanted = ours + separator_of(server, config.separator) if ours else ""
        if start != wanted:
            yield f"{path}: its tools begin with {start or 'their own names'}, not with {wanted or 'their own names'}"


def _shown(name: str, server: Server, servers: Mapping[str, Server]) -> str:
    return _called(name, server) + _SEPARATOR if len(servers) > 1 else ""


def _called(name: str, server: Server) -> str:
    """What ``mcp_router`` calls a server."""
    return prefix_of(name, server) or name


# -- What can -----------------------------------------------------------------------------------------------------------


def _mcp(config: GatewayConfig) -> dict[str, Any]:
    return _filter(
        "mcp",
        "mcp.v3.Mcp",
        trafficMode="REJECT_NO_MCP",
        maxRequestBodySize=min(config.limits.request_bytes, _MAX_BODY),
        rejectDuplicateKeys=True,
    )


def _router(servers: Mapping[str, Server]) -> dict[str, Any]:
    return _filter(
        "mcp_router",
        "mcp_router.v3.McpRouter",
        servers=[
            {
                "name": _called(name, server),
                "mcpCluster": {
                    "cluster": name,
                    "path": server.path_and_query,
                    "timeout": f"{server.timeout:g}s",
                    "hostRewriteLiteral": server.authority,
                },
            }
            for name, server in servers.items()
        ],
    )


def _filter(name: str, message: str, **keys: Any) -> dict[str, Any]:
    return {"name": f"envoy.filters.http.{name}", "typedConfig": {"@type": f"{_TYPE}.http.{message}", **keys}}


def _listener(config: GatewayConfig, filters: Sequence[Mapping[str, Any]], cluster: str) -> dict[str, Any]:
    listen = config.listen
    hosts = ["*"] if listen.hosts is None else ["localhost", "127.0.0.1", "[::1]", *sorted(listen.hosts)]
    # mcp_router ends the chain; the route is there for its path alone.
    route = {"match": {"path": listen.path}, "route": {"cluster": cluster}}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": "mcp",
        "useRemoteAddress": True,
        "routeConfig": {
            "ignorePortInHostMatching": True,
            "virtualHosts": [{"name": "mcp", "domains": list(dict.fromkeys(hosts)), "routes": [route]}],
        },
        "httpFilters": list(filters),
    }
    chain = [{"name": "envoy.filters.network.http_connection_manager", "typedConfig": manager}]
    address = {"socketAddress": {"address": listen.address, "portValue": listen.port}}
    return {"name": "mcp", "address": address, "filterChains": [{"filters": chain}]}


def _headers(name: str, server: Server, text: Written) -> dict[str, str]:
    """Headers for a server, as Envoy's formats."""
    written = text.data["servers"][name].get("headers", {})
    found = {}
    for header, secret in server.headers.items():
        value = secret.get_secret_value()
        reference = _REFERENCE.fullmatch(written[header])
        if reference is not None and value == reference[1] + text.secrets.get(reference[2], ""):
            found[header] = f"{reference[1]}%ENVIRONMENT({reference[2]})%"
        else:
            found[header] = value.replace("%", "%%")
    return found
