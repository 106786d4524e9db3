"""JSON-RPC bodies for responses from Envoy or a server, so that clients can parse every failure.

There are two kinds: a server's response to a call (``custom_response`` on the server's route, HTTP 200), and Envoy's own
errors (``local_reply_config``, status kept).
"""

from __future__ import annotations

from itertools import islice

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import (
    CREDENTIALS_UNAVAILABLE,
    ERROR_HEADER,
    FAILURE_HEADER,
    NAMESPACE,
    READS_KEY,
    RESPONSE_NAMESPACE,
    SERVER_FAILED,
)
from mcp_extproc.envoy._api.config_accesslog_v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    MetadataFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from mcp_extproc.envoy._api.config_core_v3 import RuntimeUInt32
from mcp_extproc.envoy._api.filters_http_custom_response_v3 import CustomResponse
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from mcp_extproc.envoy._api.http_custom_response_local_response_policy_v3 import LocalResponsePolicy
from mcp_extproc.envoy._api.type_matcher_v3 import (
    HttpResponseHeaderMatchInput,
    HttpResponseLocalReplyMatchInput,
    HttpResponseStatusCodeMatchInput,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    ValueMatcher,
)
from mcp_extproc.envoy._api.xds_core_v3 import TypedExtensionConfig
from mcp_extproc.envoy._api.xds_type_matcher_v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)
from mcp_extproc.envoy.layout import MARKER_KEY, MARKER_NAMESPACE, UPSTREAMS_LISTENER
from mcp_extproc.envoy.render import client_credentials
from mcp_extproc.envoy.render.authentication import challenges
from mcp_extproc.envoy.render.denials import denials, expression, of_known_request
from mcp_extproc.envoy.render.matching import Predicate, all_of, has, has_status, negation, of_type, one_of
from mcp_extproc.envoy.render.typed import any_of, header, text_format
from mcp_extproc.gateway.advice import NOT_ASKED
from mcp_extproc.gateway.refusals import nothing_served
from mcp_extproc.gateway.relay.outcomes import CREDENTIALS_UNAVAILABLE as CREDENTIALS_UNAVAILABLE_REASON
from mcp_extproc.mcp import errors, transport

_JSON_TYPE = header("content-type", transport.JSON)

_ID = f"%DYNAMIC_METADATA({NAMESPACE}:id_json)%"
"""JSON text already, and inserted raw."""

_NOT_A_SERVERS_STATUS = 424
"""Failed Dependency. Outlier detection counts anything below 500 as healthy. Clients never see it."""

_SERVER_ERROR = "ServerError"

_BY_EXT_PROC = "response.code_details.startsWith('ext_proc_error') || response.code_details == 'unhandled_message'"
"""How Envoy names the failures of its ext_proc filters."""

_SERVER = f"%DYNAMIC_METADATA({NAMESPACE}:server)%"

_BROKE_OFF = (
    "response.code_details.startsWith('upstream_reset_after_response_started') || "
    "response.code_details in ['response_payload_too_large', 'stream_idle_timeout']"
)
"""How Envoy names the end of a response whose head has come and was not sent on yet."""


def call_failures(server: str, *, fails_over: bool, passes_challenges: bool) -> CustomResponse:
    """Replaces responses to calls that are not MCP by a JSON-RPC error at HTTP 200 that echoes the id.

    A valid response is a 200 with JSON or an event stream. On anything else (an HTML page, a redirect, 401, 500, Envoy's
    own 503 for a server that is down, 504 for an idle one) several SDKs would end the whole session (docs/protocol.md).

    Args:
        server: its name, for the message.
        fails_over: whether the repair listener may report that it could not reach the server.
        passes_challenges: whether clients log in at the server itself: what asks them to goes on.
    """
    empty = has("content-length", HttpResponseHeaderMatchInput(header_name="content-length"), StringMatcher(exact="0"))
    is_answer = all_of(
        has_status("200"),
        negation(empty),
        one_of(*map(of_type, (transport.JSON, transport.SSE))),
    )  # fmt: skip
    by_envoy = has("local reply", HttpResponseLocalReplyMatchInput(), StringMatcher(exact="true"))
    # Responses of policies already have a body (see denials), and an intended status.
    by_policy = all_of(by_envoy, one_of(*(has_status(status) for status in ("401", "403", "429"))))
    asks_to_log_in = (has_status("401"), has_status("403")) if passes_challenges else ()
    is_said = one_of(is_answer, by_policy, *asks_to_log_in)
    return CustomResponse(
        custom_response_matcher=Matcher(
            matcher_list=MatcherMatcherList(
                matchers=[
                    *(_failures_at_repair(server, negation(is_answer)) if fails_over else ()),
                    _policy(all_of(by_envoy, negation(is_said)), _error_of(server, "failed: %RESPONSE_FLAGS_LONG%")),
                    _policy(
                        _is_redirect(),
                        _error_of(
                            server,
                            "answered HTTP %RESPONSE_CODE%, a redirect to %RESP(location)%, which calls do not follow: "
                            "set it in the server's url",
                        ),
                    ),
                    _policy(
                        negation(is_said), _error_of(server, "answered HTTP %RESPONSE_CODE% instead of an MCP message")
                    ),
                ]
            )
        )
    )


def _is_redirect() -> Predicate:
    """One whose target can be repeated in JSON, and has no query or user in it, which may be credentials."""
    plain = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=r"[A-Za-z0-9:/._~%\[\]-]{1,200}")
    moved = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="30[78]")
    return all_of(
        has("status", HttpResponseStatusCodeMatchInput(), StringMatcher(safe_regex=moved)),
        has("location", HttpResponseHeaderMatchInput(header_name="location"), StringMatcher(safe_regex=plain)),
    )


def _failures_at_repair(server: str, failed: Predicate) -> list[MatcherMatcherListFieldMatcher]:
    anything = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=".+")
    return [
        _policy(
            all_of(failed, _failure_header(StringMatcher(exact=_SERVER_ERROR))),
            _error_of(server, "answered HTTP 5xx instead of an MCP message"),
        ),
        _policy(
            all_of(failed, _failure_header(StringMatcher(safe_regex=anything))),
            _error_of(server, "is down, or could not be reached again"),
        ),
    ]


def _failure_header(value: StringMatcher) -> Predicate:
    return has("failure", HttpResponseHeaderMatchInput(header_name=FAILURE_HEADER), value)


def failures_of_repairs() -> CustomResponse:
    """On the repair listener: map a server's 5xx to a status below 500, or outlier detection would eject the repair
    listener."""
    by_server = has("local reply", HttpResponseLocalReplyMatchInput(), StringMatcher(exact="false"))
    status = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="5..")
    failed = has("status", HttpResponseStatusCodeMatchInput(), StringMatcher(safe_regex=status))
    policy = LocalResponsePolicy(
        status_code=_NOT_A_SERVERS_STATUS, response_headers_to_add=[header(FAILURE_HEADER, _SERVER_ERROR)]
    )
    return CustomResponse(
        custom_response_matcher=Matcher(
            matcher_list=MatcherMatcherList(matchers=[_policy(all_of(failed, by_server), policy)])
        )
    )


def repair_replies() -> LocalReplyConfig:
    """On the repair listener: the same for Envoy's own errors, marked by a header."""
    failed = _status_at_least(500, "mcp_repair.status_failure")
    both = AccessLogFilter(and_filter=AndFilter(filters=[_answered_by_us(), failed]))
    flags = [header(FAILURE_HEADER, "%RESPONSE_FLAGS_LONG%")]
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(filter=both, status_code=_NOT_A_SERVERS_STATUS),
            ResponseMapper(filter=failed, status_code=_NOT_A_SERVERS_STATUS, headers_to_add=flags),
        ]
    )


def local_replies(config: GatewayConfig) -> LocalReplyConfig:
    """Bodies for what Envoy refuses by itself. Ours (immediate responses, and failures of calls at 200) stay as they are."""
    path = config.listen.path if config.main_endpoint else None
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(filter=_answered_by_us()),
            *_no_token(config),
            *challenges.mappers(config),
            *denials(config),
            _too_large(config),
            _mapper(404, errors.INVALID_REQUEST, nothing_served(path), "path"),
            _too_slow(),
            *([_overloaded()] if config.overload.max_heap_size_bytes is not None else []),
            *_failures(config),
        ]
    )


def endpoint_replies(config: GatewayConfig) -> list[ResponseMapper]:
    """The same for the MCP endpoint only, on an existing listener.

    They come before existing mappers, because only the first match applies. The gateway's own responses are repeated
    unchanged, or the listener's ``body_format`` would apply to them.
    """
    untouched = ResponseMapper(
        filter=_either(_answered_by_us(), _status_filter(ComparisonFilterOp.LE, 399, "mcp.status_success")),
        body_format_override=text_format("%LOCAL_REPLY_BODY%"),
    )
    refusals = [*_no_token(config), *challenges.mappers(config), *denials(config), _too_large(config)]
    mappers = [untouched, *refusals, *_failures(config)]
    for mapper in mappers:
        assert mapper.filter is not None
        mapper.filter = AccessLogFilter(and_filter=AndFilter(filters=[_at_the_endpoint(), mapper.filter]))
    return mappers


def _too_large(config: GatewayConfig) -> ResponseMapper:
    limit = config.limits.request_bytes
    return _mapper(
        413,
        errors.INVALID_REQUEST,
        f"The body is larger than the {limit} bytes allowed (limits.request_bytes).",
        "too_large",
    )


def _too_slow() -> ResponseMapper:
    message = "The request did not arrive in time: see `listen.limits.request_timeout` in the gateway's configuration."
    return _mapper(408, errors.INVALID_REQUEST, message, "too_slow")


def _overloaded() -> ResponseMapper:
    mapper = _mapper(503, errors.INTERNAL_ERROR, "The gateway is overloaded. Try again later.", "overloaded")
    mapper.filter = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["OM"]))
    return mapper


def _failures(config: GatewayConfig) -> list[ResponseMapper]:
    failed = "The request failed in Envoy: HTTP %RESPONSE_CODE%, %RESPONSE_FLAGS_LONG%."
    unready = "The gateway is not ready: no worker answered. Try again."
    return [
        _unread(config),
        _broken_off(),
        *_with_and_without_id(503, unready, "no_worker"),
        *_with_and_without_id(None, failed, "envoy"),
    ]


def _with_and_without_id(status: int | None, message: str, reason: str) -> list[ResponseMapper]:
    """With it where a worker has read the request, in the first of two visits or before it was gone."""
    plain = _mapper(status, errors.INTERNAL_ERROR, message, reason)
    known = _mapper(status, errors.INTERNAL_ERROR, message, reason, _ID)
    assert known.filter is not None
    known.filter = AccessLogFilter(and_filter=AndFilter(filters=[*of_known_request(), known.filter]))
    return [known, plain]


def _unread(config: GatewayConfig) -> ResponseMapper:
    """A server has answered, and the worker that had to read it ended or said nothing: the call is answered all the same."""
    status = 200 if config.errors.status == "jsonrpc" else None
    return _unanswered(_BY_EXT_PROC, f"that of server '{_SERVER}' was not read", status, "no_worker")


def _broken_off() -> ResponseMapper:
    """A server broke off while a worker read its response: that is past the filter ``custom_response``."""
    return _unanswered(_BROKE_OFF, f"server '{_SERVER}' failed: %RESPONSE_FLAGS_LONG%", 200, SERVER_FAILED)


def _unanswered(details: str, why: str, status: int | None, reason: str) -> ResponseMapper:
    """For calls that were forwarded.

    Args:
        details: how Envoy names the cause, in CEL.
        why: there is no answer, for the message.
        status: for the client; ``None`` for Envoy's own.
        reason: in the words of the access log.
    """
    body = text_format(_error_text(errors.INTERNAL_ERROR, f"No answer: {why}.", _ID))
    body.content_type = transport.JSON
    of_a_call = MetadataMatcher(
        filter=RESPONSE_NAMESPACE,
        path=[MetadataMatcherPathSegment(key=READS_KEY)],
        value=ValueMatcher(present_match=True),
    )
    filters = [
        AccessLogFilter(metadata_filter=MetadataFilter(matcher=of_a_call, match_if_key_not_found=False)),
        expression(details),
    ]
    return ResponseMapper(
        filter=AccessLogFilter(and_filter=AndFilter(filters=filters)),
        status_code=status,
        body_format_override=body,
        headers_to_add=[header(ERROR_HEADER, reason)],
    )


def _no_token(config: GatewayConfig) -> list[ResponseMapper]:
    """Envoy has no token for a server. It says 401 then, as if the client were to blame."""
    if not any(True for _ in client_credentials.of_servers(config)):
        return []
    said = f"No answer: server '{_SERVER}' {NOT_ASKED}; `mcp-extproc check` says why."
    body = text_format(_error_text(errors.INTERNAL_ERROR, said, _ID))
    body.content_type = transport.JSON
    return [
        ResponseMapper(
            filter=expression(f"response.code_details == '{client_credentials.DETAILS}'"),
            status_code=200,
            body_format_override=body,
            headers_to_add=[header(ERROR_HEADER, CREDENTIALS_UNAVAILABLE_REASON)],
        )
    ]


def failure_headers(config: GatewayConfig) -> LocalReplyConfig:
    """On the private listener: report the cause of an error to the worker, in a header."""
    no_token = [
        ResponseMapper(
            filter=expression(f"response.code_details == '{client_credentials.DETAILS}'"),
            headers_to_add=[header(FAILURE_HEADER, CREDENTIALS_UNAVAILABLE)],
        )
        for _ in islice(client_credentials.of_servers(config), 1)
    ]
    return LocalReplyConfig(
        mappers=[
            *no_token,
            ResponseMapper(
                filter=_status_at_least(0, f"{UPSTREAMS_LISTENER}.any"),
                headers_to_add=[header(FAILURE_HEADER, "%RESPONSE_FLAGS_LONG%")],
            ),
        ]
    )


def _error_of(server: str, what: str) -> LocalResponsePolicy:
    # The other parts that are inserted are Envoy's own words and numbers.
    with_id = _error_text(errors.INTERNAL_ERROR, f"No answer: server '{server}' {what}.", _ID)
    return LocalResponsePolicy(
        status_code=200,
        body_format=text_format(with_id),
        response_headers_to_add=[_JSON_TYPE, header(ERROR_HEADER, SERVER_FAILED)],
    )


def _mapper(status: int | None, code: int, message: str, reason: str, id: str = "") -> ResponseMapper:
    body = text_format(_error_text(code, message, id))
    body.content_type = transport.JSON
    filter = _status_at_least(400, "mcp.status_failure") if status is None else _status_is(status)
    return ResponseMapper(filter=filter, body_format_override=body, headers_to_add=[header(ERROR_HEADER, reason)])


def _error_text(code: int, message: str, id: str = "") -> str:
    text = orjson.dumps({"jsonrpc": "2.0", "error": {"code": code, "message": message}}).decode()
    return text.replace('"error":', f'"id":{id},"error":', 1) if id else text


def _answered_by_us() -> AccessLogFilter:
    return _is_true(NAMESPACE, "answered")


def _at_the_endpoint() -> AccessLogFilter:
    return _is_true(MARKER_NAMESPACE, MARKER_KEY)


def _is_true(namespace: str, key: str) -> AccessLogFilter:
    return AccessLogFilter(
        metadata_filter=MetadataFilter(
            matcher=MetadataMatcher(
                filter=namespace,
                path=[MetadataMatcherPathSegment(key=key)],
                value=ValueMatcher(bool_match=True),
            ),
            match_if_key_not_found=False,
        )
    )


def _either(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(or_filter=OrFilter(filters=list(filters)))


def _status_is(status: int) -> AccessLogFilter:
    return _status_filter(ComparisonFilterOp.EQ, status, f"mcp.status_{status}")


def _status_at_least(status: int, key: str) -> AccessLogFilter:
    return _status_filter(ComparisonFilterOp.GE, status, key)


def _status_filter(op: ComparisonFilterOp, status: int, key: str) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=status, runtime_key=key)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=ComparisonFilter(op=op, value=value)))


def _policy(predicate: Predicate, policy: LocalResponsePolicy) -> MatcherMatcherListFieldMatcher:
    action = TypedExtensionConfig(name="error", typed_config=any_of(policy))
    return MatcherMatcherListFieldMatcher(predicate=predicate, on_match=MatcherOnMatch(action=action))
