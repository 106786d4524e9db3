"""All filters that authenticate, and where they get what they need."""

from __future__ import annotations

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy._api.config_route_v3 import FilterConfig
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render.authentication import oauth
from mcp_extproc.envoy.render.typed import any_of


def filters(config: GatewayConfig, layout: Layout) -> list[HttpFilter]:
    """The filters, in their order: behind those for browsers, whose preflights have no credentials, in front of all others."""
    authentication = config.authentication
    if authentication is None or authentication.oauth is None:
        return []
    return oauth.filters(authentication, authentication.oauth, endpoints(config)[0].path, layout)


def clusters(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """The clusters that these filters use."""
    authentication = config.authentication
    return (
        [] if authentication is None or authentication.oauth is None else oauth.clusters(authentication.oauth, layout)
    )


def namespaces(config: GatewayConfig) -> list[str]:
    """Metadata namespaces of what these filters verified, or those of others."""
    if config.existing is not None:
        return list(config.existing.namespaces)
    return [oauth.METADATA] if config.authentication is not None else []


def without(config: GatewayConfig, layout: Layout) -> dict[str, Any]:
    """The configuration of a route that needs no authentication."""
    return {item.name: any_of(FilterConfig(disabled=True)) for item in filters(config, layout)}


def check_without_supervisor(config: GatewayConfig, name: str) -> None:
    """Check that an Envoy without a supervisor of ours can get all keys.

    Args:
        config: the whole configuration.
        name: of its file, for errors.

    Raises:
        ConfigError: it can't.
    """
    method = config.authentication.oauth if config.authentication is not None else None
    for index, one in enumerate(method.issuers if method is not None else ()):
        if one.jwks is None:
            problem = (
                "required, as this Envoy finds no keys by itself: give uri or file, or start Envoy with"
                " `mcp-extproc run`, or with the files of `mcp-extproc serve --envoy-config`"
            )
            raise ConfigError(name, [Problem(problem, field(["authentication", "oauth", "issuers", index, "jwks"]))])
