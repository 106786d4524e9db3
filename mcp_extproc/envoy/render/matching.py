"""Predicates of ``xds.type.matcher``, in words, and filters that depend on them."""

from __future__ import annotations

from typing import NamedTuple

from mcp_extproc.envoy._api.common_matching_v3 import ExtensionWithMatcher
from mcp_extproc.envoy._api.filters_common_matcher_action_v3 import SkipFilter
from mcp_extproc.envoy._api.filters_http_composite_v3 import Composite, ExecuteFilterAction
from mcp_extproc.envoy._api.type_matcher_v3 import HttpResponseHeaderMatchInput, HttpResponseStatusCodeMatchInput
from mcp_extproc.envoy._api.xds_core_v3 import TypedExtensionConfig
from mcp_extproc.envoy._api.xds_type_matcher_v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicatePredicateList,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)
from mcp_extproc.envoy.message import Message
from mcp_extproc.envoy.render.typed import any_of, extension

Predicate = MatcherMatcherListPredicate

_COMPOSITE = "envoy.filters.http.composite"


def has(name: str, value: Message, matcher: StringMatcher) -> Predicate:
    """An input, under any name, has a value."""
    return Predicate(
        single_predicate=MatcherMatcherListPredicateSinglePredicate(
            input=TypedExtensionConfig(name=name, typed_config=any_of(value)), value_match=matcher
        )
    )


def has_response_header(name: str, value: str) -> Predicate:
    """The response has a header with this value."""
    return has(name, HttpResponseHeaderMatchInput(header_name=name), StringMatcher(exact=value))


def has_status(status: str) -> Predicate:
    """The response has this status."""
    return has("status", HttpResponseStatusCodeMatchInput(), StringMatcher(exact=status))


def is_answered() -> Predicate:
    """There is a response, whatever it says. Before, Envoy can't tell, so a filter that this skips runs for the request."""
    pattern = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="[0-9]+")
    return has("status", HttpResponseStatusCodeMatchInput(), StringMatcher(safe_regex=pattern))


def of_type(kind: str) -> Predicate:
    """The response has this media type, as :func:`mcp_extproc.mcp.transport.media_type` finds it, and no other beside it."""
    pattern = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=f"(?i){kind}[ \\t]*(;.*)?")
    value = StringMatcher(safe_regex=pattern)
    return has("content-type", HttpResponseHeaderMatchInput(header_name="content-type"), value)


def all_of(*predicates: Predicate) -> Predicate:
    """All of these are true."""
    return Predicate(and_matcher=MatcherMatcherListPredicatePredicateList(predicate=list(predicates)))


def one_of(*predicates: Predicate) -> Predicate:
    """One of these, or more, are true."""
    if len(predicates) == 1:  # A list of one is invalid.
        return predicates[0]
    return Predicate(or_matcher=MatcherMatcherListPredicatePredicateList(predicate=list(predicates)))


def negation(predicate: Predicate) -> Predicate:
    """This is not true."""
    return Predicate(not_matcher=predicate)


def skipped_if(predicate: Predicate, name: str, filter: Message) -> ExtensionWithMatcher:
    """An HTTP filter that does not run where this is true.

    Envoy decides as soon as it can: what the predicate needs that comes late has to be looked at in each of its branches.

    Args:
        predicate: about the request or the response.
        name: the extension's.
        filter: its configuration.
    """
    return ExtensionWithMatcher(
        extension_config=extension(name, filter),
        xds_matcher=Matcher(matcher_list=MatcherMatcherList(matchers=[_skipped(predicate)])),
    )


def made_unless(predicate: Predicate, name: str, filter: Message) -> ExtensionWithMatcher:
    """An HTTP filter that is not even made where this is true, at the request's head or before it. In doubt it runs.

    Per-route configuration of its own holds for it.

    Args:
        predicate: about the request.
        name: the extension's.
        filter: its configuration.
    """
    return ExtensionWithMatcher(
        extension_config=extension(_COMPOSITE, Composite()),
        xds_matcher=Matcher(
            matcher_list=MatcherMatcherList(matchers=[_skipped(predicate)]), on_no_match=_running(name, filter)
        ),
    )


def _skipped(predicate: Predicate) -> MatcherMatcherListFieldMatcher:
    skip = MatcherOnMatch(action=TypedExtensionConfig(name="skip", typed_config=any_of(SkipFilter())))
    return MatcherMatcherListFieldMatcher(predicate=predicate, on_match=skip)


class Case(NamedTuple):
    """Responses, and the HTTP filter that runs for them."""

    predicate: Predicate
    """About the response, in each of its branches: Envoy decides as soon as it can."""
    name: str
    """The extension's."""
    filter: Message
    """Its configuration."""


def for_responses_where(*cases: Case) -> ExtensionWithMatcher:
    """The HTTP filter of the first case that a response is. It sees nothing of the request.

    Envoy's composite filter makes it only then. One that is skipped is made for each request all the same.
    """
    matched = [
        MatcherMatcherListFieldMatcher(predicate=case.predicate, on_match=_running(case.name, case.filter))
        for case in cases
    ]
    return ExtensionWithMatcher(
        extension_config=extension(_COMPOSITE, Composite()),
        xds_matcher=Matcher(matcher_list=MatcherMatcherList(matchers=matched)),
    )


def _running(name: str, filter: Message) -> MatcherOnMatch:
    run = ExecuteFilterAction(typed_config=extension(name, filter))
    return MatcherOnMatch(action=TypedExtensionConfig(name="run", typed_config=any_of(run)))
