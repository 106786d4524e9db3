"""Names that processes agree on: Envoy's configuration and the workers, ``run`` and its workers."""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "mcp_proxy"
"""Namespace of the dynamic metadata: the first one of Envoy's own MCP filter, so policies written for it work unchanged."""

REPAIR_ROUTE: Final = "mcp_repair/"
"""Start of the names of the repair listener's routes; the rest is the server's name."""

SERVER_HEADER: Final = "x-mcp-server"
"""Names the server of a request, for Envoy's rate limits and the private listener's routes. No server gets it."""

FAILURE_HEADER: Final = "x-mcp-upstream-failure"
"""Put by the private listener on answers of Envoy's own: what went wrong, such as ``UpstreamConnectionFailure``."""

MAX_MESSAGE_TIMEOUT: Final = 3600.0
"""Most seconds that a worker may ask Envoy to wait for one answer."""

SECRET_VARIABLE: Final = "MCP_EXTPROC_SESSION_SECRET"  # noqa: S105 - the variable's name
"""Environment variable that carries a random session secret from ``run`` to its workers, restarted ones too."""
