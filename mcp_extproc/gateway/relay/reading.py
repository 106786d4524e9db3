"""Which responses have to be read on their way, and are not only passed on. The one place that knows.

A response is read where something in it could read differently for the client, or carries an id of the server.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.mcp import methods, versions
from mcp_extproc.mcp.methods import Method
from mcp_extproc.mcp.sessions import UpstreamSession

_FORWARDED = tuple(row for row in methods.REQUESTS.values() if row.is_for_one_server)


def reads_json(
    method: Method, view: ClientView, catalog: Catalog, session: UpstreamSession, *, has_resources: bool
) -> bool:
    """Whether a response to this method has to be read if it is JSON.

    Args:
        method: of the request.
        view: the client.
        catalog: what it may see.
        session: with the server that responds.
        has_resources: whether any server of the client's may have resources.
    """
    return (
        # Of servers without resources, too, as long as any has some: a link of theirs must not read like another server's.
        (method.returns_uris and catalog.uris.may_change and has_resources)
        or (catalog.several and "elicitation.url" in view.flags)
        or view.version == versions.V_2025_03_26 < session.version
    )


def reads_events(view: ClientView, session: UpstreamSession) -> bool:
    """Whether a response has to be read if it is an event stream, even where JSON has not."""
    # A server without sessions has no streams that could be resumed, nor can it ask the client for anything.
    return session.id is not None or bool(view.flags)


def may_read(view: ClientView, catalog: Catalog, sessions: Mapping[str, UpstreamSession]) -> bool:
    """Whether some response of some server may have to be read, as far as that is known before the request is.

    Args:
        view: the client.
        catalog: what it may see.
        sessions: by server, as they are known.
    """
    known = [session for server, session in sessions.items() if server in catalog.entries]
    if len(known) < len(catalog.entries):
        return True  # the others are unknown
    has_resources = any("resources" in session.capabilities for session in known)
    return any(
        reads_events(view, session)
        or any(reads_json(row, view, catalog, session, has_resources=has_resources) for row in _FORWARDED)
        for session in known
    )
