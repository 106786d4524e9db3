"""Progress as SDKs write it: notifications that follow each other on a call's stream, recognised in one step.

A server that reports on its work sends hundreds of them, which differ in a few digits and pass as they are. To take each apart
would be most of what such a call costs. What is written otherwise is left to :class:`mcp_extproc.mcp.sse.SseParser` and
:class:`mcp_extproc.gateway.relay.server_messages.Relay`; both ways let the same through.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mcp_extproc.gateway.relay.usual_event import VERSION, usual_event
from mcp_extproc.mcp import jsontext

_STRING: Final = rb'"[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*"'
_INTEGER: Final = rb"-?(?:0|[1-9][0-9]*+)"
_NUMBER: Final = _INTEGER + rb"(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_MEMBER: Final = rb'"(?:progress|total|message)": ?(?:%b|%b|null)' % (_STRING, _NUMBER)
_PARAMS: Final = rb'"params": ?\{(?:%b, ?)*"progressToken": ?%%b(?:, ?%b)*\}' % (_MEMBER, _MEMBER)
_BODY: Final = rb'\{(?:%b, ?)?"method": ?"notifications/progress", ?%b(?:, ?%b)?\}'
_EVENT: Final = usual_event(_BODY % (VERSION, _PARAMS, VERSION))
"""With a place for the token. ``jsonrpc`` comes first or last."""
_RUN: Final = re.compile(_EVENT % (rb"(%b|%b)" % (_STRING, _INTEGER)) + rb"(?:%b)*" % (_EVENT % rb"\1"))
"""All of them name the token of the first one."""
_NAMELESS: Final = (b"event: message\n", b"")
"""The type that an event has without a name. No line of data ends with it."""


class Progress(NamedTuple):
    """Some notifications about one token."""

    down: bytes
    """What the client gets."""
    end: int
    """Where they end."""


def progress_in(chunk: bytes, start: int, end: int, token: bytes) -> Progress | None:
    """The notifications about a token that stand at the beginning of this part of a stream, whole and without anything in
    between; ``None`` where there are none, or any of them is not UTF-8.

    Args:
        chunk: a piece of a stream.
        start: where a block of it begins.
        end: where to stop: so many bytes at most are read at once.
        token: JSON text.
    """
    run = _RUN.match(chunk, start, end)
    if run is None or run[1] != token:
        return None
    down = run[0]
    if not jsontext.is_utf8(down):
        return None
    if b"\r" in down:
        down = down.replace(b"\r\n", b"\n")
    return Progress(down.replace(*_NAMELESS), run.end())
