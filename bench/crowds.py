"""Many sessions of one stdio server: how soon all of them have an answer, and what the bridge and its children take.

In each round, with a gateway of its own, all sessions begin at the same time, make a call, and are called by the load client;
then they end, and the number of children has to be as before. Rounds of `sharing: session` and of `sharing: shared` alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from bench.children import Child, Measured
from bench.clock import proportional_bytes, resident_bytes
from bench.errors import BenchError
from bench.gateway import Gateway, stdio_server, with_bridge
from bench.listeners import Answer as Done
from bench.listeners import Order as Do
from bench.order import alternated
from bench.session import close_session, open_session
from bench.slices import SERVER, Answer, Order, Result
from bench.stats import Quartiles
from bench.systems import envoy_child, free_port, prefixed
from bench.tools import ECHO, tool_names

Sharing = Literal["session", "shared"]
SHARINGS: tuple[Sharing, ...] = get_args(Sharing)

_NAMES = ("s1",)
_WARM_UP = 5
"""Sessions before the first figure, to import code and connect Envoy."""

_CALLS_BEFORE = 3
"""Calls of each session before the measured ones."""

_IDLE = 1
"""Children while there is no session: the one that is kept ready, or the shared one."""

_PATIENCE = 60.0
"""Seconds for children to start or end."""

_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """A plan."""

    sessions: int
    rounds: int
    seconds: float
    """Length of a slice of calls."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of some processes."""

    resident: int
    """RSS; shared pages count for each process."""
    proportional: int
    """PSS; each process has its part of shared pages."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Memory at one moment."""

    bridge: Memory
    children: Memory
    count: int
    """Number of children."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round was like."""

    before: Sizes
    """Without sessions, after some had been there."""
    seconds: float
    """From the first `initialize` until each session has the answer to a call."""
    full: Sizes
    """With all sessions, after their first calls."""
    calls: Result
    """Then: calls of all sessions, each one after the other."""

    def growth(self, sessions: int) -> float:
        """Bytes of the bridge for each session."""
        return (self.full.bridge.resident - self.before.bridge.resident) / sessions


@dataclass(frozen=True, slots=True)
class Crowd:
    """All rounds of one way of sharing."""

    rounds: Sequence[Round]

    def over_rounds(self, figure: Callable[[Round], float]) -> Quartiles:
        """A figure of all of them."""
        return Quartiles.of(map(figure, self.rounds))


@dataclass(frozen=True, slots=True)
class CrowdOutcome:
    """All results."""

    sessions: int
    crowds: Mapping[Sharing, Crowd]


def gather(plan: CrowdPlan, directory: Path, envoy: Path, on_round: Callable[[int], None]) -> CrowdOutcome:
    """Runs the plan. Raises BenchError if a response was wrong or missing, or a child was left."""
    with ExitStack() as children:
        clients = _Clients(
            children.enter_context(Child.module("bench.listeners", directory)),
            children.enter_context(Child.module("bench.load", directory)),
        )
        rounds: dict[Sharing, list[Round]] = {sharing: [] for sharing in SHARINGS}
        for number in range(plan.rounds):
            on_round(number)
            for sharing in alternated(SHARINGS, number):
                with ExitStack() as own:
                    place = directory / f"{sharing}{number}"
                    place.mkdir()
                    rounds[sharing].append(_Rig(sharing, plan, clients, own, place, envoy).round())
        return CrowdOutcome(plan.sessions, {each: Crowd(rounds[each]) for each in SHARINGS})


class _Clients:
    """The processes that are clients."""

    def __init__(self, sessions: Child, load: Child) -> None:
        self._sessions = sessions
        self._load = load

    def do(self, **order: object) -> Done:
        """Raises BenchError if it could not be done."""
        self._sessions.write_line(msgspec.json.encode(msgspec.convert(order, Do)))
        done = msgspec.json.decode(self._sessions.read_line(), type=Done)
        if done.error is not None:
            raise BenchError(done.error)
        return done

    def load(self, order: Order) -> Result:
        """Raises BenchError if a response was wrong or missing."""
        self._load.write_line(msgspec.json.encode(order))
        answer = msgspec.json.decode(self._load.read_line(), type=Answer)
        if answer.failure is not None:
            raise BenchError(answer.failure.error)
        assert answer.result is not None
        return answer.result


class _Rig:
    """One gateway with one stdio server."""

    def __init__(
        self, sharing: Sharing, plan: CrowdPlan, clients: _Clients, children: ExitStack, directory: Path, envoy: Path
    ) -> None:
        self._sharing = sharing
        self._plan = plan
        self._clients = clients
        self._port = free_port()
        self._tools = prefixed(_NAMES, [ECHO])
        gateway = Gateway(directory / "gateway", self._port, {_NAMES[0]: stdio_server(sharing)})
        self._serving = gateway.serve(children)
        self._envoy = children.enter_context(envoy_child(envoy, directory, sharing, gateway.bootstrap()))
        self._processes: dict[str, Measured] = {"envoy": self._envoy, **with_bridge(self._serving)}

    def _warm_up(self) -> Sizes:
        """Opens and ends some sessions. Returns the memory without any."""
        close_session(self._port, open_session(self._port, prefixed(_NAMES, tool_names(2)), self._check))
        self._begin(_WARM_UP)
        self._end()
        return self._sizes()

    def round(self) -> Round:
        """All sessions, from their beginning to their end."""
        before = self._warm_up()
        start = time.perf_counter()
        sessions = self._begin(self._plan.sessions)
        seconds = time.perf_counter() - start
        self._until_children_are(_IDLE + (self._plan.sessions if self._sharing == "session" else 0))
        full = self._sizes()
        calls = self._call(sessions)
        self._end()
        return Round(before, seconds, full, calls)

    def _begin(self, sessions: int) -> tuple[dict[str, str], ...]:
        with self._explained():
            begun = self._clients.do(action="begin", port=self._port, sessions=sessions, at_once=sessions)
            self._clients.do(action="call", port=self._port, tool=self._tools[0], at_once=sessions)
        return begun.sessions

    def _end(self) -> None:
        with self._explained():
            self._clients.do(action="end", port=self._port)
        self._until_children_are(_IDLE)

    def _call(self, sessions: tuple[dict[str, str], ...]) -> Result:
        clocks = {name: processes.pids() for name, processes in self._processes.items()}
        with self._explained():
            return self._clients.load(
                Order(
                    port=self._port, sessions=sessions, kind="echo", tools=self._tools, content=0,
                    warm_up=_CALLS_BEFORE, seconds=self._plan.seconds, clocks=clocks,
                )
            )  # fmt: skip

    def _until_children_are(self, count: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (found := len(self._processes[SERVER].pids())) != count:
            self._check()
            if time.monotonic() > deadline:
                raise BenchError(f"sharing: {self._sharing}: there are {found} children instead of {count}")
            time.sleep(_PAUSE)

    def _sizes(self) -> Sizes:
        children = self._processes[SERVER].pids()
        return Sizes(_memory(self._processes["bridge"].pids()), _memory(children), len(children))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BenchError as error:
            self._check()  # If a process has ended, that is the better explanation.
            raise BenchError(f"sharing: {self._sharing}: {error}") from None

    def _check(self) -> None:
        self._serving.check()
        self._envoy.check()


def _memory(pids: Sequence[int]) -> Memory:
    return Memory(resident_bytes(pids), proportional_bytes(pids))
