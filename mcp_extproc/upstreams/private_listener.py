"""Requests to Envoy's private listener, through which all servers are reached. No word of MCP, and of no configuration."""

from __future__ import annotations

import aiohttp

from mcp_extproc import __version__
from mcp_extproc.address import Address, UnixAddress

BROKEN = (aiohttp.ClientError, OSError)
"""What reading a stream may raise."""

_MOST_ATTEMPTS = 10


def http_session(address: Address, connections: int = 0) -> tuple[aiohttp.ClientSession, str]:
    """A session for requests to a listener of Envoy's, and the start of their URLs.

    Args:
        address: of the listener.
        connections: most at a time, above which requests wait for one another; 0 for no bound.
    """
    connector: aiohttp.BaseConnector
    if isinstance(address, UnixAddress):
        connector, base = aiohttp.UnixConnector(address.path, limit=connections), "http://localhost"
    else:
        connector, base = aiohttp.TCPConnector(limit=connections, use_dns_cache=True), f"http://{address}"
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),  # each leg has a deadline of its own
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        skip_auto_headers=("User-Agent",),
        headers={"user-agent": f"mcp-extproc/{__version__}"},
    )
    return session, base


def attempts(replicas: int) -> int:
    """How often to ask until one of some replicas is reached. Envoy chooses one each time; some may be down."""
    return 1 if replicas == 1 else min(2 * replicas, _MOST_ATTEMPTS)
