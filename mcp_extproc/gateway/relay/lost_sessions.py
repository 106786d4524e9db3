"""Which answers of a server say that it does not know its session."""

from __future__ import annotations

from typing import Final

from mcp_extproc.mcp import transport

STATUSES: Final = ("404", "400")
"""Of answers that may say it: the first by the specification (transports, Session Management), the second as the examples of
the TypeScript SDK and servers after them have it, by what they write."""

MAX_BODY_BYTES: Final = 64 * 1024
"""That are looked at."""


def is_lost(status: str, content_type: str, body: bytes) -> bool:
    """Whether the server lost the session: then the request is worth sending again, with another one.

    A 404 says so, unless a JSON-RPC error with it speaks of something else. A 400 says so only in words: the specification
    has it for requests without a session, and those of the gateway have one.

    Args:
        status: of the response.
        content_type: of its body.
        body: the beginning of it, decompressed.
    """
    text = body[:MAX_BODY_BYTES].lower()
    if b"session" in text or b"initiali" in text:
        return True
    return status == "404" and not _is_error(content_type, text)


def _is_error(content_type: str, text: bytes) -> bool:
    return transport.media_type(content_type) == transport.JSON and b'"jsonrpc"' in text and b'"error"' in text
