"""What tells clients where to log in, served by Envoy itself to everybody.

Source: RFC 9728 sections 2 and 3, MCP 2025-11-25 basic/authorization (Authorization Server Location), MCP 2025-03-26
basic/authorization (Server Metadata Discovery).
"""

from __future__ import annotations

from typing import Any

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Authentication, OAuth
from mcp_extproc.config.endpoint import Endpoint, endpoints
from mcp_extproc.contract import RESOURCE_METADATA_PATH
from mcp_extproc.envoy._api.config_core_v3 import Metadata
from mcp_extproc.envoy._api.config_route_v3 import (
    DirectResponseAction,
    FilterConfig,
    HeaderMatcher,
    Route,
    RouteAction,
    RouteMatch,
)
from mcp_extproc.envoy._api.type_matcher_v3 import RegexMatcher, StringMatcher
from mcp_extproc.envoy.layout import KEYS_CLUSTER, LISTENER, MARKER_NAMESPACE, METADATA_PATH, Layout
from mcp_extproc.envoy.render.typed import any_of, header, seconds, text_format
from mcp_extproc.mcp import transport

RESOURCE = RESOURCE_METADATA_PATH
AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"

WHERE = "resource_metadata"
SCOPE = "scope"
"""In the metadata of an endpoint's route, :data:`MARKER_NAMESPACE`: for the challenge."""

_USED_BY_CLIENT = "%REQ(:SCHEME)%://%REQ(:AUTHORITY)%"
"""Not x-forwarded-proto, which is what a client writes."""

# The cors filter does nothing on direct responses.
_FOR_PAGES = [
    header("access-control-allow-origin", "*"),
    header("access-control-allow-methods", "GET, HEAD"),
    header("access-control-allow-headers", "*"),
    header("access-control-max-age", "7200"),
]


def base_url(authentication: Authentication) -> str:
    """Scheme and host of the gateway, in Envoy's substitution language."""
    return _USED_BY_CLIENT if authentication.public_url is None else escaped(authentication.public_url)


def escaped(text: str) -> str:
    """Text in Envoy's substitution language.

    >>> escaped("100%")
    '100%%'
    """
    return text.replace("%", "%%")


def well_known_path(endpoint: Endpoint) -> str:
    """Path of the metadata of an endpoint (RFC 9728 section 3.1)."""
    return RESOURCE + (endpoint.path if endpoint.path != "/" else "")


def route_metadata(config: GatewayConfig, endpoint: Endpoint) -> Metadata | None:
    """Metadata of an endpoint's route: one set of answers is enough for all endpoints."""
    authentication = config.authentication
    if authentication is None or authentication.oauth is None:
        return None
    scopes = " ".join(authentication.oauth.scopes_supported)
    told = {WHERE: well_known_path(endpoint), SCOPE: f'scope="{scopes}", ' if scopes else ""}
    return Metadata(filter_metadata={MARKER_NAMESPACE: told})


def routes(config: GatewayConfig, layout: Layout, filter_names: list[str]) -> list[Route]:
    """Routes to all documents, in front of all others.

    Args:
        config: the whole configuration.
        layout: whether authorization servers' metadata is known.
        filter_names: of all filters, none of which these requests pass.
    """
    authentication = config.authentication
    if authentication is None or authentication.oauth is None:
        return []
    found = []
    for number, endpoint in enumerate(endpoints(config)):
        text = _resource(authentication, authentication.oauth, endpoint)
        # The one without a path is the main endpoint's.
        paths = dict.fromkeys([well_known_path(endpoint), *([RESOURCE] if number == 0 else [])])
        for path in paths:
            found += [_preflight(path), _document(path, text)]
    if layout.keys is not None:
        found += [_preflight(AUTHORIZATION_SERVER), _authorization_server()]
    for route in found:
        route.typed_per_filter_config = {name: any_of(FilterConfig(disabled=True)) for name in filter_names}
        route.response_headers_to_add = list(_FOR_PAGES)
    return found


def _resource(authentication: Authentication, oauth: OAuth, endpoint: Endpoint) -> str:
    resource = authentication.resource(endpoint.path)
    described: dict[str, Any] = {
        "resource": escaped(resource) if resource is not None else _USED_BY_CLIENT + escaped(endpoint.path),
        "authorization_servers": [escaped(one.issuer) for one in oauth.issuers],
        "bearer_methods_supported": ["header"],
        "scopes_supported": [escaped(scope) for scope in oauth.scopes_supported],
        "resource_name": oauth.resource_name and escaped(oauth.resource_name),
        "resource_documentation": oauth.resource_documentation and escaped(oauth.resource_documentation),
        "resource_policy_uri": oauth.resource_policy_uri and escaped(oauth.resource_policy_uri),
        "resource_tos_uri": oauth.resource_tos_uri and escaped(oauth.resource_tos_uri),
    }
    return orjson.dumps({name: value for name, value in described.items() if value}).decode()


def _document(path: str, text: str) -> Route:
    body = text_format(text)
    body.content_type = transport.JSON
    return Route(
        name=f"{LISTENER}{path}",
        match=RouteMatch(path=path, headers=[_GET]),
        direct_response=DirectResponseAction(status=200, body_format=body),
    )


def _authorization_server() -> Route:
    return Route(
        name=f"{LISTENER}{AUTHORIZATION_SERVER}",
        match=RouteMatch(path=AUTHORIZATION_SERVER, headers=[_GET]),
        route=RouteAction(cluster=KEYS_CLUSTER, path_rewrite=METADATA_PATH, timeout=seconds(15)),
        request_headers_to_remove=["authorization", "cookie"],
    )


def _preflight(path: str) -> Route:
    return Route(
        name=f"{LISTENER}{path}/preflight",
        match=RouteMatch(
            path=path, headers=[HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS"))]
        ),
        direct_response=DirectResponseAction(status=204),
    )


_GET = HeaderMatcher(name=":method", string_match=StringMatcher(safe_regex=RegexMatcher(regex="GET|HEAD")))
