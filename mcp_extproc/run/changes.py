"""When a configuration is to be read again."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from mcp_extproc.config import Source

POLL_SECONDS = 1.0
"""Seconds between two checks of the source. A change is reported once the source is the same in two checks: a half-written
file can be valid."""


class Changes:
    """The changes of a source, and requests to read it.

    Args:
        source: of the configuration.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._asked = asyncio.Event()
        self._before: Hashable = None
        self._handled: Hashable = None
        """Nothing at first: it may have changed since it was read."""

    def ask(self) -> None:
        """Have :meth:`next` return, whether there is a change or not."""
        self._asked.set()

    async def next(self) -> bool:
        """Wait for a change, or until asked. Returns whether it was asked."""
        while True:
            asked = await self._asked_within(POLL_SECONDS)
            now = self._source.signature()
            steady, self._before = now == self._before, now
            if asked or (steady and now != self._handled):
                self._handled = now
                return asked

    async def _asked_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True
