"""Which answers say that a server lost its session: the call is sent once more, with a new one. All others are meant.

Envoy decides about that by the head of the response. So a filter of the server's cluster has a worker look at the body first,
and mark the head (:mod:`mcp_extproc.extproc.doubtful_exchange`). It sees nothing but 404 and 400, by the specification and by
the examples of the TypeScript SDK.
"""

from __future__ import annotations

from mcp_extproc.contract import DOUBTFUL_KEY, LOST_HEADER, MESSAGE_TIMEOUT, RESPONSE_HEADERS
from mcp_extproc.envoy._api.config_core_v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
)
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import HttpResponseStatusCodeMatchInput, ListStringMatcher, StringMatcher
from mcp_extproc.envoy._api.xds_type_matcher_v3 import RegexMatcher, RegexMatcherGoogleRe2
from mcp_extproc.envoy._api.xds_type_matcher_v3 import StringMatcher as XdsStringMatcher
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER
from mcp_extproc.envoy.render import matching
from mcp_extproc.envoy.render.arrangements import EXT_PROC, response_alone
from mcp_extproc.envoy.render.typed import ZERO, any_of, seconds
from mcp_extproc.gateway.relay.lost_sessions import STATUSES


def marking() -> HttpFilter:
    """For the cluster of a server, behind what removes the server's own headers of this name."""
    statuses = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="|".join(STATUSES))
    may_be = matching.has("status", HttpResponseStatusCodeMatchInput(), XdsStringMatcher(safe_regex=statuses))
    looking = matching.for_responses_where(may_be, EXT_PROC, _processor())
    return HttpFilter(name="mcp_lost_session", typed_config=any_of(looking))


def _processor() -> ExternalProcessor:
    return ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER, skip_envoy_headers=True),
            timeout=ZERO,
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
