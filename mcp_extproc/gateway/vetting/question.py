"""The question to the user, and what an answer to it is worth (2025-06-18 and 2025-11-25 client/elicitation)."""

from __future__ import annotations

import enum
from typing import Final

import orjson

from mcp_extproc.gateway.vetting import shown
from mcp_extproc.mcp import jsontext, methods
from mcp_extproc.mcp.envelope import Response, is_error

_INTRODUCTION: Final = (
    "This call waits for your consent. The gateway asks, not the server. What is in quotes was written by the caller."
)
_NO_FORM: Final = {"type": "object", "properties": {}}
"""There is nothing to fill in."""


class Verdict(enum.Enum):
    """What became of a question. The values are those of the fact ``consent``."""

    GIVEN = "given"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INVALID = "invalid"
    WITHDRAWN = "withdrawn"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    BUSY = "busy"


def elicitation(id: str, server: str, tool: str, arguments: bytes | None) -> bytes:
    """The request that asks the user.

    Args:
        id: of the request.
        server: where the tool is.
        tool: the server's own name for it.
        arguments: JSON text of the call's; ``None`` where it has none.
    """
    message = f"{_INTRODUCTION}\n{shown.call(server, tool, arguments)}"
    params = {"message": message, "requestedSchema": _NO_FORM}
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "method": methods.ELICITATION.name, "params": params})


def withdrawal(id: str, why: str) -> bytes:
    """Tells the client that the question is none any more (basic/utilities/cancellation)."""
    params = {"requestId": id, "reason": why}
    return orjson.dumps({"jsonrpc": "2.0", "method": methods.CANCELLED.name, "params": params})


def verdict(answer: Response) -> Verdict:
    """What a client's answer says. Only a plain ``accept`` is consent."""
    if is_error(answer.members):
        return Verdict.FAILED
    result = jsontext.object_in(answer.members, "result")
    if result is None or not jsontext.is_unambiguous(bytes(answer.members["result"]), result):
        return Verdict.INVALID
    return _ACTIONS.get(jsontext.text_in(result, "action") or "", Verdict.INVALID)


_ACTIONS: Final = {"accept": Verdict.GIVEN, "decline": Verdict.DECLINED, "cancel": Verdict.CANCELLED}
