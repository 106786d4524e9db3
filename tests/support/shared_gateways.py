"""Gateways that serve one test after another: starting one takes longer than most tests need it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.gateway import TestGateway, client_of, gateway
from tests.support.waiting import eventually

MOST_WAITING = 4
"""Gateways that wait for their next test. Beyond it, the one that has waited longest is stopped."""

IDLE_SECONDS = 10.0
"""Seconds until the last request has left a gateway that is used again."""

_LOOKS = 3
"""At Envoy in a row that show no request, and no new one: what ends may have the gateway tell a server so."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Shared:
    """A running gateway."""

    gateway: TestGateway
    pids: Mapping[str, int]
    running: AsyncExitStack


class SharedGateways:
    """Starts gateways, and keeps them for the next test that asks for the same configuration.

    They run on an event loop of their own, in a thread, as each test has another loop. So that nothing of a test reaches the
    next one, a gateway

    - serves one test at a time;
    - is stopped after a test that failed while it had it, or that ended one of its processes;
    - is used again only once no request is left in Envoy, neither a client's nor one of the gateway itself;
    - shows a test its own entries of the access log.

    Sessions stay apart as those of strangers do. Tests of processes, and of what Envoy or a worker counts or remembers for
    all clients, start a gateway of their own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._waiting: dict[str, _Shared] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="shared gateways")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for shared in self._waiting.values():
                asyncio.run_coroutine_threadsafe(shared.running.aclose(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @asynccontextmanager
    async def start(self, servers: Mapping[str, Any], **options: Any) -> AsyncIterator[TestGateway]:
        """A gateway in front of these servers. Arguments as for :func:`tests.support.gateway.gateway`."""
        wanted = json.dumps([servers, options], default=repr)
        shared = self._waiting.pop(wanted, None)
        if shared is None:
            shared = await self._on_our_loop(self._started(servers, options))
        reusable = False
        try:
            async with client_of(shared.gateway.local, shared.gateway.access_log, since=time.time()) as client:
                yield client
            reusable = await _is_as_before(shared)
        finally:
            # Where a test has two with one configuration, only one of them is kept.
            unwanted = [shared] if not reusable or wanted in self._waiting else self._kept(wanted, shared)
            for gone in unwanted:
                await self._on_our_loop(gone.running.aclose())

    def _kept(self, wanted: str, shared: _Shared) -> list[_Shared]:
        """Keep a gateway. Returns those that are too many now."""
        self._waiting[wanted] = shared
        oldest = list(self._waiting)[:-MOST_WAITING]
        return [self._waiting.pop(name) for name in oldest]

    async def _started(self, servers: Mapping[str, Any], options: Mapping[str, Any]) -> _Shared:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        async with AsyncExitStack() as starting:
            started = await starting.enter_async_context(gateway(folder, servers, **options))
            return _Shared(started, started.local.pids, starting.pop_all())

    async def _on_our_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


def _none_active(stats: list[str]) -> bool:
    return bool(stats) and all(line.endswith(": 0") for line in stats if "rq_active: " in line)


async def _is_as_before(shared: _Shared) -> bool:
    """Whether the same processes run, and nothing is left in them of what was requested."""
    local = shared.gateway.local
    looks: list[list[str]] = []

    async def looked() -> list[list[str]]:
        text = await local.admin("GET", "/stats?filter=rq_(active|total)$")
        looks.append([line for line in (text or "").splitlines() if not line.startswith("http.admin.")])
        return looks[-_LOOKS:]

    def idle(last: list[list[str]]) -> bool:
        return len(last) == _LOOKS and all(look == last[0] and _none_active(look) for look in last)

    try:
        await eventually(looked, "no request is left", until=idle, seconds=IDLE_SECONDS)
    except AssertionError:
        return False
    return local.pids == shared.pids
