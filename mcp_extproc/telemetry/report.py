"""What workers and their supervisor tell the collector: JSON, one message for each write to a socket that keeps them apart.

Counts are what was added since the last message, so that they never go back when a worker dies.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mcp_extproc.telemetry.restarts import RestartCounts
from mcp_extproc.telemetry.spans import Span

MAX_ITEMS: Final = 25
"""Of one kind in a message, which stays well below what a socket takes at once (208 KiB with Linux), with whatever strangers
write into a trace's state: what the socket refused would be lost, and all behind it."""

MAX_BYTES: Final = 256 << 10
"""Of a message."""

Pairs = tuple[tuple[str, str], ...]


class Count(msgspec.Struct, frozen=True, array_like=True):
    """Something was counted: the metric's name, labels, and how often."""

    name: str
    labels: Pairs
    number: int


class Durations(msgspec.Struct, frozen=True, array_like=True):
    """Values of a histogram: its name, labels, how many are in each bucket, their sum, the least and the greatest."""

    name: str
    labels: Pairs
    counts: list[int]
    sum: float
    least: float
    most: float


class Expired(msgspec.Struct, frozen=True, array_like=True):
    """A client's session that ended by itself: its short name, version of the protocol, and how many seconds it lasted."""

    session: str
    version: str | None
    seconds: float


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it is now.

    Attributes:
        at: when that is, Unix time in seconds. It may be told much later.
        started: when it began, the same.
        streams: that clients have open.
        sessions: that began there, and neither ended there nor have expired.
        rss: resident memory in bytes; ``None`` where the system does not say it.
        lag: seconds by which a timer was late.
    """

    at: float
    started: float
    streams: int
    sessions: int
    rss: int | None
    lag: float


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message.

    Attributes:
        pid: process id of the worker; 0 for the supervisor.
        state: of the worker.
        is_last: whether it ends.
        counts, durations, spans, expired: what has been since the last message.
        spans_lost: of those for which there was no room.
        restarts: what the supervisor has counted, all of it.
    """

    pid: int = 0
    state: State | None = None
    is_last: bool = False
    counts: tuple[Count, ...] = ()
    durations: tuple[Durations, ...] = ()
    spans: tuple[Span, ...] = ()
    expired: tuple[Expired, ...] = ()
    spans_lost: int = 0
    restarts: RestartCounts | None = None
