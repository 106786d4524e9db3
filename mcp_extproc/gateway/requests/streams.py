"""GET: the stream of what servers send by themselves, and what is left of a call's stream that broke.

Source: 2025-11-25 basic/transports (Listening for Messages from the Server, Resumability and Redelivery).
"""

from __future__ import annotations

from typing import Any

from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.caller import ClientSession
from mcp_extproc.gateway.decision import RequestHead, Stream
from mcp_extproc.gateway.relay.identifiers import Position
from mcp_extproc.mcp.methods import LIST_CHANGED


def open_stream(session: ClientSession, head: RequestHead, facts: dict[str, Any]) -> Stream:
    """Open a stream for a client.

    Raises:
        McpError: 405, the stream to resume is not there.
    """
    position = _position(session, head)
    method = "" if position is None else position.method
    cursors = {} if position is None else {cursor.server: cursor for cursor in position.cursors}
    servers = session.context.catalog.entries
    if method:
        facts["resumes"] = method
        servers = {name: entry for name, entry in servers.items() if name in cursors}
        if not servers:
            raise refusals.stream("its server is gone")
    return Stream(
        view=session.view,
        relay=session.relay,
        sources=tuple(session.ref(name) for name in servers),
        cursors=cursors,
        method=method,
        expires=session.opened.session.expires,
        refused=replies.reject(refusals.stream("it is over, or its server does not keep it"), facts),
        facts=facts,
        changed=_changed(session),
    )


def _changed(session: ClientSession) -> frozenset[str]:
    """What a client has to list again: its session began under another configuration. Servers that it does not know yet are
    announced when they are reached."""
    known = session.opened.session
    if known.offer in (0, session.context.catalog.checksum):
        return frozenset()
    offered = frozenset().union(*(server.capabilities for server in known.upstreams.values()))
    return offered & frozenset(LIST_CHANGED.values())


def _position(session: ClientSession, head: RequestHead) -> Position | None:
    last = head.headers.get("last-event-id")
    if not last:
        return None
    position = session.context.identifiers.position(session.opened.id, last)
    if position is None:
        # Not 404, which ends sessions, and not a fresh stream, which would hide that messages are lost.
        raise refusals.stream("Last-Event-ID is none of this session's")
    return position
