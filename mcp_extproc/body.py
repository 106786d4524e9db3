"""The body of a message, of whose size nobody can be sure."""

from __future__ import annotations

from collections.abc import AsyncIterable


async def read_at_most(pieces: AsyncIterable[bytes], size: int) -> bytes | None:
    """All of it; ``None`` if it has more bytes than that."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > size:
            return None
    return bytes(body)
