"""Envoy's filters that ask a worker (ext_proc), one for each kind of exchange.

A call is one message of ours: the filter that decides sends headers and body without waiting, and the worker answers once.
Its stream is over then, or goes on with the response (:mod:`mcp_extproc.envoy.render.arrangements`). Where it is over, a
response that has to be read has a filter and a stream of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.address import UnixAddress
from mcp_extproc.contract import (
    CALL_KEY,
    EARLY_FACT,
    EARLY_HIDES,
    EARLY_SHOWS,
    ENDPOINT_KEY,
    MAX_MESSAGE_TIMEOUT,
    MESSAGE_TIMEOUT,
    NAMESPACE,
    ONWARD_NAMESPACE,
    READS_ALL,
    READS_KEY,
    READS_LATER,
    RESPONSE_HEADERS,
    RESPONSE_KEY,
    RESPONSE_NAMESPACE,
    ROUTE_KEY,
    VETTING_KEY,
    VETTING_NAMESPACE,
)
from mcp_extproc.envoy._api.common_matching_v3 import ExtensionWithMatcher
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutationRules
from mcp_extproc.envoy._api.config_core_v3 import (
    BackoffStrategy,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
)
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from mcp_extproc.envoy._api.matching_common_inputs_network_v3 import (
    DynamicMetadataInput,
    DynamicMetadataInputPathSegment,
)
from mcp_extproc.envoy._api.matching_input_matchers_metadata_v3 import Metadata
from mcp_extproc.envoy._api.retry_host_previous_hosts_v3 import PreviousHostsPredicate
from mcp_extproc.envoy._api.type_matcher_v3 import (
    HttpResponseStatusCodeMatchInput,
    ListStringMatcher,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy._api.type_v3 import HttpStatus, StatusCode
from mcp_extproc.envoy._api.xds_core_v3 import TypedExtensionConfig as XdsExtension
from mcp_extproc.envoy._api.xds_type_matcher_v3 import MatcherMatcherListPredicateSinglePredicate as Single
from mcp_extproc.envoy._api.xds_type_matcher_v3 import RegexMatcher as XdsRegexMatcher
from mcp_extproc.envoy._api.xds_type_matcher_v3 import (
    RegexMatcherGoogleRe2,
)
from mcp_extproc.envoy._api.xds_type_matcher_v3 import StringMatcher as XdsStringMatcher
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, SESSION_KEY, Layout
from mcp_extproc.envoy.render.arrangements import EXT_PROC, REQUEST_ALONE
from mcp_extproc.envoy.render.matching import (
    Case,
    Predicate,
    all_of,
    for_responses_where,
    has,
    has_status,
    made_unless,
    negation,
    of_type,
    one_of,
    skipped_if,
)
from mcp_extproc.envoy.render.typed import any_of, seconds
from mcp_extproc.mcp import transport

_SEND, _SKIP = ProcessingModeHeaderSendMode.SEND, ProcessingModeHeaderSendMode.SKIP


def deciding(
    layout: Layout,
    more_namespaces: Sequence[str],
    *,
    is_judged: bool,
    identity: Sequence[str] = (),
    asks: bool = False,
) -> ExternalProcessor:
    """The filter whose worker decides: one message to the worker and one back for a POST.

    The ``buffer`` in front of it makes the body one piece, which is sent with the headers. The worker answers once the body
    is there, with another request in place of the client's.

    Args:
        layout: whether there are several workers.
        more_namespaces: further metadata namespaces that the worker may write.
        is_judged: whether policies come before it. The worker recognizes that by the route's name.
        identity: metadata namespaces of what Envoy verified about the caller, for the worker.
        asks: whether users are asked about calls (:func:`vetting`).
    """
    ours = (RESPONSE_NAMESPACE, VETTING_NAMESPACE) if asks else (RESPONSE_NAMESPACE,)
    processor = _processor(layout, (*ours, *more_namespaces), told_route=is_judged, identity=identity)
    processor.processing_mode = REQUEST_ALONE.mode
    processor.send_body_without_waiting_for_header_response = True
    return processor


def foreseeing(layout: Layout, more_namespaces: Sequence[str], identity: Sequence[str] = ()) -> ExternalProcessor:
    """The filter in front of policies that read no body. Its worker decides where that has no effect yet, and puts what
    policies must not see into metadata."""
    processor = deciding(layout, (ONWARD_NAMESPACE, *more_namespaces), is_judged=False, identity=identity)
    processor.forward_rules = _what_the_worker_sees(layout, _NOT_SENT_EARLY)
    return processor


def not_again(processor: ExternalProcessor) -> ExtensionWithMatcher:
    """The filter that decides, for requests that were not decided in front of policies: Envoy does not make it for the others,
    which saves them a third of what they would pay for it. Whatever did not say that it is decided is."""
    decided = _metadata(NAMESPACE, EARLY_FACT, ValueMatcher(bool_match=True))
    return made_unless(decided, EXT_PROC, processor)


def tell_route(processor: ExternalProcessor) -> None:
    """Have workers know the endpoint of a request by its route."""
    _tell(processor, ROUTE_KEY, "%ROUTE_NAME%")


def tell_endpoint(processor: ExternalProcessor) -> None:
    """Have workers know it once there was a visit before, which wrote it into the metadata."""
    _tell(processor, ENDPOINT_KEY, f"%DYNAMIC_METADATA({NAMESPACE}:endpoint)%")


def _tell(processor: ExternalProcessor, key: str, value: str) -> None:
    assert processor.grpc_service is not None
    processor.grpc_service.initial_metadata.append(HeaderValue(key=key, value=value))


def judging(layout: Layout, more_namespaces: Sequence[str], identity: Sequence[str] = ()) -> ExternalProcessor:
    """The filter in front of policies. Its worker asks for the body where there is one, and changes nothing."""
    processor = _processor(layout, more_namespaces, told_route=True, identity=identity)
    processor.processing_mode = headers_first()
    processor.allow_mode_override = True
    return processor


def repairing(layout: Layout) -> ExternalProcessor:
    """The filter of the repair listener. The worker recognizes it by the route's name, which clients can't set."""
    processor = _processor(layout, (), told_route=True)
    processor.processing_mode = headers_first()
    # The worker asks for the response's head.
    processor.allow_mode_override = True
    processor.forward_rules = None
    return processor


def reading(layout: Layout) -> ExtensionWithMatcher:
    """The filter whose worker reads responses. Only those that have to be read open a stream.

    Each branch of the predicate looks at the response: Envoy decides as soon as it can, and the metadata alone would be
    looked at before it is written.
    """
    processor = _processor(layout, (), told_route=False)
    processor.processing_mode = ProcessingMode(
        request_header_mode=_SKIP,
        response_header_mode=_SEND,
        request_body_mode=ProcessingModeBodySendMode.NONE,
        response_body_mode=ProcessingModeBodySendMode.STREAMED,
        request_trailer_mode=_SKIP,
        # Where there are any, they are the end of the body: no piece says so then.
        response_trailer_mode=_SEND,
    )
    # By the head the worker decides whether it reads the body, and nearly always does: it comes along.
    processor.send_body_without_waiting_for_header_response = True
    processor.forward_rules = HeaderForwardingRules(
        allowed_headers=ListStringMatcher(patterns=[StringMatcher(exact=name) for name in RESPONSE_HEADERS])
    )
    processor.metadata_options = MetadataOptions(
        forwarding_namespaces=MetadataOptionsMetadataNamespaces(untyped=[RESPONSE_NAMESPACE]),
        # What became of the call, for the access log.
        receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NAMESPACE]),
    )
    assert processor.grpc_service is not None
    processor.grpc_service.initial_metadata.append(HeaderValue(key=RESPONSE_KEY, value="1"))
    any_status = XdsStringMatcher(safe_regex=XdsRegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=".+"))
    is_read = one_of(
        all_of(has_status("200"), of_type(transport.SSE), _says(StringMatcher(prefix=READS_LATER))),
        all_of(
            has("status", HttpResponseStatusCodeMatchInput(), any_status),
            _says(StringMatcher(exact=READS_ALL)),
        ),
    )
    return for_responses_where(Case(is_read, EXT_PROC, processor))


def vetting(layout: Layout, more_namespaces: Sequence[str]) -> ExtensionWithMatcher:
    """The filter whose worker asks a user about a call, and runs it. Behind the policies, it runs for no other request.

    Envoy takes an event stream for an answer where no body is sent, or all of it as a stream: then it holds none of it.
    """
    processor = _processor(layout, more_namespaces, told_route=False, identity=(VETTING_NAMESPACE,))
    processor.processing_mode = ProcessingMode(
        request_header_mode=_SEND,
        response_header_mode=_SKIP,
        request_body_mode=ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED,
        response_body_mode=ProcessingModeBodySendMode.NONE,
        # Envoy wants to have it so with this mode.
        request_trailer_mode=_SEND,
        response_trailer_mode=_SKIP,
    )
    assert processor.grpc_service is not None
    processor.grpc_service.initial_metadata.append(HeaderValue(key=VETTING_KEY, value="1"))
    waits = _metadata(VETTING_NAMESPACE, CALL_KEY, ValueMatcher(present_match=True))
    return skipped_if(negation(waits), EXT_PROC, processor)


def _says(text: StringMatcher) -> Predicate:
    """What the worker wrote about the response."""
    return _metadata(RESPONSE_NAMESPACE, READS_KEY, ValueMatcher(string_match=text))


def _metadata(namespace: str, key: str, value: ValueMatcher) -> Predicate:
    read = DynamicMetadataInput(filter=namespace, path=[DynamicMetadataInputPathSegment(key=key)])
    return Predicate(
        single_predicate=Single(
            input=XdsExtension(name="metadata", typed_config=any_of(read)),
            custom_match=XdsExtension(name="metadata", typed_config=any_of(Metadata(value=value))),
        )
    )


def _processor(
    layout: Layout, namespaces: Sequence[str], *, told_route: bool, identity: Sequence[str] = ()
) -> ExternalProcessor:
    return ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER, skip_envoy_headers=True),
            retry_policy=retries(layout),
            initial_metadata=[HeaderValue(key=SESSION_KEY, value=f"%REQ({SESSION_KEY})%")]
            if layout.shares_sessions
            else [],
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        message_timeout=seconds(MESSAGE_TIMEOUT),
        max_message_timeout=seconds(MAX_MESSAGE_TIMEOUT),
        mutation_rules=HeaderMutationRules(allow_envoy=True),
        forward_rules=_what_the_worker_sees(layout),
        request_attributes=["xds.route_name"] if told_route else [],
        metadata_options=MetadataOptions(
            forwarding_namespaces=MetadataOptionsMetadataNamespaces(untyped=list(identity)) if identity else None,
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NAMESPACE, *namespaces]),
        ),
    )


def headers_first() -> ProcessingMode:
    """Only the request's headers are sent unasked; the response to them requests further parts.

    With another mode for bodies than NONE, requests would lose their content-length.
    """
    return ProcessingMode(
        request_header_mode=_SEND,
        response_header_mode=_SKIP,
        request_body_mode=ProcessingModeBodySendMode.NONE,
        response_body_mode=ProcessingModeBodySendMode.NONE,
        request_trailer_mode=_SKIP,
        response_trailer_mode=_SKIP,
    )


def retries(layout: Layout) -> RetryPolicy | None:
    """For exchanges that found no connection. None at Unix sockets: there the supervisor holds the sockets, and a connection
    waits for the next worker; without a supervisor, calls meet 503 until the worker has started again. What a worker may have
    read is never repeated.

    With a policy Envoy keeps a copy of each message, which is a good part of what a call costs.
    """
    if all(isinstance(address, UnixAddress) for address in layout.extproc):
        return None
    return RetryPolicy(
        retry_on="connect-failure",
        num_retries=3,
        retry_back_off=BackoffStrategy(base_interval=seconds(0.005), max_interval=seconds(0.05)),
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=any_of(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=20,
    )


_NOT_SENT = (
    "accept-encoding", "content-length", "x-envoy-upstream-service-time", "x-forwarded-proto", "x-request-id",
)  # fmt: skip
"""Headers that the worker does not read, and need not see to remove them (:func:`mcp_extproc.gateway.headers.removed`).
Without them the headers of similar requests are identical, so known ones need not be parsed again. (A response's `date` and
`server` are removed before, by its cluster, and Envoy's own are written later.)"""

_NOT_SENT_EARLY = tuple(EARLY_HIDES if name == EARLY_SHOWS else name for name in _NOT_SENT)
"""The same of the filter in front of policies that read no body, which workers know by that."""


def _what_the_worker_sees(layout: Layout, hidden: Sequence[str] = _NOT_SENT) -> HeaderForwardingRules:
    names = (*hidden, SESSION_KEY) if layout.shares_sessions else hidden
    return HeaderForwardingRules(
        disallowed_headers=ListStringMatcher(patterns=[StringMatcher(exact=name) for name in names])
    )
