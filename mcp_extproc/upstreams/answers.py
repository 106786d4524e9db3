"""Answers that the gateway itself gives to servers' requests: queued for each session, since a server may ask without end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.tasks import Tasks

MAX_QUEUED = 64
"""Most answers of one session that wait. A server that waits for each answer before it asks again needs one."""

MAX_QUEUED_BYTES = 64 * 1024
"""Most bytes of these, but for one answer of any size: it repeats the id that the server chose."""

MAX_RUNNING = 4
"""Most requests at a time for one session."""

MAX_RUNNING_PER_SERVER = 32
"""Most requests at a time for all sessions of a server. Each takes a descriptor."""

Send = Callable[[str, UpstreamSession, bytes, RequestContext], Awaitable[None]]
"""Sends one answer. Raises nothing that is expected, and ends in a bounded time."""


class Answers:
    """The queues of a worker. One is there for as long as something is in it.

    Args:
        send: sends one answer.
        tasks: those that send are among them.
    """

    def __init__(self, send: Send, tasks: Tasks) -> None:
        self._send = send
        self._tasks = tasks
        self._queues: dict[tuple[str, str | None], _Queue] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    def put(self, server: str, session: UpstreamSession, body: bytes, context: RequestContext) -> bool:
        """Send an answer, if there is room for it; whether there is."""
        queue = self._queues.get((server, session.id))
        if queue is None:
            queue = self._queues[server, session.id] = _Queue()
        elif not queue.has_room:
            return False
        queue.add(body, context)
        if queue.running < MAX_RUNNING:
            queue.running += 1
            self._tasks.start("answer", self._work_off(server, session, queue), server=server)
        return True

    async def put_when_possible(
        self, server: str, session: UpstreamSession, body: bytes, context: RequestContext
    ) -> None:
        """Send an answer, as soon as there is room for it. The reader of a server's stream reads on after that."""
        while not self.put(server, session, body, context):
            await self._queues[server, session.id].moved.wait()

    async def _work_off(self, server: str, session: UpstreamSession, queue: _Queue) -> None:
        slots = self._slots.setdefault(server, asyncio.Semaphore(MAX_RUNNING_PER_SERVER))
        try:
            while queue.waiting:
                async with slots:
                    if queue.waiting:
                        await self._send(server, session, *queue.take())
        finally:
            queue.running -= 1
            if not queue.running:
                # Also after a failure: what is left would wait for ever. The next answer makes another queue.
                del self._queues[server, session.id]
                queue.clear()


class _Queue:
    """Answers of one session."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, RequestContext]] = deque()
        self.running = 0
        self.moved = asyncio.Event()
        """Set and cleared whenever there is more room."""
        self._size = 0

    @property
    def has_room(self) -> bool:
        return len(self.waiting) < MAX_QUEUED and self._size < MAX_QUEUED_BYTES

    def add(self, body: bytes, context: RequestContext) -> None:
        self.waiting.append((body, context))
        self._size += len(body)

    def take(self) -> tuple[bytes, RequestContext]:
        body, context = self.waiting.popleft()
        self._size -= len(body)
        self._wake()
        return body, context

    def clear(self) -> None:
        self.waiting.clear()
        self._size = 0
        self._wake()

    def _wake(self) -> None:
        self.moved.set()
        self.moved.clear()
