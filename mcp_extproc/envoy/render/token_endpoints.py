"""Where tokens for servers come from: a cluster for each, and for those that workers ask a route of the private listener.

Source: OAuth 2.1 section 3.2 (token endpoint), RFC 8693.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.credentials import ClientCredentials, TokenExchange
from mcp_extproc.contract import SERVER_HEADER, TOKEN_ENDPOINT
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher, Route, RouteAction, RouteMatch
from mcp_extproc.envoy._api.type_matcher_v3 import StringMatcher
from mcp_extproc.envoy.layout import UPSTREAMS_LISTENER, token_cluster
from mcp_extproc.envoy.render.authentication import services


def exchanging(config: GatewayConfig) -> Iterator[tuple[str, TokenExchange]]:
    """The servers that get a token for each caller's."""
    for name, server in config.servers.items():
        if server.credentials.token_exchange is not None:
            yield name, server.credentials.token_exchange


def cluster(server: str, client: ClientCredentials | TokenExchange) -> Cluster:
    """Where a server's tokens come from."""
    return services.at(token_cluster(server), client.token_endpoint, ca=client.ca)


def clusters(config: GatewayConfig) -> list[Cluster]:
    """Of the token endpoints that workers ask."""
    return [cluster(name, one) for name, one in exchanging(config)]


def routes(config: GatewayConfig) -> list[Route]:
    """Of the private listener: to these token endpoints. Workers ask none twice, and have a deadline of their own."""
    return [
        Route(
            name=f"{UPSTREAMS_LISTENER}/{name}{TOKEN_ENDPOINT}",
            match=RouteMatch(
                prefix="/",
                headers=[HeaderMatcher(name=SERVER_HEADER, string_match=StringMatcher(exact=name + TOKEN_ENDPOINT))],
            ),
            route=RouteAction(cluster=token_cluster(name), host_rewrite_literal=urlsplit(one.token_endpoint).netloc),
            request_headers_to_remove=[SERVER_HEADER],
        )
        for name, one in exchanging(config)
    ]
