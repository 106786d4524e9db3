"""What a server's answer says of the call, for the access log: Envoy sees a 200 in any case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from mcp_extproc.contract import SERVER_ERROR, TOOL_ERROR
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.envelope import messages_in
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import TooManyMembers
from mcp_extproc.mcp.sse import EventTooLarge, SseParser

ANSWERED: Final[Mapping[str, str]] = {"flags": "-"}
"""From here on the client has its answer, and may leave before its stream ends."""

CREDENTIALS_REFUSED: Final = "credentials_refused"
"""The server answered 401 or 403."""

CREDENTIALS_UNAVAILABLE: Final = "credentials_unavailable"
"""It was not asked: there are none for it."""

_IS_ERROR = re.compile(rb'"isError"\s*:\s*true')
_ENDS_BOTH = b'rror"'
"""Both names of members that tell of an error: nearly all answers have none of them, or one that says there is none."""

ErrorCode = Annotated[int, msgspec.Meta(gt=-(10**15), lt=10**15)]
"""Of a JSON-RPC error. From there on Envoy writes a number of its metadata into a log with an exponent (1e+15), which is no
integer for who reads it."""

code_of: Final = msgspec.json.Decoder(ErrorCode).decode
"""Reads one from JSON text; raises ``msgspec.DecodeError``."""


def outcome_of(down: bytes, *, is_stream: bool) -> Mapping[str, str | int]:
    """Facts of a call whose answer is in these bytes.

    Args:
        down: what the client gets: a JSON answer, or a piece of an event stream that ends with an event.
        is_stream: which one.
    """
    at = down.find(_ENDS_BOTH)
    first = at - 4 if at > 4 else 0  # `"isE`, or as much as there is
    if at < 0 or (down.find(b'"error"', first) < 0 and _IS_ERROR.search(down, first) is None):
        return ANSWERED
    for members in _answers(down, is_stream=is_stream):
        if "error" in members and "result" not in members:
            return {**ANSWERED, "error_reason": SERVER_ERROR, **_error_code(members["error"])}
        result = jsontext.object_of(members.get("result") or b"")
        if result is not None and bytes(result.get("isError") or b"") == b"true":
            return {**ANSWERED, "error_reason": TOOL_ERROR}
    return ANSWERED


def failure(error: McpError) -> Mapping[str, str | int]:
    """Facts of a call for which the client gets an error of the gateway's."""
    return {"error_reason": error.reason, "error_code": error.code}


def _answers(down: bytes, *, is_stream: bool) -> Iterable[jsontext.Members]:
    try:
        texts = [event.data for event in SseParser(len(down) + 1).feed(down)] if is_stream else [down]
        for text in texts:
            for message in messages_in(text) if text else ():
                members = jsontext.split(message)
                if "method" not in members:
                    yield members
    except (EventTooLarge, TypeError, TooManyMembers, jsontext.NotJson):
        return  # what can't be read says nothing here


def _error_code(error: msgspec.Raw) -> Mapping[str, int]:
    members = jsontext.object_of(error) or {}
    try:
        return {"error_code": code_of(members.get("code") or b"")}
    except msgspec.DecodeError:
        return {}
