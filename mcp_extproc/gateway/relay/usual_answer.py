"""The answer to a call as SDKs write it on an event stream: one event with the call's own id and a result.

It is recognised in one step, and mostly passes as it is. What is written otherwise, or has something to be changed, is left to
:class:`mcp_extproc.mcp.sse.SseParser` and :class:`mcp_extproc.gateway.relay.server_messages.Relay`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mcp_extproc.gateway.relay.usual_event import VERSION, usual_event
from mcp_extproc.mcp import jsontext

_ID: Final = rb'"id": ?(-?[0-9]+|"[^"\\\r\n]*")'
_RESULT: Final = rb'"result": ?(\{[^\r\n]*\})'
_ANSWER: Final = re.compile(
    usual_event(rb"(\{(?:%b, ?%b, ?%b|%b, ?%b, ?%b)\})" % (VERSION, _ID, _RESULT, _RESULT, VERSION, _ID))
)
"""``jsonrpc`` comes first or behind the result."""


class UsualAnswer(msgspec.Struct, frozen=True):
    """An answer that holds a version, an id and a result, each once."""

    message: bytes
    result: bytes
    """JSON text."""


def answer_in(chunk: bytes, id: bytes) -> UsualAnswer | None:
    """The answer to the request with this id that this piece of a stream is, whole and alone; ``None`` for anything else.

    Args:
        chunk: a piece that begins with a block.
        id: JSON text.
    """
    found = _ANSWER.fullmatch(chunk)
    if found is None:
        return None
    message, first_id, first_result, last_result, last_id = found.groups()
    result: bytes = first_result or last_result
    # The result is one value and no more, so that no other id stands behind it.
    if id != (first_id or last_id) or not jsontext.is_json(result) or not jsontext.is_utf8(message):
        return None
    return UsualAnswer(message, result)
