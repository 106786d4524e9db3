"""Attributes of spans and metrics, under the names of the OpenTelemetry conventions for MCP where there is one.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/mcp.md (status: development).
"""

from __future__ import annotations

from typing import Final

from mcp_extproc.mcp.methods import FROM_CLIENTS
from mcp_extproc.telemetry.exchange import Exchange

Attributes = dict[str, str | int]

METHOD: Final = "mcp.method.name"
TOOL: Final = "gen_ai.tool.name"
PROMPT: Final = "gen_ai.prompt.name"
OPERATION: Final = "gen_ai.operation.name"
EXECUTE_TOOL: Final = "execute_tool"
URI: Final = "mcp.resource.uri"
REQUEST_ID: Final = "jsonrpc.request.id"
STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
SESSION: Final = "mcp.session.id"
VERSION: Final = "mcp.protocol.version"
TRANSPORT: Final = "network.transport"
PROTOCOL: Final = "network.protocol.name"
PROTOCOL_VERSION: Final = "network.protocol.version"
CLIENT: Final = ("client.address", "client.port")
SERVER: Final = ("server.address", "server.port")
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"

# No convention has a gateway in it.
UPSTREAM: Final = "mcp.server"
ENDPOINT: Final = "mcp.endpoint"
RULE: Final = "mcp.rule"
LEG: Final = "mcp.leg"
CACHE: Final = "mcp.cache"
RESULT: Final = "mcp.result"
PROCESS: Final = "mcp.process"

PID: Final = "process.pid"

OTHER: Final = "other"
"""In place of what strangers make up, and of what is too much."""


def known_method(method: str) -> str:
    """A method as a label: one that MCP has, or :data:`OTHER`."""
    return method if method in FROM_CLIENTS else OTHER


def of_operation(exchange: Exchange) -> Attributes:
    """What was asked for, and what went wrong, towards the client and towards the server. What is not known is absent."""
    found: Attributes = {}
    if exchange.method is not None:
        found[METHOD] = exchange.method
        if (row := FROM_CLIENTS.get(exchange.method)) is not None and row.fact == "tool":
            found[OPERATION] = EXECUTE_TOOL
    texts = (
        (TOOL, exchange.tool), (PROMPT, exchange.prompt), (UPSTREAM, exchange.server), (ENDPOINT, exchange.endpoint),
        (VERSION, exchange.protocol_version), (ERROR_TYPE, exchange.error_type), (PROTOCOL_VERSION, exchange.http_version),
    )  # fmt: skip
    found |= {name: text for name, text in texts if text is not None}
    if (code := exchange.error_code) is not None:
        found[STATUS_CODE] = str(code)
    found[PROTOCOL] = "http"
    return found
