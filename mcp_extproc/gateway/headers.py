"""Which of a client's headers reach a server: the few that belong to the exchange, and nothing else.

A list of what passes, not of what is stripped: credentials, cookies, and headers that some gateway or Envoy itself would
obey (``x-envoy-*``, ``x-mcp-*``) are all left out without having to be known.
"""

from __future__ import annotations

from collections.abc import Iterable
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

_OF_ENVOY: Final = ("date", "server", "x-envoy-external-address", "x-envoy-upstream-service-time", "x-forwarded-for")
"""Envoy writes them into nearly all requests, or into responses; some workers are not shown."""

FAMILIES: Final = ("accept-", "ba", "content-", "tr", "us", "x-forw", "x-mcp-s", "x-req")
"""How the names in :data:`PASSED` begin. Behind policies Envoy lets pass what begins so: that is one expression, where whole
names take ten. (Hop-by-hop headers are gone by then, and `host` is a pseudo-header.)"""

STRIPPED: Final = (
    "true-client-ip", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-requested-with",
)  # fmt: skip
"""Names that begin so, are common, and do not pass: Envoy removes them one by one."""

CAPABILITIES: Final = "x-mcp-client-capabilities"
"""What was declared to the server at ``initialize``, for the repair listener, which may have to declare it again. The server
sees it too, and knows it already."""


_KNOWN: Final = PASSED.union(STRIPPED, ("accept",))


def passes_envoy(name: str) -> bool:
    """Whether a client's header that should not get further might do so, where Envoy alone removes headers behind policies.
    The gateway's own are removed in front of them, or overwritten."""
    if name in _KNOWN or name.startswith("x-mcp-"):
        return False
    return name.startswith(FAMILIES) or any(family.startswith(name) for family in FAMILIES)


def left_to_routes(written: Iterable[str]) -> tuple[str, ...]:
    """The headers that Envoy's route to a server removes: that costs it hardly anything, and each that a worker removes 1,500
    instructions. It does so nevertheless where the table of routes does not say that it does, as one that was made by an
    earlier release (:data:`mcp_extproc.contract.ROUTES_REMOVE`).

    Args:
        written: names of headers that are configured for the server.
    """
    ours = {name.lower() for name in written}
    return tuple(name for name in _OF_ENVOY if name not in ours)


_Names = tuple[str, ...]

_removed: Bounded[tuple[_Names, _Names, _Names], _Names] = Bounded(4096, 8 * MIB)


def removed(names: _Names, set_here: _Names, left: _Names) -> _Names:
    """The client's headers that have to go, also those that are not seen; those that are overwritten anyway need not.

    Args:
        names: of the headers that are seen.
        set_here: names of those that are overwritten.
        left: see :func:`left_to_routes`.
    """
    known = _removed.get((names, set_here, left))
    if known is None:
        kept = PASSED.union(set_here, left)
        known = tuple(name for name in dict.fromkeys((*names, *_OF_ENVOY)) if name not in kept)
        _removed.keep((names, set_here, left), known, 512 + sum(64 + len(name) for name in names))
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
