"""What tells clients where to log in, served by Envoy itself to everybody.

Source: RFC 9728 sections 2 and 3, MCP 2025-11-25 basic/authorization (Authorization Server Location), MCP 2025-03-26
basic/authorization (Server Metadata Discovery).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from mcp_extproc.config.authentication import OAuth
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.contract import LOST_HEADER, RESOURCE_METADATA_PATH
from mcp_extproc.envoy._api import xds_type_matcher_v3 as matchers
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_route_v3 import (
    DirectResponseAction,
    FilterConfig,
    HeaderMatcher,
    Route,
    RouteAction,
    RouteMatch,
)
from mcp_extproc.envoy._api.filters_http_buffer_v3 import Buffer, BufferPerRoute
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import HttpRequestHeaderMatchInput, RegexMatcher, StringMatcher
from mcp_extproc.envoy.layout import KEYS_CLUSTER, LISTENER, METADATA_PATH, Layout, cluster_name, issuer_key
from mcp_extproc.envoy.render import matching, upstream_headers
from mcp_extproc.envoy.render.endpoint_match import headers_of
from mcp_extproc.envoy.render.typed import any_of, header, seconds, text_format
from mcp_extproc.mcp import transport

RESOURCE = RESOURCE_METADATA_PATH
AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"

WHERE = "resource_metadata"
SCOPE = "scope"
"""In the metadata of an endpoint's route, :data:`mcp_extproc.contract.MARKER_NAMESPACE`: for the challenge."""

_USED_BY_CLIENT = "%REQ(:SCHEME)%://%REQ(:AUTHORITY)%"
"""Not x-forwarded-proto, which is what a client writes."""

# The cors filter does nothing on direct responses.
_FOR_PAGES = [
    header("access-control-allow-origin", "*"),
    header("access-control-allow-methods", "GET, HEAD"),
    header("access-control-allow-headers", "*"),
    header("access-control-max-age", "7200"),
]

_OF_CALLS: Final = (
    "location", "content-location", "www-authenticate", "mcp-session-id", "mcp-protocol-version", LOST_HEADER,
)  # fmt: skip
"""Headers that a server's cluster lets pass, and that are not a document's."""

_ASKS_WITH: Final = (("user-agent", 1), ("traceparent", 5), ("tracestate", 5), ("x-request-id", 3))
"""Headers with which a server is asked for its document, as :data:`upstream_headers.PASSED`."""


def base_url(endpoint: Endpoint) -> str:
    """Scheme and host by which clients reach an endpoint, in Envoy's substitution language."""
    return _USED_BY_CLIENT if endpoint.public_url is None else escaped(endpoint.public_url)


def escaped(text: str) -> str:
    """Text in Envoy's substitution language.

    >>> escaped("100%")
    '100%%'
    """
    return text.replace("%", "%%")


def told(endpoint: Endpoint) -> dict[str, str]:
    """In the metadata of an endpoint's route: for its challenge."""
    oauth = _tokens_of(endpoint)
    if oauth is None:
        return {}
    scopes = " ".join(oauth.challenged)
    return {WHERE: endpoint.metadata_path, SCOPE: f'scope="{scopes}", ' if scopes else ""}


def routes(served: Sequence[Endpoint], layout: Layout, filter_names: list[str], buffer: str) -> list[Route]:
    """Routes to all documents, in front of all others.

    Args:
        served: the endpoints, the main one first.
        layout: whether authorization servers' metadata is known.
        filter_names: of all filters, none of which these requests pass, but one.
        buffer: name of the filter that buffers bodies.
    """
    if not any(_tokens_of(one) or _login_of(one) for one in served):
        return []
    found: list[Route] = []
    # Where paths are the same, host and headers choose, as they do among endpoints.
    for endpoint in sorted(served, key=lambda one: not headers_of(one)):
        # The documents without a path are the main endpoint's, and at another host those of the endpoint there.
        has_root = endpoint.path == served[0].path or bool(endpoint.domains)
        paths = list(dict.fromkeys([endpoint.metadata_path, *([RESOURCE] if has_root else [])]))
        for_old = AUTHORIZATION_SERVER if has_root else AUTHORIZATION_SERVER + endpoint.path
        oauth, login = _tokens_of(endpoint), _login_of(endpoint)
        if login is not None:
            for path in (*paths, for_old):
                # A query is not for the server, nor for the one that has the path otherwise.
                found += [_preflight(path), _of_server(path, endpoint, *login), _absent(path, endpoint)]
            continue
        if oauth is None:
            # Not those of the endpoint that has the path otherwise.
            found += [_absent(path, endpoint) for path in (*paths, for_old) if headers_of(endpoint)]
            continue
        text = _resource(oauth, endpoint)
        for path in paths:
            found += [_preflight(path), _document(path, endpoint, text)]
        if layout.keys is not None:
            found += [_preflight(for_old), _authorization_server(for_old, endpoint, oauth)]
    for route in found:
        route.typed_per_filter_config = {name: any_of(FilterConfig(disabled=True)) for name in filter_names}
        if route.route is not None:
            route.typed_per_filter_config[buffer] = any_of(_HARDLY_A_BODY)
        route.response_headers_to_add = list(_FOR_PAGES)
    return found


def _tokens_of(endpoint: Endpoint) -> OAuth | None:
    return None if endpoint.authentication is None else endpoint.authentication.oauth


def _login_of(endpoint: Endpoint) -> tuple[str, str] | None:
    """The server where the endpoint's clients log in, and its path; ``None`` where it is not the server's."""
    for name, server in endpoint.servers.items():
        if server.credentials.pass_through:
            return name, server.path_and_query.partition("?")[0]
    return None


def _of_server(path: str, endpoint: Endpoint, server: str, own_path: str) -> Route:
    """The server's own document, where it has it for its own path (RFC 9728 section 3.1, RFC 8414 section 3.1)."""
    well_known = next(start for start in (RESOURCE, AUTHORIZATION_SERVER) if path.startswith(start))
    own = well_known + own_path.rstrip("/") if path != well_known else well_known
    return Route(
        name=f"{LISTENER}{path}/{server}",
        match=RouteMatch(path=path, headers=[*_asks(endpoint), _NO_QUERY]),
        route=RouteAction(
            cluster=cluster_name(server), path_rewrite=escaped(own), auto_host_rewrite=True, timeout=seconds(15)
        ),
        request_headers_to_remove=["authorization", "cookie"],
    )


def narrowed() -> HttpFilter:
    """For the cluster of a server where clients log in: who asks for its documents tells it nothing, and gets nothing but
    them. It is the cluster's, so that it is the same on every listener."""
    asked = [
        *(upstream_headers.without(names) for names in upstream_headers.all_but(_ASKS_WITH)),
        OneMutation(append=header("accept", transport.JSON)),
    ]
    answered = [
        *(OneMutation(remove=name) for name in _OF_CALLS),
        OneMutation(append=header("cache-control", "no-store")),
    ]
    mutating = HeaderMutation(mutations=Mutations(request_mutations=asked, response_mutations=answered))
    # Paths of endpoints don't begin so.
    starts = [matchers.StringMatcher(prefix=start) for start in (RESOURCE, AUTHORIZATION_SERVER)]
    path = HttpRequestHeaderMatchInput(header_name=":path")
    for_document = matching.one_of(*(matching.has("path", path, start) for start in starts))
    only_if = matching.skipped_if(matching.negation(for_document), "envoy.filters.http.header_mutation", mutating)
    return HttpFilter(name="mcp_documents", typed_config=any_of(only_if))


def _resource(oauth: OAuth, endpoint: Endpoint) -> str:
    resource = endpoint.resource
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


def _document(path: str, endpoint: Endpoint, text: str) -> Route:
    body = text_format(text)
    body.content_type = transport.JSON
    return Route(
        name=f"{LISTENER}{path}",
        match=RouteMatch(path=path, headers=_asks(endpoint)),
        direct_response=DirectResponseAction(status=200, body_format=body),
    )


def _authorization_server(path: str, endpoint: Endpoint, oauth: OAuth) -> Route:
    """For clients that look for it here: with several issuers the first one's metadata."""
    of_first = METADATA_PATH + issuer_key(oauth.issuers[0].issuer, oauth.algorithms)
    return Route(
        name=f"{LISTENER}{path}",
        match=RouteMatch(path=path, headers=_asks(endpoint)),
        route=RouteAction(cluster=KEYS_CLUSTER, path_rewrite=of_first, timeout=seconds(15)),
        request_headers_to_remove=["authorization", "cookie"],
    )


def _absent(path: str, endpoint: Endpoint) -> Route:
    return Route(
        name=f"{LISTENER}{path}/absent",
        match=RouteMatch(path=path, headers=headers_of(endpoint)),
        direct_response=DirectResponseAction(status=404),
    )


def _asks(endpoint: Endpoint) -> list[HeaderMatcher]:
    return [_GET, *headers_of(endpoint)]


def _preflight(path: str) -> Route:
    return Route(
        name=f"{LISTENER}{path}/preflight",
        match=RouteMatch(
            path=path, headers=[HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS"))]
        ),
        direct_response=DirectResponseAction(status=204),
    )


_HARDLY_A_BODY = BufferPerRoute(buffer=Buffer(max_request_bytes=1))
"""The smallest limit that Envoy takes."""

_NO_QUERY = HeaderMatcher(name=":path", string_match=StringMatcher(contains="?"), invert_match=True)
"""Routes match paths without it, and Envoy would add it to the server's."""

_GET = HeaderMatcher(name=":method", string_match=StringMatcher(safe_regex=RegexMatcher(regex="GET|HEAD")))
