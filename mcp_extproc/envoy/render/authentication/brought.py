"""Filters that run only where their own credential is brought: an absent one is nobody's fault, a wrong one is refused.

What a filter in front takes away is missing here: predicates are evaluated when a request reaches the filter.
"""

from __future__ import annotations

from mcp_extproc.envoy._api.common_matching_v3 import ExtensionWithMatcher
from mcp_extproc.envoy._api.filters_common_matcher_action_v3 import SkipFilter
from mcp_extproc.envoy._api.type_matcher_v3 import HttpRequestHeaderMatchInput
from mcp_extproc.envoy._api.xds_core_v3 import TypedExtensionConfig
from mcp_extproc.envoy._api.xds_type_matcher_v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)
from mcp_extproc.envoy.message import Message
from mcp_extproc.envoy.render.typed import any_of, extension

Predicate = MatcherMatcherListPredicate


def header(name: str) -> Predicate:
    """A request with this header, even an empty one."""
    anything = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="(?s).*")
    return Predicate(
        single_predicate=MatcherMatcherListPredicateSinglePredicate(
            input=TypedExtensionConfig(name=name, typed_config=any_of(HttpRequestHeaderMatchInput(header_name=name))),
            value_match=StringMatcher(safe_regex=anything),
        )
    )


def only_with(credential: Predicate, name: str, filter: Message) -> ExtensionWithMatcher:
    """A filter that is skipped by requests without this credential. ``name``: of the filter."""
    skip = MatcherOnMatch(action=TypedExtensionConfig(name="skip", typed_config=any_of(SkipFilter())))
    absent = MatcherMatcherListFieldMatcher(predicate=Predicate(not_matcher=credential), on_match=skip)
    return ExtensionWithMatcher(
        xds_matcher=Matcher(matcher_list=MatcherMatcherList(matchers=[absent])),
        extension_config=extension(name, filter),
    )
