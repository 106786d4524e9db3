"""A steady load of calls, and what became of each."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.gateway import Answer, TestClient
from tests.support.waiting import PATIENCE, eventually

SESSIONS = 8
SERVERS = ("alpha", "beta")

CUT_OFF = "an event stream that breaks"
"""It began, and the server said no more for too long, or the worker that reads it is gone. Clients see that it is not
complete, and can ask for the rest."""

_PAUSE = 0.02
"""Seconds between a session's calls."""

_IN_A_ROW = 6
"""Calls of each session answered one after the other: then all is well again. They go to each server in turn."""


@dataclass
class Outcomes:
    """What became of the calls to one server."""

    answered: int = 0
    seconds: list[float] = field(default_factory=list)
    """How long each answered call took."""
    failed: Counter[str] = field(default_factory=Counter)
    """By error."""
    refused: int = 0
    """Nobody listened: nothing was sent."""
    lost: list[str] = field(default_factory=list)
    """No answer, half of one, or somebody else's."""


class Load:
    """Sessions that call one server after the other."""

    def __init__(self, client: TestClient, sessions: list[str], servers: Sequence[str] = SERVERS) -> None:
        self.of = {server: Outcomes() for server in servers}
        self.last_failure = 0.0
        """Monotonic time in seconds; 0 where there was none."""
        self._client = client
        self._sessions = sessions
        self._numbers = itertools.count(1)
        self._in_a_row = dict.fromkeys(sessions, 0)
        self._stopping = False

    @property
    def lost(self) -> list[str]:
        """Of all servers."""
        return [why for outcomes in self.of.values() for why in outcomes.lost]

    @property
    def refused(self) -> int:
        """Of all servers."""
        return sum(outcomes.refused for outcomes in self.of.values())

    @property
    def answered(self) -> int:
        """Of all servers."""
        return sum(outcomes.answered for outcomes in self.of.values())

    @property
    def failed(self) -> Counter[str]:
        """Of all servers."""
        return sum((outcomes.failed for outcomes in self.of.values()), Counter())

    @property
    def seconds(self) -> list[float]:
        """How long the answered calls took, of all servers; those since :meth:`forget_seconds`."""
        return [seconds for outcomes in self.of.values() for seconds in outcomes.seconds]

    def forget_seconds(self) -> None:
        """Measure from now on."""
        for outcomes in self.of.values():
            outcomes.seconds.clear()

    async def run(self) -> None:
        """Call until told to stop."""
        await asyncio.gather(*(self._calls(session) for session in self._sessions))

    def stop(self) -> None:
        """No more calls; those under way are waited for."""
        self._stopping = True

    async def until_well(self) -> None:
        """Until each session had several calls in a row answered, from now on. One that waits in vain does so for PATIENCE."""
        self._in_a_row = dict.fromkeys(self._sessions, 0)
        await eventually(
            lambda: self._in_a_row, "calls are answered in a row", seconds=2 * PATIENCE,
            until=lambda rows: min(rows.values()) >= _IN_A_ROW,
        )  # fmt: skip

    async def _calls(self, session: str) -> None:
        for server in itertools.cycle(self.of):
            if self._stopping:
                return
            if await self._call(session, server):
                self._in_a_row[session] += 1
            else:
                self._in_a_row[session] = 0
                self.last_failure = time.monotonic()
            await asyncio.sleep(_PAUSE)

    async def _call(self, session: str, server: str) -> bool:
        number, outcomes, began = next(self._numbers), self.of[server], time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._client.call(session, f"{server}__add", {"a": number, "b": 0}, id=number)
        except aiohttp.ClientConnectorError:
            outcomes.refused += 1
            return False
        except aiohttp.ClientPayloadError:
            outcomes.failed[CUT_OFF] += 1
            return False
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcomes.lost.append(f"{type(error).__name__}: {error}")
            return False
        message = message_in(answer)
        if message is None and answer.status != 200:
            outcomes.failed[f"HTTP {answer.status}"] += 1
        elif message is not None and "error" in message and message.get("id", number) == number:
            outcomes.failed[f"HTTP {answer.status}, {message['error']['code']}"] += 1
        elif message is not None and message["result"]["content"][0]["text"] == f"{server}: {number}":
            outcomes.answered += 1
            outcomes.seconds.append(time.perf_counter() - began)
            return True
        else:
            outcomes.lost.append(f"HTTP {answer.status}: {answer.body[:200]!r}")
        return False


def message_in(answer: Answer) -> dict[str, Any] | None:
    """The JSON-RPC response in an answer, the last message of an event stream; ``None`` where there is none."""
    body = answer.body
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        data = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and line[5:].strip()]
        body = data[-1] if data else b""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message if isinstance(message, dict) and ("error" in message or "result" in message) else None


@asynccontextmanager
async def load(client: TestClient, sessions: int = SESSIONS, servers: Sequence[str] = SERVERS) -> AsyncIterator[Load]:
    """Calls that go on for the time of the block."""
    calls = Load(client, [await client.initialize() for _ in range(sessions)], servers)
    async with asyncio.TaskGroup() as group:
        group.create_task(calls.run())
        try:
            await calls.until_well()
            yield calls
        finally:
            calls.stop()
