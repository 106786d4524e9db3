"""Questions to a service that says who calls, through a listener of Envoy's that asks it about each request."""

from __future__ import annotations

import asyncio

from mcp_extproc.address import Address
from mcp_extproc.contract import ASKED_HEADER, AUTHENTICATION_UNAVAILABLE, ERROR_HEADER
from mcp_extproc.upstreams.private_listener import BROKEN, http_session


async def is_answered(address: Address, asked: str, path: str, seconds: float) -> bool:
    """Whether it says anything about a request without credentials.

    Args:
        address: of the listener.
        asked: which service, see :data:`mcp_extproc.contract.ASKED_HEADER`.
        path: of the request.
        seconds: until nothing is an answer, too.
    """
    http, base = http_session(address)
    url, of = f"{base}{path}", {ASKED_HEADER: asked}
    try:
        async with http, asyncio.timeout(seconds), http.get(url, headers=of, allow_redirects=False) as response:
            return response.headers.get(ERROR_HEADER) != AUTHENTICATION_UNAVAILABLE
    except (*BROKEN, TimeoutError):
        return False
