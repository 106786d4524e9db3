"""What goes wrong in MCP terms. Raised anywhere in the core, rendered in one place (:func:`render`)."""

from __future__ import annotations

from typing import Any, Final

import orjson

# JSON-RPC 2.0 section 5.1
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
# MCP 2025-11-25 server/resources, Error Handling
RESOURCE_NOT_FOUND: Final = -32002
# MCP 2026-07-28 basic/index, Error Codes
UNSUPPORTED_PROTOCOL_VERSION: Final = -32022


class McpError(Exception):
    """A request that ends in a JSON-RPC error.

    Attributes:
        code: JSON-RPC error code.
        message: one sentence for the caller: what, where, what to do. Never holds credentials or bodies.
        reason: stable snake_case word for logs, metrics and ``mcp_proxy`` metadata.
        status: HTTP status of the answer. 200 once the request was read and its session is good; SDKs end the whole
            session on anything else (MCP basic/transports; see docs/protocol.md, "HTTP status of errors").
        data: JSON-RPC ``error.data``, or ``None``.
        id: the request's id as JSON text, where it could be read. Left out of the answer otherwise.
        headers: further HTTP headers of the answer.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str,
        status: int = 200,
        data: Any = None,
        id: bytes | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.status = status
        self.data = data
        self.id = id
        self.headers = headers

    def about(self, id: bytes | None) -> McpError:
        """The same error as the answer to the request with this id."""
        self.id = id
        return self


def render(error: McpError) -> bytes:
    """The JSON-RPC error message.

    An unreadable id is left out rather than sent as ``null``: the MCP schema (2025-11-25, JSONRPCErrorResponse) makes the
    member optional and allows only strings and integers.
    """
    payload: dict[str, Any] = {"jsonrpc": "2.0"}
    if error.id is not None:
        payload["id"] = orjson.Fragment(error.id)
    payload["error"] = {"code": error.code, "message": error.message}
    if error.data is not None:
        payload["error"]["data"] = error.data
    return orjson.dumps(payload)
