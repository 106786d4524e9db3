"""The cost of idle clients: memory and CPU of sessions with an open GET stream.

Streams are opened and closed in rounds, in sessions that stay open. Each client stream through Envoy has one stream to each
of two servers behind it.
"""

from __future__ import annotations

import http.client
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.children import Child
from bench.clock import cpu_seconds, proportional_bytes
from bench.errors import BenchError
from bench.gateway import Gateway, http_server
from bench.listeners import Answer, Order
from bench.session import open_session
from bench.systems import envoy_child, free_port, prefixed
from bench.tools import tool_names
from bench.upstream import Ports

SERVERS = ("one", "two")

_FILES_PER_STREAM = 8
"""Sockets of one session in the process with most of them: Envoy, which has both ends of each hop."""

_WARM_UP = 20
"""Sessions before the first figure, to import code and connect Envoy and gRPC."""

_PATIENCE = 30.0
"""Seconds for streams to open or end at the servers."""

_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A plan."""

    streams: int
    """Concurrent sessions."""
    rounds: int
    """How often all streams are opened and closed."""
    idle_seconds: float
    """How long idle streams are measured, in the first round."""
    transport: str
    """Value of `serve --transport`."""


@dataclass(frozen=True, slots=True)
class Round:
    """Bytes (PSS), by process with its descendants."""

    open: Mapping[str, int]
    closed: Mapping[str, int]
    """After all streams have been closed."""


@dataclass(frozen=True, slots=True)
class StreamOutcome:
    """All results."""

    streams: int
    start: Mapping[str, int]
    """Bytes (PSS) before the sessions, by process."""
    before: Mapping[str, int]
    """With all sessions, before their first streams."""
    rounds: Sequence[Round]
    idle_seconds: float
    idle_cpu: Mapping[str, float]
    """Seconds of CPU while all streams were idle, by process."""
    heartbeats: int
    """Received by clients in the meantime."""

    def bytes_per_session(self) -> dict[str, float]:
        """Memory of sessions without streams, by process."""
        return {name: (size - self.start[name]) / self.streams for name, size in self.before.items()}

    def bytes_per_stream(self) -> dict[str, float]:
        """Memory of the first streams, by process. Later ones reuse memory that the process has kept."""
        return {name: (size - self.before[name]) / self.streams for name, size in self.rounds[0].open.items()}

    def idle_cpu_per_stream(self) -> dict[str, float]:
        """CPU seconds per second of one stream, by process."""
        return {name: cpu / self.idle_seconds / self.streams for name, cpu in self.idle_cpu.items()}


def hold(plan: StreamPlan, directory: Path, envoy: Path, on_round: Callable[[int], None]) -> StreamOutcome:
    """Runs the plan. Raises BenchError if a stream did not open, broke, or stayed open at a server."""
    _allow_files(plan.streams * _FILES_PER_STREAM + 1000)
    with ExitStack() as children:
        return _Rig(plan, children, directory, envoy).run(on_round)


class _Rig:
    """All processes of a run."""

    def __init__(self, plan: StreamPlan, children: ExitStack, directory: Path, envoy: Path) -> None:
        self._plan = plan
        self._upstream = children.enter_context(Child.module("bench.upstream", directory))
        self._clients = children.enter_context(Child.module("bench.listeners", directory))
        upstream = Ports.parse(self._upstream.read_line())
        self._upstream_port = upstream.sessions
        self._port = free_port()
        servers = {name: http_server(upstream.sessions) for name in SERVERS}
        gateway = Gateway(directory / "gateway", self._port, servers, plan.transport)
        self._processes = {
            **gateway.start(children),
            "envoy": children.enter_context(envoy_child(envoy, directory, "gateway", gateway.bootstrap())),
        }
        open_session(self._port, prefixed(SERVERS, tool_names(2)), self._check)

    def run(self, on_round: Callable[[int], None]) -> StreamOutcome:
        plan = self._plan
        self._warm_up()
        start = self._memory()
        self._order("begin", plan.streams)
        before = self._memory()
        rounds: list[Round] = []
        idle_cpu: dict[str, float] = {}
        heartbeats = 0
        for number in range(plan.rounds):
            on_round(number)
            self._listen(plan.streams)
            if not rounds:
                idle_cpu, heartbeats = self._idle()
            opened = self._memory()
            self._hang_up()
            rounds.append(Round(opened, self._memory()))
        self._order("end")
        return StreamOutcome(plan.streams, start, before, rounds, plan.idle_seconds, idle_cpu, heartbeats)

    def _warm_up(self) -> None:
        self._order("begin", _WARM_UP)
        self._listen(_WARM_UP)
        self._hang_up()
        self._order("end")

    def _idle(self) -> tuple[dict[str, float], int]:
        self._order("count")
        pids = {name: child.pids() for name, child in self._processes.items()}
        cpu = {name: cpu_seconds(pids[name]) for name in pids}
        time.sleep(self._plan.idle_seconds)
        cpu = {name: cpu_seconds(pids[name]) - used for name, used in cpu.items()}
        return cpu, self._order("count").heartbeats

    def _listen(self, streams: int) -> None:
        self._order("listen")
        self._until_servers_have(streams * len(SERVERS))

    def _hang_up(self) -> None:
        self._order("hang_up")
        self._until_servers_have(0)

    def _order(self, action: str, sessions: int = 0) -> Answer:
        order = {"action": action, "port": self._port, "sessions": sessions}
        self._clients.write_line(msgspec.json.encode(msgspec.convert(order, Order)))
        answer = msgspec.json.decode(self._clients.read_line(), type=Answer)
        if answer.error is not None:
            self._check()  # If a process has ended, that is the better explanation.
            raise BenchError(f"streams: {answer.error}")
        return answer

    def _until_servers_have(self, streams: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (found := self._streams_at_servers()) != streams:
            self._check()
            if time.monotonic() > deadline:
                raise BenchError(f"the servers have {found} open streams instead of {streams}")
            time.sleep(_PAUSE)

    def _streams_at_servers(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._upstream_port, timeout=_PATIENCE)
        try:
            connection.request("GET", "/streams")
            return int(connection.getresponse().read())
        finally:
            connection.close()

    def _memory(self) -> dict[str, int]:
        return {name: proportional_bytes(child.pids()) for name, child in self._processes.items()}

    def _check(self) -> None:
        for child in (self._upstream, self._clients, *self._processes.values()):
            child.check()


def _allow_files(count: int) -> None:
    """Allows processes that are started from now on to open this many files. Raises BenchError if the system does not
    allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchError(
            f"so many streams need {count} open files in one process, and the hard limit is {hard}: "
            "raise it (ulimit -Hn), or measure fewer with --streams"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
