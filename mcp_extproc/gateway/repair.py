"""Requests that Envoy sends once more, because the server answered as if it did not know its session."""

from __future__ import annotations

from dataclasses import replace

from mcp_extproc.config import Server
from mcp_extproc.contract import FAILURE_HEADER, REPLICA_MARK
from mcp_extproc.gateway import headers, replies
from mcp_extproc.gateway.decision import Decision, Forward, ForwardPlan, NeedSession, Reply
from mcp_extproc.gateway.facts import Note, RequestFacts
from mcp_extproc.gateway.legs import Failed, SessionRef
from mcp_extproc.gateway.request import RequestContext, RequestHead
from mcp_extproc.mcp import capabilities, jsontext, versions
from mcp_extproc.mcp.sessions import UpstreamSession

_UNREACHABLE = ((FAILURE_HEADER, "NoHealthyUpstream"),)
"""In Envoy's words, as on all answers that come from no server."""


def repair(configured: Server | None, server: str, head: RequestHead, context: RequestContext) -> Decision:
    """A forwarded request came back from Envoy.

    Envoy retries such a request at its private listener ``mcp_repair``. The server is initialized again, and the request
    goes there once more with the new session; nothing else of it changes, and its body never visits us.

    Where retries are configured, it may also be that no connection could be made. Then the session is looked at first.

    Args:
        configured: the server; ``None`` where it is not served any more.
        server: whose request it is, as Envoy's route is named.
        head: with the headers that :class:`Forward` had set.
        context: for what is done for its sake.
    """
    facts = RequestFacts(server=server, repair=True)
    lost = head.headers.get("mcp-session-id")
    if configured is None:
        # It was removed after a worker that is gone now had sent the request there.
        return _failed(Failed(server, "removed", "is not served any more"), facts)
    doubtful = configured.safe_retries is not None
    if head.headers.get("x-envoy-attempt-count", "1") == "1" or (lost is None and not doubtful):
        # Not a retry: Envoy found no other endpoint of the server to send the request to.
        return _failed(Failed(server, "connect", "is down"), facts)
    if lost is None:
        return Forward(ForwardPlan(server, (), (), facts), b"")
    version = head.headers.get("mcp-protocol-version", versions.V_2025_03_26)
    ref = SessionRef(server, lost, None, version, _declared(head, version))

    def resume(session: UpstreamSession | Failed) -> Decision:
        if isinstance(session, Failed):
            return _failed(session, facts, replies.failure_notes([session]))
        set_headers, gone = headers.of_session(session)
        return Forward(ForwardPlan(server, set_headers, gone, facts), b"")

    if configured.sticky_sessions and REPLICA_MARK not in lost:
        # From before sessions were sticky. The replica that is asked might be the one that knows it, and the next one not.
        doubtful = False
    return NeedSession(ref, lost, resume, configured.discovery_timeout, context, doubtful)


def _failed(failed: Failed, facts: RequestFacts, notes: tuple[Note, ...] = ()) -> Reply:
    """Why the request did not go there once more, as a server would say it in an answer with such a status: so the client gets
    these words, under the request's id, which is not known here."""
    reply = replies.reject(replies.all_failed([failed]), facts, notes)
    return replace(reply, status=503, headers=(*reply.headers, *_UNREACHABLE))


def _declared(head: RequestHead, version: str) -> capabilities.Flags:
    """What the client can be asked for, as the forwarded request has it in a header of ours."""
    declared = jsontext.object_of(head.headers.get(headers.CAPABILITIES, "{}").encode())
    return frozenset() if declared is None else capabilities.client_flags(declared, version)
