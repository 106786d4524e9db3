"""GET: the stream of what servers send by themselves, and what is left of a call's stream that broke.

Source: 2025-11-25 basic/transports (Listening for Messages from the Server, Resumability and Redelivery).
"""

from __future__ import annotations

from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.relay.identifiers import Position
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.gateway.services import Services


def open_stream(services: Services, caller: Caller, head: RequestHead, facts: RequestFacts) -> Stream | Reply:
    """Open a stream for a client.

    Raises:
        McpError: 405, the event id is none of this session's.
    """
    position = _position(services, caller, head)
    method = "" if position is None else position.method
    cursors = {} if position is None else {cursor.server: cursor for cursor in position.cursors}
    servers = caller.catalog.entries
    if method:
        facts = facts.but(resumes=method)
        servers = {name: entry for name, entry in servers.items() if name in cursors}
        if not servers:
            return replies.reject(refusals.stream("its server is gone"), facts)
    return Stream(
        view=caller.view,
        relay=caller.relay,
        sources=tuple(caller.upstream(name) for name in servers),
        cursors=cursors,
        method=method,
        expires=caller.expires,
        refused=replies.reject(refusals.stream("it is over, or its server does not keep it"), facts),
        crowded=replies.reject(refusals.too_many_streams(), facts),
        facts=facts,
        deadline=max(entry.discovery_timeout for entry in servers.values()) if servers else 0.0,
        context=context_of(head),
        changed=caller.stale_lists,
    )


def _position(services: Services, caller: Caller, head: RequestHead) -> Position | None:
    last = head.headers.get("last-event-id")
    if not last:
        return None
    position = services.identifiers.position(caller.key, last)
    if position is None:
        # Not 404, which ends sessions, and not a fresh stream, which would hide that messages are lost.
        raise refusals.stream("Last-Event-ID is none of this session's")
    return position
