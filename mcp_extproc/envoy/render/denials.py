"""Errors for requests that an operator's filter denied.

Envoy responds to such a request itself, with a status and plain text, on which several SDKs end the whole session.
Therefore a JSON-RPC request gets a JSON-RPC error with its id, at HTTP 200 unless configured otherwise. The policy and its
reason are in the access log (``response_code_details``), and are not shown to clients.
"""

from __future__ import annotations

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import ERROR_HEADER, NAMESPACE, RESPONSE_METHOD
from mcp_extproc.envoy._api.access_loggers_filters_cel_v3 import ExpressionFilter
from mcp_extproc.envoy._api.config_accesslog_v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    MetadataFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from mcp_extproc.envoy._api.config_core_v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    RuntimeUInt32,
)
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import ResponseMapper
from mcp_extproc.envoy._api.type_matcher_v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy.render.typed import any_of, header, text_format
from mcp_extproc.mcp import errors, transport

_WAIT = "%RESP(RETRY-AFTER?X-RATELIMIT-RESET)%"
_WAIT_IS_KNOWN = (
    "'retry-after' in response.headers ? response.headers['retry-after'].matches('^[0-9]{1,9}$') : "
    "'x-ratelimit-reset' in response.headers && response.headers['x-ratelimit-reset'].matches('^[0-9]{1,9}$')"
)
"""Retry-After may be a date, and other filters may send neither header."""
_ID = f"%DYNAMIC_METADATA({NAMESPACE}:id_json)%"

_REFUSED_FLAGS = ["UAEX", "FI", "RLSE"]
"""Denied by ext_authz or the fault filter, or because the rate limit service did not respond."""


def denials(config: GatewayConfig) -> list[ResponseMapper]:
    """Mappers for ``local_reply_config``, in front of all others."""
    status = 200 if config.errors.status == "jsonrpc" else None
    denied = _text(
        errors.INVALID_REQUEST, "A policy of the gateway refuses this request.", '{"reason":"denied","status":403}'
    )
    too_many_now = _text(
        errors.INTERNAL_ERROR,
        f"Too many requests: try again in {_WAIT} s.",
        f'{{"reason":"rate_limited","status":429,"retryAfter":{_WAIT}}}',
    )
    too_many = _text(
        errors.INTERNAL_ERROR, "Too many requests: try again later.", '{"reason":"rate_limited","status":429}'
    )
    failed = _text(
        errors.INTERNAL_ERROR,
        "A policy of the gateway refuses this request (%RESPONSE_FLAGS_LONG%).",
        '{"reason":"refused"}',
    )
    return [
        _mapper(
            [_is(401)],
            _text(errors.INVALID_REQUEST, "Authentication is required, or was refused."),
            None,
            "unauthorized",
        ),
        *_with_and_without_id([_is(429), expression(_WAIT_IS_KNOWN)], too_many_now, status, "rate_limited", retry=True),
        *_with_and_without_id([_is(429)], too_many, status, "rate_limited"),
        *_with_and_without_id([_is(403)], denied, status, "denied"),
        *_with_and_without_id([_at_least(400), _flags(_REFUSED_FLAGS)], failed, status, "refused"),
    ]


def _with_and_without_id(
    filters: list[AccessLogFilter], text: str, status: int | None, reason: str, *, retry: bool = False
) -> list[ResponseMapper]:
    """Notifications, responses and GETs expect no JSON-RPC response, so their status is kept."""
    with_id = text.replace('"error":', f'"id":{_ID},"error":', 1)
    return [
        _mapper([*filters, *of_known_request()], with_id, status, reason, retry=retry),
        _mapper(filters, text, None, reason, retry=retry),
    ]


def _mapper(
    filters: list[AccessLogFilter], text: str, status: int | None, reason: str, *, retry: bool = False
) -> ResponseMapper:
    body = text_format(text)
    body.content_type = transport.JSON
    return ResponseMapper(
        filter=filters[0] if len(filters) == 1 else AccessLogFilter(and_filter=AndFilter(filters=filters)),
        status_code=status,
        body_format_override=body,
        headers_to_add=[
            header(ERROR_HEADER, reason),
            *([_if_absent("retry-after", "%RESP(X-RATELIMIT-RESET)%")] if retry else []),
        ],
    )


def _text(code: int, message: str, data: str | None = None) -> str:
    error = {"code": code, "message": message}
    if data is not None:
        error["data"] = orjson.Fragment(data)
    return orjson.dumps({"jsonrpc": "2.0", "error": error}).decode()


def _if_absent(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value), append_action=HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT
    )


def of_known_request() -> list[AccessLogFilter]:
    """A worker has read the request, so that the error can have its id."""
    return [_has("id_json"), _is_request()]


def _has(key: str) -> AccessLogFilter:
    return _metadata(key, ValueMatcher(present_match=True))


def _is_request() -> AccessLogFilter:
    # Access log filters of Envoy 1.40 ignore `invert`. The pseudo-method of a response begins with two underscores.
    assert RESPONSE_METHOD.startswith("_")
    no_response = RegexMatcher(regex="[^_].*")
    return _metadata("method", ValueMatcher(string_match=StringMatcher(safe_regex=no_response)))


def _metadata(key: str, value: ValueMatcher) -> AccessLogFilter:
    matcher = MetadataMatcher(filter=NAMESPACE, path=[MetadataMatcherPathSegment(key=key)], value=value)
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=False))


def expression(text: str) -> AccessLogFilter:
    """A filter in CEL."""
    config = any_of(ExpressionFilter(expression=text))
    return AccessLogFilter(
        extension_filter=ExtensionFilter(name="envoy.access_loggers.extension_filters.cel", typed_config=config)
    )


def _flags(flags: list[str]) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=flags))


def _is(status: int) -> AccessLogFilter:
    return _status(ComparisonFilterOp.EQ, status, f"mcp.policy_{status}")


def _at_least(status: int) -> AccessLogFilter:
    return _status(ComparisonFilterOp.GE, status, "mcp.policy_failure")


def _status(op: ComparisonFilterOp, status: int, key: str) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=status, runtime_key=key)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=ComparisonFilter(op=op, value=value)))
