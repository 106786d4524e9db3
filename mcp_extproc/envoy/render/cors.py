"""Pages in a browser: Envoy's CORS filter, for the pages that may call (``origins``).

The filter only tells a browser what a page may read. Whether a page may call at all is checked by the worker, for every
request (:mod:`mcp_extproc.gateway.admission`).

Source: Fetch Standard, sections 3.3 (HTTP extensions) and 4.9 (CORS-preflight fetch).
"""

from __future__ import annotations

from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.contract import MARKER_NAMESPACE
from mcp_extproc.envoy._api.filters_http_cors_v3 import Cors, CorsPolicy
from mcp_extproc.envoy._api.filters_http_header_to_metadata_v3 import Config as HeaderToMetadata
from mcp_extproc.envoy._api.filters_http_header_to_metadata_v3 import ConfigKeyValuePair, ConfigRule
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import RegexMatcher, StringMatcher
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render.typed import any_of, header

CORS = "envoy.filters.http.cors"

_OCTET = "25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]"
_PORT = "[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
"""Up to 65535."""

LOOPBACK_ORIGINS = tuple(
    rf"(?i)https?://{host}(?::(?:{_PORT}))?"
    for host in (r"(?:[a-z0-9_-]+\.)*localhost\.?", rf"127(?:\.(?:{_OCTET})){{3}}\.?", r"\[::1\]")
)
"""What the worker allows by default, as far as browsers write it (:func:`mcp_extproc.mcp.transport.origin_allowed`). Envoy
refuses an expression whose RE2 program has more than 100 instructions."""

_METHODS = "GET, POST, DELETE"

_EXPOSED = "mcp-session-id, mcp-protocol-version, www-authenticate, retry-after"
"""Response headers that clients act on. Without it a page sees only a few, such as ``content-type``."""

_MAX_AGE = "7200"
"""Seconds for which a browser need not ask again; Chromium keeps answers no longer."""

_ORIGIN = "origin"
"""In :data:`mcp_extproc.contract.MARKER_NAMESPACE`: the page's origin, which Envoy 1.40 does not tell from the request's
headers where it needs it."""

TO_THE_CALLER = header("access-control-allow-origin", f"%DYNAMIC_METADATA({MARKER_NAMESPACE}:{_ORIGIN})%")
"""For routes to servers, which no request of a page that may not call gets: ``custom_response`` replaces a server's response
without another run through the filters."""

DEPENDS_ON_ORIGIN = header("vary", "origin")
"""For routes where the gateway itself answers: caches may keep a 404 or 405 that answers a GET."""


def filters(*marks: ConfigRule) -> list[HttpFilter]:
    """The filters, in front of all that may refuse a request: preflights have no credentials, and pages can read errors.

    Args:
        marks: what else is to be known of requests as they come in. Another filter would cost each of them more.
    """
    to_metadata = ConfigKeyValuePair(metadata_namespace=MARKER_NAMESPACE, key=_ORIGIN)
    rule = ConfigRule(header="origin", on_header_present=to_metadata)
    return [
        HttpFilter(name=CORS, typed_config=any_of(Cors())),
        HttpFilter(name="mcp_origin", typed_config=any_of(HeaderToMetadata(request_rules=[rule, *marks]))),
    ]


def policy(endpoint: Endpoint) -> dict[str, Any]:
    """The configuration of the filter for an endpoint's first route. Envoy ignores it on a direct response."""
    cors = CorsPolicy(
        allow_origin_string_match=_origins(endpoint.origins),
        allow_methods=_METHODS,
        # The names that were asked for: headers for credentials, for tracing, and of `Mcp-Param-*` have any name.
        allow_headers="*",
        expose_headers=_EXPOSED,
        max_age=_MAX_AGE,
        # A page of a public address that calls a private one. Only pages of allowed origins pass a preflight.
        allow_private_network_access=True,
        # Otherwise the worker, or a filter that authenticates, would get those of other origins.
        forward_not_matching_preflights=False,
    )
    return {CORS: any_of(cors)}


def _origins(allowed: tuple[str, ...] | None) -> list[StringMatcher]:
    if allowed is None:
        return [StringMatcher(safe_regex=RegexMatcher(regex=origin)) for origin in LOOPBACK_ORIGINS]
    return [StringMatcher(exact=origin, ignore_case=True) for origin in allowed]
