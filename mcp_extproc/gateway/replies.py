"""Answers of the gateway's own, and notes about them for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mcp_extproc.gateway import merge, refusals
from mcp_extproc.gateway.decision import Reply
from mcp_extproc.gateway.facts import Note, RequestFacts
from mcp_extproc.gateway.legs import NO_ROOM, STARTING, Failed, Outcome
from mcp_extproc.gateway.request import Headers
from mcp_extproc.mcp import envelope, errors
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.sse import SseEvent, render
from mcp_extproc.mcp.transport import JSON, SSE

JSON_TYPE: Headers = (("content-type", JSON),)


def result(id: bytes, value: object, facts: RequestFacts, notes: tuple[Note, ...] = (), headers: Headers = ()) -> Reply:
    """A JSON-RPC result."""
    return Reply(200, envelope.result(id, value), (*JSON_TYPE, *headers), facts, notes)


def as_stream(reply: Reply, before: Sequence[bytes] = ()) -> Reply:
    """The same answer as an event stream, with other messages before it. Both forms are legal (basic/transports, Sending
    Messages 5)."""
    headers = tuple((name, value) for name, value in reply.headers if name != "content-type")
    body = b"".join(render(SseEvent(message)) for message in (*before, reply.body))
    return replace(reply, body=body, headers=(("content-type", SSE), *headers))


def accepted(facts: RequestFacts, notes: tuple[Note, ...] = ()) -> Reply:
    """The answer to notifications and responses: 202 and no body (basic/transports, Sending Messages to the Server 4)."""
    return Reply(202, b"", facts=facts, notes=notes)


def reject(error: McpError, facts: RequestFacts, notes: tuple[Note, ...] = ()) -> Reply:
    """A JSON-RPC error."""
    facts = facts.but(error=(error.code, error.reason))
    return Reply(error.status, errors.render(error), (*JSON_TYPE, *error.headers), facts, notes)


def nobody_answered(outcomes: Sequence[Outcome], id: bytes, facts: RequestFacts) -> Reply | None:
    """The error where servers were asked and every leg failed; ``None`` where there is something to answer with."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if not failed or len(failed) < len(outcomes):
        return None
    return reject(all_failed(failed).about(id), facts, failure_notes(outcomes))


def is_starting(outcomes: Sequence[Outcome]) -> bool:
    """Whether a server joins the session by itself, before long. Until then there is less of everything, which is no error."""
    return any(isinstance(outcome, Failed) and outcome.reason == STARTING for outcome in outcomes)


def all_failed(failed: Sequence[Failed]) -> McpError:
    """The error for a request that no server answered."""
    if failed and all(f.reason == NO_ROOM for f in failed):
        return refusals.busy("no server's answer was read")
    if len(failed) == 1 and (challenge := failed[0].challenge) is not None:
        return refusals.challenged(merge.summary(failed), challenge.status, challenge.www_authenticate)
    return refusals.no_answer(merge.summary(failed) or "no server has been asked")


def names_of(failed: Sequence[Failed]) -> tuple[str, ...]:
    """The servers that are missing from an answer."""
    return tuple(f.server for f in failed)


def failure_notes(outcomes: Sequence[Outcome]) -> tuple[Note, ...]:
    """Notes for the operator about legs that failed."""
    return tuple(
        Note("upstream_failed", {"server": f.server, "reason": f.reason, "message": f.message})
        for f in merge.failures(outcomes)
    )
