"""Clients whose URL has a slash at its end that the endpoint's path has not, or the other way round.

Envoy sends them on to the endpoint, with 307, so that method and body stay (RFC 9110 section 15.4.8). It does not serve them
there: a path that has two spellings gets around policies that name one of them.
"""

from __future__ import annotations

from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.contract import route_of
from mcp_extproc.envoy._api.config_route_v3 import DirectResponseAction, HeaderMatcher, Route, RouteMatch
from mcp_extproc.envoy._api.type_matcher_v3 import StringMatcher
from mcp_extproc.envoy.layout import LISTENER
from mcp_extproc.envoy.render.endpoint_match import headers_of
from mcp_extproc.envoy.render.typed import header

_TEMPORARY_REDIRECT = 307

_HAS_QUERY = HeaderMatcher(name=":path", string_match=StringMatcher(contains="?"))
_PREFLIGHT = HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS"))

_ANY_PAGE = header("access-control-allow-origin", "*")
"""What comes next is a request to the endpoint, which says which pages may call it."""
_FOR_PREFLIGHTS = [
    _ANY_PAGE,
    header("access-control-allow-methods", "%REQ(access-control-request-method)%"),
    # `*` stands for all names but Authorization.
    header("access-control-allow-headers", "%REQ(access-control-request-headers)%"),
]


def other_path(endpoint: Endpoint) -> str | None:
    """The endpoint's path with the other ending; ``None`` where there is none."""
    path = endpoint.path
    if path == "/":
        return None
    return path.removesuffix("/") if path.endswith("/") else f"{path}/"


def redirects(endpoint: Endpoint) -> list[Route]:
    """Routes from there to an endpoint, for behind the routes of all endpoints. Nobody has to be proven there."""
    path, location = other_path(endpoint), _relative(endpoint.path)
    if path is None:
        return []
    return [
        Route(
            name=f"{LISTENER}/slash/{route_of(endpoint.name)}{suffix}",
            match=RouteMatch(path=path, headers=[*headers_of(endpoint), *further]),
            direct_response=DirectResponseAction(status=status),
            response_headers_to_add=answer,
        )
        for suffix, further, status, answer in (
            ("/preflight", [_PREFLIGHT], 204, _FOR_PREFLIGHTS),
            (
                "/query",
                [_HAS_QUERY],
                _TEMPORARY_REDIRECT,
                [header("location", f"{location}?%QUERY_PARAMS(ORIG)%"), _ANY_PAGE],
            ),
            ("", [], _TEMPORARY_REDIRECT, [header("location", location), _ANY_PAGE]),
        )
    ]


def _relative(path: str) -> str:
    """How the other path leads to this one (RFC 3986 section 4.2): by whatever scheme, host and prefix clients know it."""
    last = path.rstrip("/").rpartition("/")[2]
    return f"./{last}/" if path.endswith("/") else f"../{last}"
