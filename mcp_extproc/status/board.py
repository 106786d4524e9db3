"""What has come by since somebody looks: the latest calls, and what they add up to. Bounded, as strangers choose the names."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from mcp_extproc.telemetry import seen
from mcp_extproc.telemetry.attributes import known_method
from mcp_extproc.telemetry.exchange import Exchange, Verdict
from mcp_extproc.telemetry.seen import Seen

CALLS: Final = 500
"""Latest calls that are kept."""

SLOT_SECONDS: Final = 2
SLOTS: Final = 60
"""Of a course over time: two minutes."""

_RECENT: Final = 200
"""Latest durations of which there are quantiles."""

_MAX_NAMES: Final = 1000
"""Of tools, of servers, and of sessions: the ones that were there longest ago are forgotten."""
_SESSIONS: Final = 100
"""That are shown."""
_MAX_RULES: Final = 200
_MAX_CHARACTERS: Final = 256
"""Of a text that a stranger wrote."""

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class _Latest(Generic[_K, _V]):
    """Entries by key, of which those that were used last are kept."""

    def __init__(self, most: int, make: Callable[[], _V]) -> None:
        self._most = most
        self._make = make
        self.entries: OrderedDict[_K, _V] = OrderedDict()

    def of(self, key: _K) -> _V:
        """That of a key, which is a new one if there is none."""
        if key not in self.entries:
            self.entries[key] = self._make()
            if len(self.entries) > self._most:
                self.entries.popitem(last=False)
        self.entries.move_to_end(key)
        return self.entries[key]


class _Tools:
    """Tools of all servers. Where there are too many, the server that has most of them loses the one that was called longest
    ago: it lists as many as it likes, and drives out none of others."""

    def __init__(self, most: int, make: Callable[[], Tally]) -> None:
        self._most = most
        self._make = make
        self._count = 0
        self._servers: dict[str, OrderedDict[str, Tally]] = {}

    def has(self, server: str, tool: str) -> bool:
        """Whether it is there."""
        return tool in self._servers.get(server, ())

    def of(self, server: str, tool: str) -> Tally:
        """That of a tool, which is a new one if there is none."""
        tools = self._servers.setdefault(server, OrderedDict())
        if tool not in tools:
            tools[tool] = self._make()
            self._count += 1
            if self._count > self._most:
                max(self._servers.values(), key=len).popitem(last=False)
                self._count -= 1
        tools.move_to_end(tool)
        return tools[tool]

    def latest(self) -> list[tuple[str, str, Tally]]:
        """All of them: server, tool, and what its calls add up to; the one that was called last first."""
        found = [(server, tool, tally) for server, tools in self._servers.items() for tool, tally in tools.items()]
        return sorted(found, key=lambda one: -one[2].last)


class Course:
    """How many there were in each of the last slots of time.

    Args:
        since: from when on that is known, in seconds.
    """

    def __init__(self, since: float) -> None:
        self._slot = int(since // SLOT_SECONDS)
        self._counts: deque[int | None] = deque([None] * (SLOTS - 1) + [0], maxlen=SLOTS)

    def add(self, now: float) -> None:
        """One more, at a time in seconds. One that comes late is in the latest slot."""
        self._turn(now)
        self._counts[-1] = (self._counts[-1] or 0) + 1

    def counts(self, now: float) -> list[int | None]:
        """The earliest first; ``None`` of what was before."""
        self._turn(now)
        return [*self._counts]

    def _turn(self, now: float) -> None:
        slot = int(now // SLOT_SECONDS)
        self._counts.extend([0] * min(max(0, slot - self._slot), SLOTS))
        self._slot = max(slot, self._slot)


class Tally:
    """What calls of one kind add up to.

    Args:
        since: from when on they are known, in seconds since the epoch.
    """

    def __init__(self, since: float) -> None:
        self.calls = 0
        self.errors = 0
        self.denied = 0
        self.last = 0.0
        self.course = Course(since)
        self._durations: deque[int] = deque(maxlen=_RECENT)

    def add(self, exchange: Exchange, nanoseconds: int | None, now: float) -> None:
        """One more.

        Args:
            exchange: the call.
            nanoseconds: how long it took, if that is known.
            now: seconds since the epoch.
        """
        self.calls += 1
        self.denied += exchange.verdict is Verdict.DENY
        self.errors += exchange.verdict is not Verdict.DENY and exchange.error_type is not None
        self.last = now
        self.course.add(now)
        if nanoseconds is not None:
            self._durations.append(nanoseconds)

    def shown(self, now: float) -> dict[str, Any]:
        """For people. Durations in milliseconds, ``None`` where there are none."""
        durations = sorted(self._durations)
        return {
            "calls": self.calls, "errors": self.errors, "denied": self.denied, "last": self.last,
            "p50": _quantile(durations, 0.5), "p95": _quantile(durations, 0.95), "course": self.course.counts(now),
        }  # fmt: skip


class _Session:
    def __init__(self) -> None:
        self.first: float | None = None
        self.exchange: Exchange | None = None
        self.requests = 0
        self.denied = 0
        self.last = 0.0
        self.has_ended = False

    def add(self, exchange: Exchange, now: float) -> None:
        self.first = self.first or now
        self.last = now
        self.exchange = exchange
        self.requests += exchange.is_request
        self.denied += exchange.verdict is Verdict.DENY
        self.has_ended = exchange.http_method == "DELETE" and 200 <= exchange.status < 300


class Board:
    """What has come by.

    Args:
        since: from when on, in seconds since the epoch.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        tally = partial(Tally, since)
        self.total = Tally(since)
        self.number = 0
        """Of the latest call."""
        self._calls: deque[dict[str, Any]] = deque(maxlen=CALLS)
        self._tools = _Tools(_MAX_NAMES, tally)
        self._servers: _Latest[str, Tally] = _Latest(_MAX_NAMES, tally)
        self._methods: _Latest[str, Tally] = _Latest(_MAX_RULES, tally)
        self._denials: _Latest[str, _Denials] = _Latest(_MAX_RULES, _Denials)
        self._sessions: _Latest[str, _Session] = _Latest(_MAX_NAMES, _Session)
        self._seen = Seen(seen.SECONDS)
        """Sessions that have not ended, also those that are shown no longer."""

    def take(self, exchange: Exchange) -> None:
        """One more, once it is over."""
        if exchange.has_another or (exchange.batch is not None and exchange.reason is None):
            return
        now = (exchange.started + exchange.duration) / 1e9
        if exchange.session is not None:
            self._take_session(exchange.session, exchange, now)
        if not _is_shown(exchange):
            return
        self.number += 1
        self._calls.append(call(exchange, self.number))
        if exchange.verdict is Verdict.DENY:
            self._denials.of(_cut(exchange.rule) or "other").add(exchange, now)
        if not exchange.is_request:
            return
        self.total.add(exchange, exchange.duration, now)
        if exchange.method is not None:
            self._methods.of(known_method(exchange.method)).add(exchange, exchange.duration, now)
        if exchange.server is not None:
            self._servers.of(exchange.server).add(exchange, _at_server(exchange), now)
        if exchange.tool is not None and exchange.server is not None:
            tool = (exchange.server, exchange.tool)
            # Names that are made up would drive out others.
            if exchange.listed or exchange.error_type is None or self._tools.has(*tool):
                self._tools.of(*tool).add(exchange, exchange.duration, now)

    def _take_session(self, name: str, exchange: Exchange, now: float) -> None:
        session = self._sessions.of(name)
        session.add(exchange, now)
        if session.has_ended:
            self._seen.leave(name)
        else:
            self._seen.see(name, now)

    def calls_after(self, number: int, most: int) -> list[dict[str, Any]]:
        """The calls after one with a number, the earliest first; of many, the latest."""
        found = [item for item in self._calls if item["n"] > number]
        return found[-most:]

    def of_server(self, name: str, now: float) -> dict[str, Any] | None:
        """What has come by of a server; ``None`` for nothing."""
        tally = self._servers.entries.get(name)
        return None if tally is None else tally.shown(now)

    def shown(self, now: float) -> dict[str, Any]:
        """For people: all but the calls."""
        return {
            "since": self.since,
            "total": self.total.shown(now),
            "tools": [
                {"server": server, "tool": _cut(tool), **tally.shown(now)}
                for server, tool, tally in self._tools.latest()
            ],
            "methods": [{"method": method, **tally.shown(now)} for method, tally in self._methods.entries.items()],
            "denials": [{"rule": rule, **one.shown()} for rule, one in reversed(self._denials.entries.items())],
            "sessions": [_session(*entry) for entry in islice(reversed(self._sessions.entries.items()), _SESSIONS)],
            "sessions_seen": self._seen.count(now),
        }


class _Denials:
    def __init__(self) -> None:
        self._count = 0
        self._last = 0.0
        self._example: dict[str, Any] = {}

    def add(self, exchange: Exchange, now: float) -> None:
        self._count += 1
        self._last = now
        self._example = {
            "method": _cut(exchange.method), "what": _what(exchange), "server": exchange.server,
            "principal": _cut(exchange.principal), "why": _cut(exchange.reason),
        }  # fmt: skip

    def shown(self) -> dict[str, Any]:
        return {"count": self._count, "last": self._last, **self._example}


def _is_shown(exchange: Exchange) -> bool:
    """Not what clients answer to servers, and what browsers ask beforehand."""
    is_session = exchange.http_method in ("GET", "DELETE")
    return exchange.is_request or is_session or exchange.verdict is Verdict.DENY


def call(exchange: Exchange, number: int) -> dict[str, Any]:
    """A call for people.

    Args:
        exchange: the call.
        number: by which it is told from others.
    """
    at_server = _at_server(exchange)
    return {
        "n": number,
        "time": exchange.started / 1e9,
        "http": exchange.http_method,
        "status": exchange.status,
        "method": _cut(exchange.method),
        "what": _what(exchange),
        "server": _cut(exchange.server),
        "endpoint": _cut(exchange.endpoint),
        "ms": exchange.duration / 1e6,
        "server_ms": None if at_server is None else at_server / 1e6,
        "verdict": str(exchange.verdict),
        "rule": _cut(exchange.rule),
        "error": _cut(exchange.error_type),
        "why": _cut(exchange.reason),
        "principal": _cut(exchange.principal),
        "session": _cut(exchange.session),
        "id": _cut(exchange.id),
        "request_id": _cut(exchange.request_id),
        "bytes": exchange.response_bytes,
    }


def _session(name: str, one: _Session) -> dict[str, Any]:
    exchange = one.exchange
    assert exchange is not None
    return {
        "session": _cut(name),
        "principal": _cut(exchange.principal),
        "endpoint": _cut(exchange.endpoint),
        "version": _cut(exchange.protocol_version),
        "first": one.first,
        "last": one.last,
        "requests": one.requests,
        "denied": one.denied,
        "ended": one.has_ended,
    }


def _what(exchange: Exchange) -> str | None:
    """What is asked for: by the server's own name, or as the client wrote it."""
    return _cut(exchange.tool or exchange.prompt or exchange.asked_for or exchange.uri)


def _at_server(exchange: Exchange) -> int | None:
    return None if exchange.upstream is None else exchange.upstream[1] - exchange.upstream[0]


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"


def _quantile(durations: list[int], part: float) -> float | None:
    """Of sorted nanoseconds, in milliseconds."""
    return durations[min(len(durations) - 1, int(part * len(durations)))] / 1e6 if durations else None
