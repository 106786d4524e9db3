"""How much is done in one round of the event loop, in which others wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcp_extproc.mcp.sse import SseEvent, SseParser

FLOODS = {
    "comments": b":\n\n" * 3000,
    "blank lines": b"\n" * 6000,
    "junk": b"x\n" * 6000,
    "events": b"retry: 1\n\n" * 3000,
    "notifications": b'data: {"jsonrpc":"2.0","method":"x"}\n\n' * 3000,
}
"""Event streams of at least :data:`LEAST` lines that answer nothing, by what they are full of."""

LEAST = 6000

MOST = 100
"""Lines in one round, of all streams: a few milliseconds' work."""

flooded = pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())


class _Rounds:
    """Of the event loop."""

    def __init__(self) -> None:
        self.number = 0
        self._next()

    def _next(self) -> None:
        self.number += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        self._handle.cancel()


@contextmanager
def lines_parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """The lines of event streams that are parsed in each round."""
    parsed: Counter[int] = Counter()
    rounds, feed = _Rounds(), SseParser.feed

    def counted(parser: SseParser, chunk: bytes) -> Iterator[SseEvent]:
        parsed[rounds.number] += chunk.count(b"\n")
        return feed(parser, chunk)

    monkeypatch.setattr(SseParser, "feed", counted)
    try:
        yield parsed
    finally:
        rounds.stop()
