"""Which requests are an endpoint's: by path, host and headers."""

from __future__ import annotations

import re

from mcp_extproc.config.authorization import Selector
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher, RouteMatch
from mcp_extproc.envoy._api.type_matcher_v3 import RegexMatcher, StringMatcher


def match_of(endpoint: Endpoint) -> RouteMatch:
    """The requests to an endpoint, as long as no route before it takes them."""
    return RouteMatch(path=endpoint.path, headers=headers_of(endpoint))


def headers_of(endpoint: Endpoint) -> list[HeaderMatcher]:
    """What its requests have to have besides the path."""
    headers = [HeaderMatcher(name=name, string_match=_wanted(value)) for name, value in endpoint.headers.items()]
    if endpoint.domains:
        hosts = "|".join(map(_authorities, endpoint.domains))
        by_host = StringMatcher(safe_regex=RegexMatcher(regex=f"(?i)(?:{hosts})(?::[0-9]+)?"))
        headers.append(HeaderMatcher(name=":authority", string_match=by_host))
    return headers


def _wanted(value: str | Selector) -> StringMatcher:
    if isinstance(value, str):
        return StringMatcher(exact=value)
    # Envoy's expressions are for the whole value.
    return StringMatcher(safe_regex=RegexMatcher(regex=f"(?s:.*)(?:{value.text})(?s:.*)"))


def _authorities(domain: str) -> str:
    """An expression for a host name, or for all names below one."""
    if ":" in domain:
        return re.escape(f"[{domain}]")
    return rf"(?:[a-z0-9_-]+\.)+{re.escape(domain[2:])}\.?" if domain.startswith("*.") else rf"{re.escape(domain)}\.?"
