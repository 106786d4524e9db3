"""The body of a response, of whose size nobody can be sure."""

from __future__ import annotations

import aiohttp


async def read_at_most(response: aiohttp.ClientResponse, size: int) -> bytes | None:
    """All of it; ``None`` if it has more bytes than that."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > size:
            return None
    return bytes(body)
