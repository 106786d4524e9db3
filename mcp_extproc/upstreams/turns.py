"""Turns of the event loop: how much of what servers send is worked on before everybody else has had his turn."""

from __future__ import annotations

import asyncio
from collections import deque

_BYTES = 64 * 1024
"""In one turn; about a millisecond's work."""

_LEAST_BYTES = 2 * 1024
"""What an event costs however short it is."""


class Turns:
    """Of all streams together: a thousand that are busy hold calls up no longer than one."""

    def __init__(self) -> None:
        self._left = _BYTES
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._is_renewing = False

    async def take(self, size: int) -> None:
        """Wait until there is time to work on so many bytes. First come, first served."""
        size = max(size, _LEAST_BYTES)
        loop = asyncio.get_running_loop()
        if not self._is_renewing:
            self._is_renewing = True
            loop.call_soon(self._renew)
        if self._left > 0 and not self._waiting:
            self._left -= size
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((size, turn))
        await turn

    def _renew(self) -> None:
        self._left = _BYTES
        while self._waiting and self._left > 0:
            size, turn = self._waiting.popleft()
            if not turn.done():  # whoever waited may be gone
                turn.set_result(None)
                self._left -= size
        self._is_renewing = bool(self._waiting) or self._left < _BYTES
        if self._is_renewing:
            asyncio.get_running_loop().call_soon(self._renew)
