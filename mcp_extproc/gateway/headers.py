"""Which of a client's headers reach a server: the few that belong to the exchange, and nothing else.

A list of what passes, not of what is stripped: credentials, cookies, and headers that some gateway or Envoy itself would
obey (``x-envoy-*``, ``x-mcp-*``) are all left out without having to be known.
"""

from __future__ import annotations

from typing import Final

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.gateway.request import Headers
from mcp_extproc.mcp import versions
from mcp_extproc.mcp.sessions import UpstreamSession

PASSED: Final = frozenset({
    "accept-encoding", "accept-language", "content-encoding", "content-length", "content-type", "host", "user-agent",
    # W3C Trace Context and Baggage
    "traceparent", "tracestate", "baggage",
    # Written by Envoy, which finds no route without the latter. Clients' addresses (x-forwarded-for) stay private.
    "x-request-id", "x-forwarded-proto",
    # Hop-by-hop headers are Envoy's to handle.
    "connection", "transfer-encoding", "te", "expect", "upgrade",
})  # fmt: skip
"""Request headers that a server gets as the client (or Envoy) sent them."""

UNSEEN: Final = ("date", "server", "x-envoy-upstream-service-time")
"""They change from request to request, or belong to responses: Envoy shows workers none of them, and no server gets them."""

CAPABILITIES: Final = "x-mcp-client-capabilities"
"""What was declared to the server at ``initialize``, for the repair listener, which may have to declare it again. The server
sees it too, and knows it already."""


_removed: Bounded[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, ...]] = Bounded(4096, 8 * MIB)


def removed(names: tuple[str, ...], set_here: tuple[str, ...]) -> tuple[str, ...]:
    """The client's headers that have to go, also those that are not seen; those that are overwritten anyway need not."""
    known = _removed.get((names, set_here))
    if known is None:
        kept = PASSED.union(set_here)
        known = tuple(name for name in (*names, *UNSEEN) if name not in kept)
        _removed.keep((names, set_here), known, 512 + sum(64 + len(name) for name in names))
    return known


def of_session(session: UpstreamSession) -> tuple[Headers, tuple[str, ...]]:
    """Headers that carry the gateway's session with a server, and those that must not be there."""
    has_version = versions.defines_version_header(session.version)
    fields = {
        "mcp-session-id": session.id,
        "mcp-protocol-version": session.version if has_version else None,
    }
    return (
        tuple((name, value) for name, value in fields.items() if value is not None),
        tuple(name for name, value in fields.items() if value is None),
    )
