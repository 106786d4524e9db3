"""Sessions with servers that nobody can use any more, as the client's token has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.request import NO_CONTEXT
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.upstreams.fan_out import LegRunner

LOOK_SECONDS = 10.0
"""Time between two looks for sessions that have expired."""

GRACE_SECONDS = 300.0
"""Time for calls that were under way when the token expired."""

_AT_A_TIME = 16
"""Most sessions that are ended at a time: thousands may have begun in one minute."""


class Expiry:
    """Ends the sessions with servers of the clients' sessions that began here and have expired.

    Args:
        legs: end them.
        memory: knows them.
        clock: Unix time in seconds.
        lifetime: of a client's session, in seconds.
        observer: is told of those that have expired.
    """

    def __init__(
        self,
        legs: LegRunner,
        memory: SessionMemory,
        clock: Callable[[], float],
        lifetime: float,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._legs = legs
        self._memory = memory
        self._clock = clock
        self._lifetime = lifetime
        self._observer = observer
        self._tasks = Tasks(log.logger("upstreams"))

    def start(self) -> None:
        """Look for them from now on."""
        self._tasks.keep("end_expired_sessions", self._run)

    async def close(self) -> None:
        """Look no longer."""
        await self._tasks.close()

    async def _run(self) -> None:
        while True:
            self._memory.forget_finished(self._clock())
            expired = self._memory.expired(self._clock() - GRACE_SECONDS)
            for each in expired:
                self._observer.expired(each.name, each.version, self._lifetime)
            left = [upstream for each in expired for upstream in each.upstreams]
            for start in range(0, len(left), _AT_A_TIME):
                async with asyncio.TaskGroup() as group:
                    for server, session in left[start : start + _AT_A_TIME]:
                        # Without credentials of its client, which nobody keeps.
                        group.create_task(self._legs.end(server, session, NO_CONTEXT))
            await asyncio.sleep(LOOK_SECONDS)
