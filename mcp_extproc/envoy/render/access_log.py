"""Envoy's access log: one JSON object for each request, including the gateway's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.contract import ERROR_HEADER, NAMESPACE, ORDINARY_KEY
from mcp_extproc.envoy._api.access_loggers_file_v3 import FileAccessLog
from mcp_extproc.envoy._api.config_accesslog_v3 import AccessLog, AccessLogFilter, AndFilter, MetadataFilter, OrFilter
from mcp_extproc.envoy._api.config_core_v3 import SubstitutionFormatString
from mcp_extproc.envoy._api.type_matcher_v3 import MetadataMatcher, MetadataMatcherPathSegment, ValueMatcher
from mcp_extproc.envoy.render.typed import any_of
from mcp_extproc.gateway.facts import ORDINARY

_FACT = f"%DYNAMIC_METADATA({NAMESPACE}:"


def _fact(path: str) -> str:
    return f"{_FACT}{path})%"


def _first(*commands: tuple[str, str]) -> str:
    """The first of these that is there."""
    operators = [{"command": command, **({"param": param} if param else {})} for command, param in commands]
    return f"%COALESCE({json.dumps({'operators': operators}, separators=(',', ':'))})%"


_ENDPOINT = "mcp.endpoint"
"""Empty where there are no virtual servers."""
_CONSENT = "mcp.consent"
"""Empty where nobody is asked."""
_CALLER = ("enduser.id", "mcp.principal.issuer")
"""Empty where nobody is authenticated."""
_ERROR = "error.type"
_FLAGS = "response_flags"

_REASON = "error_reason"

FIELDS = {
    "start_time": "%START_TIME%",
    "http_method": "%REQ(:METHOD):64%",
    "status": "%RESPONSE_CODE%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "request_id": "%REQ(X-REQUEST-ID):128%",
    "client_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "user_agent": "%REQ(USER-AGENT):256%",
    # Attribute names of the OpenTelemetry conventions for MCP, where there is one.
    "mcp.method.name": _fact("method"),
    "jsonrpc.request.id": _fact("id_json"),
    "mcp.session.id": _fact("session"),
    "mcp.protocol.version": _fact("protocol_version"),
    "mcp.client": _fact("client"),
    _CALLER[0]: _fact("principal"),
    _CALLER[1]: _fact("issuer"),
    _ENDPOINT: _fact("endpoint"),
    "mcp.server": _fact("server"),
    _CONSENT: _fact("consent"),
    "gen_ai.tool.name": _fact("tool"),
    "gen_ai.prompt.name": _fact("prompt"),
    "mcp.batch": _fact("batch"),
    "mcp.name": _fact("params:name"),
    "mcp.resource.uri": _fact("params:uri"),
    "mcp.unavailable": _fact("unavailable"),
    "rpc.response.status_code": _fact("error_code"),
    _ERROR: _first(("DYNAMIC_METADATA", f"{NAMESPACE}:{_REASON}"), ("RESP", ERROR_HEADER)),
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    # Clients that have their answer leave before the stream ends.
    _FLAGS: _first(("DYNAMIC_METADATA", f"{NAMESPACE}:flags"), ("RESPONSE_FLAGS", "")),
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
}
"""Without the path and headers that may contain credentials: a server's URL may have a key in the query."""


def access_log(config: GatewayConfig) -> list[AccessLog]:
    """The access log; none if the file's path is empty. Calls that are like most others have a format of their own, with as
    much in it: Envoy copies all metadata of a request for each field that is a fact and need not be there."""
    if not config.log.access:
        return []
    found = fields(config)
    return [_log(config, _of_ordinary(found), _is_ordinary()), _log(config, found, _is_other())]


def fields(config: GatewayConfig) -> dict[str, str]:
    """All fields that a request can have, with Envoy's commands for them."""
    unused = _unused(config)
    return {name: text for name, text in FIELDS.items() if name not in unused}


def _unused(config: GatewayConfig) -> set[str]:
    unused = set() if config.virtual_servers else {_ENDPOINT}
    unused |= set() if config.vetting else {_CONSENT}
    proves = any(one.authentication is not None or one.existing is not None for one in endpoints(config))
    return unused if proves else unused | set(_CALLER)


def _log(config: GatewayConfig, fields: Mapping[str, str], which: AccessLogFilter) -> AccessLog:
    format = SubstitutionFormatString(json_format=dict(fields), omit_empty_values=True)
    file = FileAccessLog(path=config.log.access, log_format=format)
    return AccessLog(name="envoy.access_loggers.file", filter=which, typed_config=any_of(file))


# -- Ordinary calls -------------------------------------------------------------------------------------------------------

_NOTHING = "%REQ(:METHOD):0%"
"""Of no length. A field of several commands is a text, for which Envoy 1.40 looks facts up (1,700 instructions). As one
alone may be a number, or not be there, it copies all metadata (11,000 for each)."""

_FACTS = frozenset(map(_fact, ORDINARY))


def _of_ordinary(fields: Mapping[str, str]) -> dict[str, str]:
    """The format for calls that a worker has marked, and whose answer has no error that a worker has seen: the same without
    facts that they have not."""
    found = {}
    for name, text in fields.items():
        if name == _ERROR:
            found[name] = f"%RESP({ERROR_HEADER})%"
        elif name == _FLAGS or text in _FACTS:
            found[name] = text + _NOTHING
        elif name in (*_CALLER, _ENDPOINT) or not text.startswith(_FACT):
            found[name] = text
    return found


def _is_ordinary() -> AccessLogFilter:
    marked = _metadata(ORDINARY_KEY, ValueMatcher(bool_match=True), or_absent=False)
    # A text is neither true nor false.
    has_no_error = _metadata(_REASON, ValueMatcher(bool_match=True), or_absent=True)
    return AccessLogFilter(and_filter=AndFilter(filters=[marked, has_no_error]))


def _is_other() -> AccessLogFilter:
    """All that :func:`_is_ordinary` is not about."""
    not_marked = _metadata(ORDINARY_KEY, ValueMatcher(bool_match=False), or_absent=True)
    has_error = _metadata(_REASON, ValueMatcher(present_match=True), or_absent=False)
    return AccessLogFilter(or_filter=OrFilter(filters=[not_marked, has_error]))


def _metadata(key: str, value: ValueMatcher, *, or_absent: bool) -> AccessLogFilter:
    """Envoy's filter does not heed :attr:`MetadataMatcher.invert`."""
    matcher = MetadataMatcher(filter=NAMESPACE, path=[MetadataMatcherPathSegment(key=key)], value=value)
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=or_absent))
