"""Filters that run only where their own credential is brought: an absent one is nobody's fault, a wrong one is refused.

What a filter in front takes away is missing here: predicates are evaluated when a request reaches the filter.
"""

from __future__ import annotations

import re

from mcp_extproc.envoy._api.common_matching_v3 import ExtensionWithMatcher
from mcp_extproc.envoy._api.type_matcher_v3 import HttpRequestHeaderMatchInput, HttpRequestQueryParamMatchInput
from mcp_extproc.envoy._api.xds_type_matcher_v3 import RegexMatcher, RegexMatcherGoogleRe2, StringMatcher
from mcp_extproc.envoy.message import Message
from mcp_extproc.envoy.render.matching import Predicate, has, negation, skipped_if


def header(name: str) -> Predicate:
    """A request with this header, even an empty one."""
    return _like(name, HttpRequestHeaderMatchInput(header_name=name), "(?s).*")


def query(name: str) -> Predicate:
    """A request with this parameter in its query, even an empty one, however it is written."""
    return _like(name, HttpRequestQueryParamMatchInput(query_param=name), "(?s).*")


def cookie(name: str) -> Predicate:
    """A request with this cookie. Lines of cookies arrive joined by a comma."""
    return _like(name, HttpRequestHeaderMatchInput(header_name="cookie"), cookie_line(name))


def cookie_line(name: str) -> str:
    """A regular expression for the header with this cookie."""
    return f"(?s)(.*[;,] *)?{re.escape(name)}=.*"


def bearer() -> Predicate:
    """A request with an access token in ``Authorization``, or with what claims to be one. The scheme's case does not matter
    (RFC 9110 section 11.1)."""
    return _like("authorization", HttpRequestHeaderMatchInput(header_name="authorization"), "(?is)bearer( .*)?")


def _like(name: str, value: Message, regex: str) -> Predicate:
    matcher = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=regex)
    return has(name, value, StringMatcher(safe_regex=matcher))


def only_with(credential: Predicate, name: str, filter: Message) -> ExtensionWithMatcher:
    """A filter that is skipped by requests without this credential. ``name``: of the filter."""
    return skipped_if(negation(credential), name, filter)
