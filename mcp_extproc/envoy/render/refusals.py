"""The filter whose worker reads a server's own error, where it comes with an HTTP status that says so too."""

from __future__ import annotations

from mcp_extproc.contract import CONTENT_ENCODING, LOST_HEADER, MESSAGE_TIMEOUT, NAMESPACE, REFUSED_KEY
from mcp_extproc.envoy._api.common_matching_v3 import ExtensionWithMatcher
from mcp_extproc.envoy._api.config_core_v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
)
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import (
    HttpResponseHeaderMatchInput,
    HttpResponseLocalReplyMatchInput,
    HttpResponseStatusCodeMatchInput,
    ListStringMatcher,
    StringMatcher,
)
from mcp_extproc.envoy._api.xds_type_matcher_v3 import (
    RegexMatcher,
    RegexMatcherGoogleRe2,
)
from mcp_extproc.envoy._api.xds_type_matcher_v3 import StringMatcher as XdsStringMatcher
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, SESSION_KEY, Layout
from mcp_extproc.envoy.render import matching
from mcp_extproc.envoy.render.arrangements import EXT_PROC, response_alone
from mcp_extproc.envoy.render.typed import any_of, seconds
from mcp_extproc.mcp import transport

FILTER = "mcp_refused"


def reading_errors(layout: Layout) -> HttpFilter:
    """Behind the filter that decides, so that it comes first on the way back. It opens no stream for other responses."""
    return HttpFilter(name=FILTER, typed_config=any_of(_only_for_errors(_processor(layout))))


def _processor(layout: Layout) -> ExternalProcessor:
    metadata = [HeaderValue(key=REFUSED_KEY, value="1")]
    if layout.shares_sessions:
        metadata.append(HeaderValue(key=SESSION_KEY, value=f"%REQ({SESSION_KEY})%"))
    return ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER, skip_envoy_headers=True),
            initial_metadata=metadata,
        ),
        # The response is no answer, so Envoy puts one in its place (local_replies.call_failures).
        failure_mode_allow=True,
        processing_mode=response_alone(),
        message_timeout=seconds(MESSAGE_TIMEOUT),
        forward_rules=HeaderForwardingRules(
            allowed_headers=ListStringMatcher(
                patterns=[StringMatcher(exact=":status"), StringMatcher(exact=CONTENT_ENCODING)]
            )
        ),
        metadata_options=MetadataOptions(
            forwarding_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NAMESPACE]),
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NAMESPACE]),
        ),
    )


def _only_for_errors(processor: ExternalProcessor) -> ExtensionWithMatcher:
    failed = XdsStringMatcher(safe_regex=RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="[45].."))
    refused = XdsStringMatcher(safe_regex=RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="40[13]"))
    is_read = matching.all_of(
        matching.has("status", HttpResponseStatusCodeMatchInput(), failed),
        matching.one_of(
            matching.of_type(transport.JSON), matching.has("status", HttpResponseStatusCodeMatchInput(), refused)
        ),
        # What says that a session is lost is between the gateway and the server: the client's own is not.
        matching.negation(
            matching.has("lost", HttpResponseHeaderMatchInput(header_name=LOST_HEADER), XdsStringMatcher(exact="1"))
        ),
        # Envoy's own errors are none of a server's.
        matching.has("local reply", HttpResponseLocalReplyMatchInput(), XdsStringMatcher(exact="false")),
    )
    return matching.for_responses_where(matching.Case(is_read, EXT_PROC, processor))
