"""Answers of the gateway's own, and what the operator is told about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcp_extproc.gateway import merge, refusals
from mcp_extproc.gateway.decision import Failed, Headers, Note, Outcome, Reply
from mcp_extproc.mcp import errors
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.sse import SseEvent, render
from mcp_extproc.mcp.transport import JSON, SSE

JSON_TYPE: Headers = (("content-type", JSON),)


def result(
    id: bytes, value: object, facts: Mapping[str, Any], notes: tuple[Note, ...] = (), headers: Headers = ()
) -> Reply:
    """A JSON-RPC result."""
    return Reply(200, merge.result(id, value), (*JSON_TYPE, *headers), facts, notes)


def as_stream(reply: Reply) -> Reply:
    """The same answer as an event stream of one event. Both forms are legal (basic/transports, Sending Messages 5)."""
    headers = tuple((name, value) for name, value in reply.headers if name != "content-type")
    return replace(reply, body=render(SseEvent(reply.body)), headers=(("content-type", SSE), *headers))


def accepted(facts: Mapping[str, Any], notes: tuple[Note, ...] = ()) -> Reply:
    """The answer to notifications and responses: 202 and no body (basic/transports, Sending Messages to the Server 4)."""
    return Reply(202, b"", facts=facts, notes=notes)


def reject(error: McpError, facts: Mapping[str, Any], notes: tuple[Note, ...] = ()) -> Reply:
    """A JSON-RPC error."""
    told = {**facts, "error_code": error.code, "error_reason": error.reason}
    return Reply(error.status, errors.render(error), (*JSON_TYPE, *error.headers), told, notes)


def nobody_answered(outcomes: Sequence[Outcome], id: bytes, facts: Mapping[str, Any]) -> Reply | None:
    """The error where servers were asked and every leg failed; ``None`` where there is something to answer with."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if not failed or len(failed) < len(outcomes):
        return None
    return reject(all_failed(failed).about(id), facts, failure_notes(outcomes))


def all_failed(failed: Sequence[Failed]) -> McpError:
    """The error for a request that no server answered."""
    return refusals.no_answer(merge.summary(failed) or "no server has been asked")


def unavailable_fact(failed: Sequence[Failed]) -> dict[str, str]:
    """The fact that an answer is partial."""
    return {"unavailable": ",".join(f.server for f in failed)} if failed else {}


def failure_notes(outcomes: Sequence[Outcome]) -> tuple[Note, ...]:
    """What the operator is told of legs that failed."""
    return tuple(
        Note("upstream_failed", {"server": f.server, "reason": f.reason, "message": f.message})
        for f in merge.failures(outcomes)
    )
