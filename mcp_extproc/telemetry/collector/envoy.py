"""The Envoy that sends the records, as its admin interface knows it: its own metrics, and how many records it has made.

What is missing of them is lost: Envoy counts those for which it had no room, but not those that went to a process that was
ended before it had read them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.received import Received

SECONDS: Final = 3.0
"""For its answer."""

SETTLED_SECONDS: Final = 1.5
"""After which a record is here, or lost: three times what Envoy holds one back."""

_COUNT = re.compile(
    r"^envoy_access_logs_grpc_access_log_logs_(written|dropped)(?:_total)?(?:\{[^}]*\})? (\d+)$", re.MULTILINE
)

_LOG = log.logger("collector")


class Envoy:
    """Envoy, and what it has to do with :class:`Received`.

    Args:
        admin: path of the socket of its admin interface.
        received: what has come.
        clock: seconds.
    """

    def __init__(self, admin: str, received: Received, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self._received = received
        self._clock = clock
        self._before: tuple[float, int] | None = None
        self._other = 0
        """Records of an Envoy that ran before."""
        self._missing = 0
        """Records that were missing when it was last looked."""
        self.lost: int | None = None
        """Records that were lost; ``None`` until that is known."""

    async def metrics(self) -> str:
        """Its metrics, as text for Prometheus; empty where it does not answer."""
        try:
            async with (
                asyncio.timeout(SECONDS),
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(self._admin)) as session,
                session.get("http://envoy/stats/prometheus?usedonly") as response,
            ):
                response.raise_for_status()
                text = await response.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.event(_LOG, logging.WARNING, "envoy_not_scraped", {"why": type(error).__name__})
            return ""
        self.count(text)
        return text

    def count(self, text: str) -> None:
        """Find out what is lost, by metrics of Envoy's."""
        found = {name: int(number) for name, number in _COUNT.findall(text)}
        written, now = found.get("written", 0), self._clock()
        if self._before is None or now - self._before[0] >= SETTLED_SECONDS:
            if self._before is not None:
                if written < self._before[1]:
                    self._other = max(0, self._received.number - written)
                else:
                    missing = max(0, self._before[1] - (self._received.number - self._other))
                    # What a collector that was held up has still to read is missing once, and not twice.
                    lost = min(missing, self._missing) + found.get("dropped", 0)
                    self.lost, self._missing = max(self.lost or 0, lost), missing
            self._before = now, written
