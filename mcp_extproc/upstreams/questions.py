"""Questions to a service that says who calls, through a listener of Envoy's that asks it about each request."""

from __future__ import annotations

import asyncio

from mcp_extproc.address import Address
from mcp_extproc.contract import AUTHENTICATION_UNAVAILABLE, ERROR_HEADER
from mcp_extproc.upstreams.private_listener import BROKEN, http_session


async def is_answered(address: Address, path: str, seconds: float) -> bool:
    """Whether it says anything about a request without credentials.

    Args:
        address: of the listener.
        path: of the request.
        seconds: until nothing is an answer, too.
    """
    http, base = http_session(address)
    try:
        async with http, asyncio.timeout(seconds), http.get(f"{base}{path}", allow_redirects=False) as response:
            return response.headers.get(ERROR_HEADER) != AUTHENTICATION_UNAVAILABLE
    except (*BROKEN, TimeoutError):
        return False
