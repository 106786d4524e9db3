"""What says that a session is lost, and what does not."""

from __future__ import annotations

import pytest

from mcp_extproc.gateway.relay.lost_sessions import MAX_BODY_BYTES, is_lost

JSON, TEXT = "application/json; charset=utf-8", "text/plain"
INVALID = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"unknown tool"}}'


@pytest.mark.parametrize(
    ("status", "content_type", "body", "lost"),
    [
        ("404", "", b"", True),
        ("404", TEXT, b"404 page not found", True),
        ("404", JSON, b'{"detail":"Not Found"}', True),
        ("404", JSON, INVALID, False),
        ("404", TEXT, INVALID, True),
        ("404", JSON, INVALID.replace(b"unknown tool", b"Session not found"), True),
        ("400", "", b"", False),
        ("400", TEXT, b"Invalid session ID", True),
        ("400", JSON, INVALID, False),
        ("400", JSON, INVALID.replace(b"unknown tool", b"Server not initialized"), True),
        ("400", JSON, b'{"detail":"no"}', False),
        ("400", TEXT, b" " * MAX_BODY_BYTES + b"session", False),
    ],
)
def test_which_say_so(status: str, content_type: str, body: bytes, lost: bool) -> None:
    assert is_lost(status, content_type, body) is lost
