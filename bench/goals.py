"""What this gateway is to reach, and which of it a run shows it to miss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench.report import added, added_us, figures
from bench.rounds import Outcome, Scenario
from bench.rules import RulesCost
from bench.start import Start
from bench.stats import Estimate, Quartiles
from bench.streams import StreamOutcome

KIB = 1024

Value = Quartiles | Estimate


MORE_US = "more_us"
"""Microseconds of CPU per call above another system's."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a figure may be, or, with `at_least`, how small."""

    must: float
    aim: float
    at_least: bool = False

    def verdict(self, value: Value) -> str:
        """What a measured value reaches; undecided about a bound that lies between its quartiles, or in the interval of an
        estimate."""
        if value.low < self.must < value.high:
            return "undecided"
        if not self._holds(value.middle, self.must):
            return "**missed**"
        if value.low < self.aim < value.high:
            return "must reached, aim undecided"
        return "aim reached" if self._holds(value.middle, self.aim) else "must reached"

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound

    def row(self, what: str, unit: str, value: Value) -> tuple[str, ...]:
        """Of the table."""
        sign = "≥" if self.at_least else "≤"
        return (what, unit, f"{sign} {self.must:g}", f"{sign} {self.aim:g}", str(value), self.verdict(value))


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of one system under one load, relative to another system's."""

    what: str
    section: str
    """A key of `bench.sections.plans`."""
    scenario: Scenario
    figure: str
    """An attribute of `Comparison`, or `MORE_US`."""
    bounds: Bounds
    system: str = "gateway"
    against: str = "router"
    unit: str = "x (c)"
    above: str = ""
    """A system whose CPU is subtracted first: then the figure is the share of CPU that a system adds, and `figure` has no
    meaning."""

    like_against: str = ""
    """Another system that is like the one in `against`."""

    def value(self, outcomes: Mapping[str, Outcome]) -> Value | None:
        """The measured value, if there is one."""
        results = outcomes[self.section].results.get(self.scenario, {}) if self.section in outcomes else {}
        if not {self.system, self.against, self.above or self.system} <= results.keys():
            return None
        if self.above:
            return added(results[self.system], results[self.above], results[self.against])
        if self.figure == MORE_US:
            alike = dict.fromkeys((self.against, self.like_against))
            return added_us(results[self.system], [results[name] for name in alike if name in results])
        compared = figures(results, (self.against,))[self.system].ratios[self.against]
        value: Quartiles = attrgetter(self.figure)(compared)
        return value


def _small(logged: str, section: str, suffix: str) -> tuple[Goal, ...]:
    systems = f"gateway{suffix}", f"router{suffix}"
    busy, alone = Scenario(0, 16), Scenario(0, 1)
    return (
        Goal(f"small calls, 16 connections, {logged}: CPU", section, busy, "cpu", Bounds(2.1, 1.8), *systems),
        Goal(f"small calls, 16 connections, {logged}: calls/s", section, busy, "calls", Bounds(0.55, 0.65, True), *systems),
        Goal(f"small calls, 1 connection, {logged}: p50", section, alone, "p50", Bounds(2.0, 1.7), *systems),
    )  # fmt: skip


def _one_event(servers: str, system: str) -> tuple[Goal, ...]:
    busy, alone = Scenario(0, 16, "event"), Scenario(0, 1, "event")
    return (
        Goal(f"one event, {servers}: CPU", "events", busy, "cpu", Bounds(2.8, 2.3), system),
        Goal(f"one event, {servers}: p50", "events", alone, "p50", Bounds(2.8, 2.3), system),
    )


_EVENTS = Scenario(0, 16, "events")

GOALS = (
    *_small("with access logs", "logged", "-logged"),
    *_small("without", "calls", ""),
    *_one_event("servers with sessions", "events"),
    *_one_event("servers without", "stateless"),
    Goal("100 events, servers with sessions: CPU", "events", _EVENTS, "cpu", Bounds(3.18, 3.0), "events"),
    Goal("100 events, servers without: CPU", "events", _EVENTS, "cpu", Bounds(1.55, 1.4), "stateless"),
    Goal("64 KiB of arguments, 4 connections: CPU", "large", Scenario(65_536, 4), "cpu", Bounds(1.2, 0.8)),
    Goal("64 KiB of arguments, 16 connections: CPU", "calls", Scenario(65_536, 16), "cpu", Bounds(0.9, 0.8)),
    Goal("64 KiB of results: CPU", "large", Scenario(0, 16, result=65_536), "cpu", Bounds(1.0, 0.6)),
    Goal("1 MiB of results: CPU", "large", Scenario(0, 16, result=1_048_576), "cpu", Bounds(1.0, 0.6)),
    Goal("lists of 3 servers: CPU", "lists of 3", Scenario(0, 1, "list"), "cpu", Bounds(1.2, 0.75)),
    Goal(
        "a policy on metadata: CPU", "policy", Scenario(0, 16), "cpu", Bounds(1.15, 1.05),
        "policy", "gateway", "x without",
    ),
    Goal(
        "an access token, used again: CPU", "authentication", Scenario(0, 16), MORE_US, Bounds(25, 15),
        "token", "gateway", "µs above none", like_against="again",
    ),
    Goal(
        "the token with API keys, too: CPU", "authentication", Scenario(0, 16), MORE_US, Bounds(30, 15),
        "methods", "token", "µs above it",
    ),
    Goal(
        "metrics: CPU", "telemetry", Scenario(0, 16), "", Bounds(0.25, 0.2), "metrics", unit="x (c) more", above="quiet"
    ),
    Goal(
        "metrics, traces of all and the audit: CPU", "telemetry", Scenario(0, 16), "", Bounds(0.5, 0.4), "telling",
        unit="x (c) more", above="quiet",
    ),
)  # fmt: skip
"""Of loads."""

SESSION, STREAM = Bounds(1.8, 0.9), Bounds(97.0, 48.5)
"""KiB of an idle session and of its open stream: Envoy and the worker."""

START = {1: (Bounds(3.0, 2.0), Bounds(70.0, 50.0)), 2: (Bounds(3.0, 2.0), Bounds(95.0, 65.0))}
"""By number of workers: multiples of `bench.start.IMPORTS`, and MB of the Python processes."""

UNDER_RULES, LISTED = Bounds(2.0, 2.0), Bounds(1.1, 1.1)

IDLE_SESSION, IDLE_STREAM = "an idle session", "its open stream"
RULED_CALL, RULED_LIST = "a call under 20 rules without conditions", "a list of 1,000 tools under 20 rules"

HEADINGS = ("goal", "unit", "must", "aim", "measured", "")


def rows(
    outcomes: Mapping[str, Outcome],
    held: Sequence[StreamOutcome] = (),
    starts: Sequence[Start] = (),
    ruled: RulesCost | None = None,
) -> list[tuple[str, ...]]:
    """A row for each goal whose figure was measured."""
    of_rules = () if ruled is None else _of_rules(ruled)
    return [*_of_loads(outcomes), *_of_starts(starts), *(_of_streams(held) if held else ()), *of_rules]


def table(rows: Sequence[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """As Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))


def renewed(old: str, rows: Sequence[Sequence[str]], run: str) -> str:
    """A table of these rows, and of those of an older one that are about other goals of today's. Each row names its run."""
    found = {row[0]: row for row in map(_cells, old.splitlines()[2:])} | {row[0]: (*row, run) for row in rows}
    return table([found[name] for name in _names() if name in found], (*HEADINGS, "run"))


def _cells(line: str) -> Sequence[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _names() -> Iterator[str]:
    """Of all goals, in the order of the table."""
    yield from (goal.what for goal in GOALS)
    yield from (each for workers in START for each in (_start_of(workers), _memory_of(workers)))
    yield from (IDLE_SESSION, IDLE_STREAM, RULED_CALL, RULED_LIST)


def _of_loads(outcomes: Mapping[str, Outcome]) -> Iterator[tuple[str, ...]]:
    for goal in GOALS:
        if (value := goal.value(outcomes)) is not None:
            yield goal.bounds.row(goal.what, goal.unit, value)


def _of_starts(starts: Sequence[Start]) -> Iterator[tuple[str, ...]]:
    for start in starts:
        seconds, memory = START[start.workers]
        yield seconds.row(_start_of(start.workers), "x imports", Quartiles.of(start.multiples))
        yield memory.row(_memory_of(start.workers), "MB (PSS)", Quartiles.of(start.megabytes))


def _start_of(workers: int) -> str:
    return f"start of `run` with {_counted(workers)}"


def _memory_of(workers: int) -> str:
    return f"memory of `run` with {_counted(workers)}"


def _counted(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _of_rules(ruled: RulesCost) -> Iterator[tuple[str, ...]]:
    yield UNDER_RULES.row(RULED_CALL, "µs more", Quartiles.of(ruled.calls))
    yield LISTED.row(RULED_LIST, "x without", Quartiles.of(ruled.lists))


def _of_streams(held: Sequence[StreamOutcome]) -> Iterator[tuple[str, ...]]:
    sessions = Quartiles.of(sum(each.bytes_per_session().values()) / KIB for each in held)
    streams = Quartiles.of(sum(each.bytes_per_stream().values()) / KIB for each in held)
    yield SESSION.row(IDLE_SESSION, "KiB", sessions)
    yield STREAM.row(IDLE_STREAM, "KiB", streams)
