"""Which responses have to be read on their way, and are not only passed on. The one place that knows.

Event streams always are. JSON is read where something in it could read differently for the client, or carries an id of the
server, where its server is not trusted to answer the request and no other, and where the operator wants it
(``telemetry.answers``).
"""

from __future__ import annotations

from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.mcp import versions
from mcp_extproc.mcp.methods import Handling, Method
from mcp_extproc.mcp.sessions import UpstreamSession


def reads_json(
    method: Method,
    view: ClientView,
    catalog: Catalog,
    server: str,
    session: UpstreamSession,
    *,
    has_resources: bool,
    hides_resources: bool = False,
    reads_all: bool = False,
) -> bool:
    """Whether a response to this method has to be read if it is JSON.

    Args:
        method: of the request.
        view: the client.
        catalog: what it may see.
        server: that responds.
        session: with it.
        has_resources: whether any server of the client's may have resources.
        hides_resources: whether the client may not see all of them.
        reads_all: whether the operator wants to know of each answer whether it is an error.
    """
    return (
        reads_all
        or catalog.entries[server].untrusted
        # Of servers without resources, too, as long as any has some: a link of theirs must not read like another server's.
        or (method.returns_uris and catalog.uris.may_change and has_resources)
        or (hides_resources and (method.has_content or method.handling in (Handling.BY_URI, Handling.BY_REF)))
        or (catalog.several and "elicitation.url" in view.flags)
        or view.version == versions.V_2025_03_26 < session.version
    )


def is_asked_for_plain_text(view: ClientView, session: UpstreamSession, *, reads_json: bool) -> bool:
    """Whether a server is asked not to compress its response, since that is likely to be read. Compressors also hold back
    events. What it compresses all the same is decoded (:mod:`mcp_extproc.mcp.compression`)."""
    # A server without sessions mostly responds with JSON, and may compress that as the client wants.
    return reads_json or session.id is not None or bool(view.flags)
