"""Envoy's access log: one JSON object for each request, including the gateway's metadata."""

from __future__ import annotations

import json

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import ERROR_HEADER, NAMESPACE
from mcp_extproc.envoy._api.access_loggers_file_v3 import FileAccessLog
from mcp_extproc.envoy._api.config_accesslog_v3 import AccessLog
from mcp_extproc.envoy._api.config_core_v3 import SubstitutionFormatString
from mcp_extproc.envoy.render.typed import any_of


def _fact(path: str) -> str:
    return f"%DYNAMIC_METADATA({NAMESPACE}:{path})%"


def _first(*commands: tuple[str, str]) -> str:
    """The first of these that is there."""
    operators = [{"command": command, **({"param": param} if param else {})} for command, param in commands]
    return f"%COALESCE({json.dumps({'operators': operators}, separators=(',', ':'))})%"


_ENDPOINT = "mcp.endpoint"
"""Empty where there are no virtual servers."""
_CONSENT = "mcp.consent"
"""Empty where nobody is asked."""

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
    "enduser.id": _fact("principal"),
    "mcp.principal.issuer": _fact("issuer"),
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
    "error.type": _first(("DYNAMIC_METADATA", f"{NAMESPACE}:error_reason"), ("RESP", ERROR_HEADER)),
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    # Clients that have their answer leave before the stream ends.
    "response_flags": _first(("DYNAMIC_METADATA", f"{NAMESPACE}:flags"), ("RESPONSE_FLAGS", "")),
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
}
"""Without the path and headers that may contain credentials: a server's URL may have a key in the query."""


def access_log(config: GatewayConfig) -> list[AccessLog]:
    """The access log; none if the file's path is empty."""
    path = config.log.access
    if not path:
        return []
    unused = {*(() if config.virtual_servers else (_ENDPOINT,)), *(() if config.vetting else (_CONSENT,))}
    fields = {name: text for name, text in FIELDS.items() if name not in unused}
    format = SubstitutionFormatString(json_format=fields, omit_empty_values=True)
    return [
        AccessLog(name="envoy.access_loggers.file", typed_config=any_of(FileAccessLog(path=path, log_format=format)))
    ]
