"""Events as SDKs write them, in expressions that recognise one with its message in one step.

:data:`mcp_extproc.mcp.sse` reads any event, and has an expression for those with other fields and any data.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = rb'"jsonrpc": ?"2\.0"'
"""The member that says what a message is."""


def usual_event(message: bytes) -> bytes:
    """An expression for an event with nothing but a message.

    Args:
        message: an expression for it.
    """
    return rb"(?:event: message\r?\n)?data: %b\r?\n\r?\n" % message
