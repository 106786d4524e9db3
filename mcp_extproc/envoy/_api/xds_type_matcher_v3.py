"""xds.type.matcher.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import xds_core_v3


class Matcher(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher"
    matcher_list: MatcherMatcherList | None = None
    on_no_match: MatcherOnMatch | None = None


class MatcherMatcherList(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher.MatcherList"
    matchers: list[MatcherMatcherListFieldMatcher] = []


class MatcherMatcherListFieldMatcher(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher"
    predicate: MatcherMatcherListPredicate | None = None
    on_match: MatcherOnMatch | None = None


class MatcherMatcherListPredicate(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher.MatcherList.Predicate"
    single_predicate: MatcherMatcherListPredicateSinglePredicate | None = None
    or_matcher: MatcherMatcherListPredicatePredicateList | None = None
    and_matcher: MatcherMatcherListPredicatePredicateList | None = None
    not_matcher: MatcherMatcherListPredicate | None = None


class MatcherMatcherListPredicatePredicateList(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher.MatcherList.Predicate.PredicateList"
    predicate: list[MatcherMatcherListPredicate] = []


class MatcherMatcherListPredicateSinglePredicate(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate"
    input: xds_core_v3.TypedExtensionConfig | None = None
    value_match: StringMatcher | None = None
    custom_match: xds_core_v3.TypedExtensionConfig | None = None


class MatcherOnMatch(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.Matcher.OnMatch"
    matcher: Matcher | None = None
    action: xds_core_v3.TypedExtensionConfig | None = None
    keep_matching: bool = False


class RegexMatcher(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.RegexMatcher"
    google_re2: RegexMatcherGoogleRe2 | None = None
    regex: str = ''


class RegexMatcherGoogleRe2(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.RegexMatcher.GoogleRE2"


class StringMatcher(Message):
    FULL_NAME: ClassVar[str] = "xds.type.matcher.v3.StringMatcher"
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    safe_regex: RegexMatcher | None = None
    contains: str | None = None
    custom: xds_core_v3.TypedExtensionConfig | None = None
    ignore_case: bool = False
