"""GET: the stream of what servers send by themselves, and what is left of a call's stream that broke.

Source: 2025-11-25 basic/transports (Listening for Messages from the Server, Resumability and Redelivery).
"""

from __future__ import annotations

from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.identifiers import Position
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.gateway.services import Services


def open_stream(services: Services, caller: Caller, head: RequestHead, facts: RequestFacts) -> Stream | Reply:
    """Open a stream for a client.

    Raises:
        McpError: 405, the event id is none of this session's.
    """
    position = _resumed(services, caller, head)
    facts = _described(facts, caller, position)
    if not preview.is_target_as_judged(head, facts.server):
        return replies.reject(refusals.stream("it is not the one that policies judged"), facts)
    method = "" if position is None else position.method
    cursors = {} if position is None else {cursor.server: cursor for cursor in position.cursors}
    servers = caller.catalog.entries
    if method:
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
        context=context_of(head, None, caller.carried, caller.catalog.subject(head)),
        changed=caller.stale_lists,
        id=position.id if position is not None and position.id else None,
    )


def described(services: Services, caller: Caller, head: RequestHead, facts: RequestFacts) -> RequestFacts:
    """The facts of a GET, with what it resumes. One that will be refused has none of it."""
    return _described(facts, caller, _position(services, caller, head))


def _described(facts: RequestFacts, caller: Caller, position: Position | None) -> RequestFacts:
    if position is None or not position.method:
        return facts
    servers = (cursor.server for cursor in position.cursors)
    return facts.but(
        resumes=position.method, server=next((name for name in servers if name in caller.catalog.entries), None)
    )


def _position(services: Services, caller: Caller, head: RequestHead) -> Position | None:
    last = head.headers.get("last-event-id")
    return services.identifiers.position(caller.key, last) if last else None


def _resumed(services: Services, caller: Caller, head: RequestHead) -> Position | None:
    position = _position(services, caller, head)
    if position is None and head.headers.get("last-event-id"):
        # Not 404, which ends sessions, and not a fresh stream, which would hide that messages are lost.
        raise refusals.stream("Last-Event-ID is none of this session's")
    return position
