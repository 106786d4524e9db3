"""What is done to a gateway under load, and what calls may get for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.load import CUT_OFF, SESSIONS, Load
from tests.chaos.stage import WORKERS, Stage
from tests.support.waiting import eventually

GATEWAY_ERROR = "HTTP 503, -32603"
"""No worker decided about the call: it reached no server."""
NO_DECISION = "HTTP 504, -32603"
"""The call waited for as long as Envoy does: for a worker that decides nothing, or for the successor of one that ended."""
SERVER_ERROR = "HTTP 200, -32603"
"""The call was forwarded, and its server gave no answer that is one. Or the worker that should read the answer is gone."""
WORKER_ERRORS = frozenset({GATEWAY_ERROR, SERVER_ERROR, CUT_OFF})
"""Of a worker that ends: before it decided, before the head of the answer, in an event stream that it reads."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: for people.
        happens: does it, and returns once the fault itself is over. Given the load, for those that wait for calls.
        errors: that calls may get; none by default.
        spares: a server whose calls must all be answered.
    """

    name: str
    happens: Callable[[Stage, Load], Awaitable[None]]
    errors: frozenset[str] = frozenset()
    spares: str | None = None


async def _kill_a_worker(stage: Stage, _: Load) -> None:
    os.kill(stage.workers[0], signal.SIGKILL)


async def _kill_all_workers(stage: Stage, _: Load) -> None:
    for pid in stage.workers:
        os.kill(pid, signal.SIGKILL)


async def _freeze_a_worker(stage: Stage, load: Load) -> None:
    """It stays frozen while the others take over."""
    os.kill(stage.workers[0], signal.SIGSTOP)
    await load.until_well()


async def _kill_a_server(stage: Stage, _: Load) -> None:
    """Its sessions are gone with it."""
    alpha = stage.servers["alpha"]
    await alpha.end(signal.SIGKILL)
    await asyncio.sleep(1.0)
    await alpha.start()


async def _freeze_a_server(stage: Stage, load: Load) -> None:
    """Until calls of all sessions have failed."""
    alpha, failed = stage.servers["alpha"], load.of["alpha"].failed
    alpha.send(signal.SIGSTOP)
    await eventually(failed.total, "calls of all sessions fail", until=lambda seen: seen >= SESSIONS)
    alpha.send(signal.SIGCONT)


async def _answer_garbage(stage: Stage, _: Load) -> None:
    alpha = stage.servers["alpha"]
    await alpha.end(signal.SIGKILL)
    await alpha.start([sys.executable, "-m", "tests.chaos.garbage", str(alpha.port)])
    await asyncio.sleep(2.0)
    await alpha.end(signal.SIGKILL)
    await alpha.start()


async def _restart_envoy(stage: Stage, _: Load) -> None:
    await stage.replace_envoy()


async def _reload(stage: Stage, load: Load) -> None:
    """A server is added, and taken away again."""
    for servers in ({"gamma": f"http://127.0.0.1:{stage.servers['beta'].port}/mcp"}, {}):
        before = set(stage.workers)
        stage.rewrite(**servers)
        await _replaced(stage, before)
        await load.until_well()


async def _replaced(stage: Stage, before: set[int]) -> None:
    await eventually(lambda: set(stage.workers) - before, "new workers", until=lambda new: len(new) >= WORKERS)


FAULTS = (
    Fault("kill -9 of a worker", _kill_a_worker, WORKER_ERRORS | {NO_DECISION}),
    Fault("kill -9 of all workers", _kill_all_workers, WORKER_ERRORS | {NO_DECISION}),
    Fault("a worker is frozen (SIGSTOP)", _freeze_a_worker, WORKER_ERRORS | {NO_DECISION}),
    Fault("kill -9 of a server", _kill_a_server, frozenset({SERVER_ERROR, CUT_OFF}), spares="beta"),
    Fault("a server is frozen (SIGSTOP)", _freeze_a_server, frozenset({SERVER_ERROR, CUT_OFF}), spares="beta"),
    Fault("a server answers garbage", _answer_garbage, frozenset({SERVER_ERROR, CUT_OFF}), spares="beta"),
    Fault("Envoy is restarted (hot restart)", _restart_envoy),
    Fault("the configuration is reloaded", _reload),
)
