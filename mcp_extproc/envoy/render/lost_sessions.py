"""Which answers say that a server lost its session: the call is sent once more, with a new one. All others are meant.

Envoy decides about that by the head of the response. So a filter of the server's cluster has a worker look at the body first,
and mark the head (:mod:`mcp_extproc.extproc.doubtful_exchange`). It sees nothing but 404 and 400, by the specification and by
the examples of the TypeScript SDK.
"""

from __future__ import annotations

from mcp_extproc.contract import DOUBTFUL_KEY, FAILURE_HEADER, LOST_HEADER, MESSAGE_TIMEOUT, RESPONSE_HEADERS
from mcp_extproc.envoy._api.config_core_v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
)
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import (
    HttpRequestHeaderMatchInput,
    HttpResponseHeaderMatchInput,
    HttpResponseStatusCodeMatchInput,
    ListStringMatcher,
    StringMatcher,
)
from mcp_extproc.envoy._api.xds_type_matcher_v3 import RegexMatcher, RegexMatcherGoogleRe2
from mcp_extproc.envoy._api.xds_type_matcher_v3 import StringMatcher as XdsStringMatcher
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER
from mcp_extproc.envoy.render import matching, upstream_headers
from mcp_extproc.envoy.render.arrangements import EXT_PROC, response_alone
from mcp_extproc.envoy.render.matching import Case
from mcp_extproc.envoy.render.typed import any_of, seconds
from mcp_extproc.gateway.relay.lost_sessions import STATUSES


def doubted(repairs: str) -> HttpFilter:
    """For the cluster of a server, behind what removes the server's own headers of the name that marks a lost session.

    Args:
        repairs: the host by which the cluster has the repair listener, too.
    """
    cases = matching.for_responses_where(_forged(repairs), _may_be_lost())
    return HttpFilter(name="mcp_doubted", typed_config=any_of(cases))


def _may_be_lost() -> Case:
    statuses = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="|".join(STATUSES))
    may_be = matching.has("status", HttpResponseStatusCodeMatchInput(), XdsStringMatcher(safe_regex=statuses))
    return Case(may_be, EXT_PROC, _processor())


def _forged(repairs: str) -> Case:
    anything = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=".*")
    reported = matching.has(
        "failure", HttpResponseHeaderMatchInput(header_name=FAILURE_HEADER), XdsStringMatcher(safe_regex=anything)
    )
    # The request gets the host of the endpoint once that is chosen, which is after the first look at the matcher. What
    # comes with the response has to be first, or it would decide too early.
    by_us = matching.has("host", HttpRequestHeaderMatchInput(header_name=":authority"), XdsStringMatcher(exact=repairs))
    forged = matching.all_of(reported, matching.negation(by_us))
    return Case(forged, "envoy.filters.http.header_mutation", upstream_headers.without_failure())


def _processor() -> ExternalProcessor:
    return ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER, skip_envoy_headers=True),
            initial_metadata=[HeaderValue(key=DOUBTFUL_KEY, value="1")],
        ),
        # Unmarked, the response is what became of the call. The repair would need a worker, too.
        failure_mode_allow=True,
        processing_mode=response_alone(),
        message_timeout=seconds(MESSAGE_TIMEOUT),
        forward_rules=HeaderForwardingRules(
            allowed_headers=ListStringMatcher(patterns=[StringMatcher(exact=name) for name in RESPONSE_HEADERS])
        ),
    )


def marked() -> HeaderMatcher:
    """A response that was marked."""
    return HeaderMatcher(name=LOST_HEADER, present_match=True)
