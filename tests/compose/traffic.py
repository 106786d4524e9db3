"""Callers that go on calling, and count what became of every call."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.waiting import eventually

CALL_SECONDS = 60.0
"""After this time without an answer a call is lost: Envoy would have given up before."""

_PAUSE = 0.05
_HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
_INITIALIZE = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "caller", "version": "1"}},
}  # fmt: skip


@dataclass
class Tally:
    """What became of the calls."""

    results: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """JSON-RPC errors, by their message."""
    refused: Counter[int] = field(default_factory=Counter)
    """HTTP errors, by their status."""
    broken: int = 0
    """Event streams that began and broke off: the client's HTTP library says so."""
    lost: Counter[str] = field(default_factory=Counter)
    """Calls that heard nothing, by what happened instead."""
    row: dict[str, int] = field(default_factory=dict)
    """For each caller, how many results it got in a row."""

    def __str__(self) -> str:
        return (
            f"{self.results} results, errors {dict(self.errors)}, HTTP {dict(self.refused)}, "
            f"{self.broken} streams broken, lost {dict(self.lost)}"
        )

    def forget_rows(self) -> None:
        """Start to count results in a row."""
        for name in self.row:
            self.row[name] = 0

    async def all_served(self, times: int, seconds: float) -> float:
        """Wait until every caller got this many results in a row; for how many seconds that took.

        Raises:
            AssertionError: it took longer than ``seconds``.
        """
        self.forget_rows()
        loop = asyncio.get_running_loop()
        start = loop.time()
        await eventually(
            lambda: self.row, f"{times} results in a row for everybody", seconds=seconds,
            until=lambda rows: min(rows.values()) >= times,
        )  # fmt: skip
        return loop.time() - start


class Caller:
    """One client with a session of its own, on plain HTTP: an SDK would hide what happened to a single call."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._session: dict[str, str] = {}
        self._calls = 0

    async def initialize(self) -> None:
        """Open the session."""
        async with self._http.post(self._url, json=_INITIALIZE, headers=_HEADERS) as response:
            assert response.status == 200, await response.text()
            self._session = {"mcp-session-id": response.headers["mcp-session-id"]}
        initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with self._http.post(self._url, json=initialized, headers=_HEADERS | self._session) as response:
            assert response.status == 202, await response.text()

    async def call(self, tool: str, arguments: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        """Call a tool: the HTTP status, and the JSON-RPC answer where the status is 200."""
        self._calls += 1
        body = {"jsonrpc": "2.0", "id": self._calls, "method": "tools/call"}
        body["params"] = {"name": tool, "arguments": arguments}
        async with self._http.post(self._url, json=body, headers=_HEADERS | self._session) as response:
            text = await response.text()
            if response.status != 200:
                return response.status, None
            answer = _message(text)
            assert answer["id"] == self._calls, text
            return 200, answer


def _message(text: str) -> dict[str, Any]:
    """The one message of a body, JSON or an event stream."""
    if not text.startswith("{"):
        [text] = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data: {")]
    message = json.loads(text)
    assert isinstance(message, dict)
    return message


@asynccontextmanager
async def traffic(url: str, calls: dict[str, tuple[str, dict[str, Any]]]) -> AsyncIterator[Tally]:
    """Callers at work.

    Args:
        url: the MCP endpoint.
        calls: for each caller, by a name for it, the tool and its arguments.
    """
    tally = Tally(row=dict.fromkeys(calls, 0))
    stop = asyncio.Event()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)) as http:
        async with asyncio.TaskGroup() as group:
            for name, (tool, arguments) in calls.items():
                caller = Caller(http, url)
                await caller.initialize()
                group.create_task(_go_on(caller, name, tool, arguments, tally, stop))
            try:
                yield tally
            finally:
                stop.set()


async def _go_on(
    caller: Caller, name: str, tool: str, arguments: dict[str, Any], tally: Tally, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        if await _called(caller, tool, arguments, tally):
            tally.row[name] += 1
        else:
            tally.row[name] = 0
        await asyncio.sleep(_PAUSE)


async def _called(caller: Caller, tool: str, arguments: dict[str, Any], tally: Tally) -> bool:
    """Whether a call got a result."""
    try:
        status, answer = await caller.call(tool, arguments)
    except aiohttp.ClientPayloadError:
        tally.broken += 1
        return False
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        tally.lost[type(error).__name__] += 1
        return False
    if answer is None:
        tally.refused[status] += 1
        return False
    if "result" not in answer:
        tally.errors[answer["error"]["message"]] += 1
        return False
    tally.results += 1
    return True
