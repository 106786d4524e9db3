"""The run: slices of every system in turn, in many rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.children import Child
from bench.clock import cpu_seconds, proportional_bytes
from bench.errors import BenchError
from bench.logs import compare
from bench.order import rotated, shuffled
from bench.session import open_session
from bench.settled import Slice, WholeRounds
from bench.slices import SERVER, Answer, Kind, Order, Result
from bench.systems import SYSTEMS, Running, Stage, System
from bench.tools import COUNT, ECHO, tool_names
from bench.upstream import Ports, requests_at

REFERENCES = ("plain", "router")

_LARGE = 100_000
"""Size of arguments in characters above which their processing dominates the cost of a call."""


@dataclass(frozen=True, slots=True, order=True)
class Scenario:
    """One kind of load."""

    content: int
    """Characters of padding in the arguments."""
    connections: int
    kind: Kind = "echo"
    result: int = 0
    """Characters of padding in the results."""
    slow: bool = False
    """Whether some systems take long for each request."""

    @property
    def warm_up(self) -> int:
        """Calls of each connection before the measured ones. Few if each takes long."""
        return 10 if self.kind in ("echo", "event") and self.content < _LARGE and not self.slow else 2


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan."""

    systems: tuple[str, ...]
    """Keys of `SYSTEMS`."""
    scenarios: tuple[Scenario, ...]
    seconds: float
    """Length of a slice."""
    rounds: int
    servers: tuple[str, ...]
    """Names of the MCP servers."""
    tools: int
    """Tools of each server."""
    references: tuple[str, ...] = REFERENCES
    """Systems to which the others are compared, if they take part; to the last one in more respects."""
    subject: str = ""
    """What distinguishes its calls from those of other plans, as an ending of "tools/call"."""
    settle: float = 0.0
    """Seconds after the last call until all is done for it. If there are any, CPU is that of whole rounds."""

    before: int = 0
    """Rounds of the same plan in other processes, before these."""

    def parts(self, count: int) -> list[Plan]:
        """So many plans one after the other, or as many as there are rounds, which are this one together."""
        count = min(count, self.rounds)
        ends = [self.rounds * number // count for number in range(count + 1)]
        return [replace(self, rounds=end - start, before=self.before + start) for start, end in pairwise(ends)]

    @property
    def slices(self) -> int:
        """Total number of slices."""
        return self.rounds * len(self.scenarios) * len(self.systems)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process and its descendants (PSS: of a page that n processes share, each has an n-th)."""

    before: int
    """After the handshake, before the first slice."""
    after: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All results."""

    plan: Plan
    results: Mapping[Scenario, Mapping[str, Sequence[Result]]]
    """By scenario and system; results with the same index are from the same round."""
    memory: Mapping[str, Mapping[str, Memory]]
    """By system and process."""

    def requests(self, system: str) -> int:
        """How many it got in all slices together, warm-up included."""
        return sum(made(scenario, each) for scenario, found in self.results.items() for each in found[system])


def joined(plan: Plan, parts: Sequence[Outcome]) -> Outcome:
    """Outcome of a plan whose parts were carried out one after the other. What processes had of memory is of one part, so of
    several there is none."""
    results = {
        scenario: {
            system: [result for part in parts for result in part.results[scenario][system]] for system in plan.systems
        }
        for scenario in plan.scenarios
    }
    return Outcome(plan, results, parts[0].memory if len(parts) == 1 else {})


class Rig:
    """All processes of a run; leaving the context ends them, and raises BenchError if their access logs are not alike.

    Args:
        plan: names the systems.
        directory: for their files.
        envoy: Envoy's binary.
        systems: by the plan's names.
    """

    def __init__(self, plan: Plan, directory: Path, envoy: Path, systems: Mapping[str, System] = SYSTEMS) -> None:
        self._plan = plan
        self._systems = systems
        self._directory = directory
        self._envoy = envoy
        self._children = ExitStack()
        self._running: dict[str, Running] = {}
        self._sessions: dict[str, list[dict[str, str]]] = {}
        self._sent: Counter[str] = Counter()
        self._upstream: Child
        self._client: Child

    def __enter__(self) -> Self:
        with self._children:
            self._start()
            self._children = self._children.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._children.close()
        if error is None:
            for running in self._running.values():
                running.check_told()
            logs = {self._systems[name].title: running.access_log for name, running in self._running.items()}
            compare({title: log for title, log in logs.items() if log is not None})

    def run(self, on_slice: Callable[[int, str], None]) -> Outcome:
        """Runs the plan.

        `on_slice` is called before each slice with the number of finished ones and the next one. Raises BenchError, which
        includes the system, if a response was wrong or missing.
        """
        results: dict[Scenario, dict[str, list[Result]]] = {
            scenario: {system: [] for system in self._plan.systems} for scenario in self._plan.scenarios
        }
        before = self._memory()
        whole = WholeRounds(self._clocks, self._plan.settle) if self._plan.settle else None
        for round_, order in groupby(enumerate(turns(self._plan)), lambda each: each[1][0]):
            found = []
            for done, (_, scenario, system) in order:
                on_slice(done, f"round {round_ + 1}, {self._systems[system].title}")
                found.append((scenario, system, self._slice(scenario, system)))
            slices = [Slice(system, made(scenario, result), result) for scenario, system, result in found]
            settled = [each.result for each in slices] if whole is None else whole.settled(slices)
            for (scenario, system, _), result in zip(found, settled, strict=True):
                results[scenario][system].append(result)
        after = self._memory()
        memory = {
            system: {name: Memory(size, after[system][name]) for name, size in sizes.items()}
            for system, sizes in before.items()
        }
        return Outcome(self._plan, results, memory)

    def _start(self) -> None:
        self._upstream = self._children.enter_context(
            Child.module("bench.upstream", self._directory, str(self._plan.tools))
        )
        self._client = self._children.enter_context(Child.module("bench.load", self._directory))
        self._ports = Ports.parse(self._upstream.read_line())
        stage = Stage(self._children, self._directory, self._envoy, self._ports, self._plan.servers)
        for name in self._plan.systems:
            self._running[name] = self._systems[name].start(stage)
        sessions = max(scenario.connections for scenario in self._plan.scenarios)
        for name, running in self._running.items():
            self._sessions[name] = [self._handshake(name, running) for _ in range(sessions)]

    def _handshake(self, name: str, running: Running) -> dict[str, str]:
        if running.command:
            return {}  # The client does it, with each of its children.
        system = self._systems[name]
        try:
            return open_session(
                running.port,
                system.tools(self._plan.servers, tool_names(self._plan.tools)),
                lambda: self._check(name),
                next(iter(running.credentials), {}),
                has_sessions=system.has_sessions,
            )
        except BenchError as error:
            raise BenchError(f"{system.title}: {error}") from None

    def _check(self, name: str) -> None:
        for child in (self._upstream, *self._running[name].processes.values()):
            child.check()

    def _slice(self, scenario: Scenario, name: str) -> Result:
        running = self._running[name]
        measured = {"upstream": self._upstream, **running.processes}
        order = Order(
            port=running.port,
            command=running.command,
            sessions=tuple(self._sessions[name][: scenario.connections]),
            credentials=rotated(running.credentials, self._sent[name]),
            kind=scenario.kind,
            tools=self._systems[name].tools(self._plan.servers, _called(scenario, self._plan)),
            content=scenario.content,
            result=scenario.result,
            warm_up=scenario.warm_up,
            seconds=self._plan.seconds,
            clocks={process: child.pids() for process, child in measured.items()},
        )
        before = requests_at(self._ports.sessions)
        self._client.write_line(msgspec.json.encode(order))
        answer = msgspec.json.decode(self._client.read_line(), type=Answer)
        if answer.failure is not None:
            self._check(name)  # If a process has ended, that is the better explanation.
            raise BenchError(f"{self._systems[name].title}: {answer.failure.error}")
        assert answer.result is not None
        self._sent[name] += made(scenario, answer.result)
        if SERVER not in answer.result.cpu:  # a server of its own
            reached = requests_at(self._ports.sessions) - before
            check_reached(
                self._systems[name], scenario, made(scenario, answer.result), reached, len(self._plan.servers)
            )
        return answer.result

    def _clocks(self) -> dict[str, dict[str, float]]:
        return {
            system: {name: cpu_seconds(child.pids()) for name, child in running.processes.items()}
            for system, running in self._running.items()
        }

    def _memory(self) -> dict[str, dict[str, int]]:
        return {
            system: {name: proportional_bytes(child.pids()) for name, child in running.processes.items()}
            for system, running in self._running.items()
        }


def made(scenario: Scenario, result: Result) -> int:
    """Number of requests of a slice, warm-up included."""
    return result.calls + scenario.connections * scenario.warm_up


def _called(scenario: Scenario, plan: Plan) -> tuple[str, ...]:
    return {"echo": (ECHO,), "event": (COUNT,), "events": (COUNT,), "list": tool_names(plan.tools)}[scenario.kind]


def check_reached(system: System, scenario: Scenario, sent: int, reached: Mapping[str, int], servers: int) -> None:
    """Raises BenchError unless each call reached a server, and each list all of them, if the system doesn't remember lists.

    Args:
        system: that was measured.
        scenario: its load.
        sent: number of requests of the client.
        reached: number of requests at the servers, by method.
        servers: their number.
    """
    if scenario.kind == "list" and system.remembers_lists:
        return
    method = "tools/list" if scenario.kind == "list" else "tools/call"
    needed = sent * servers if scenario.kind == "list" and system.is_gateway else sent
    if (found := reached.get(method, 0)) < needed:
        raise BenchError(f"{system.title}: {sent} requests, but the servers got {found} {method} instead of {needed}")


def turns(plan: Plan) -> Iterator[tuple[int, Scenario, str]]:
    """All slices in order: round, scenario, system. The systems' order is another one each time."""
    for round_ in range(plan.before, plan.before + plan.rounds):
        for number, scenario in enumerate(plan.scenarios):
            for system in shuffled(plan.systems, round_, number):
                yield round_, scenario, system
