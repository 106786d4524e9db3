"""What this gateway is to reach, and which of it a run shows it to miss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.blocks import cells
from bench.report import added, added_us, compared
from bench.rounds import Outcome, Plan, Scenario
from bench.rules import RulesCost
from bench.start import Start
from bench.stats import Estimate
from bench.streams import StreamOutcome

KIB = 1024

MORE_US = "more_us"
"""Microseconds of CPU per call above another system's."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a figure may be, or, with `at_least`, how small."""

    must: float
    aim: float
    at_least: bool = False

    def verdict(self, value: Estimate, least: Estimate | None = None) -> str:
        """What a measured value reaches, undecided about a bound that lies in its interval; and of a must that is missed,
        whether the prototype reaches it, of which `least` is the same figure."""
        must = self._reached(value, self.must)
        if must is None:
            return "undecided"
        if not must:
            return f"{_MISSED}{'' if least is None else _LEAST[self._reached(least, self.must)]}"
        return {None: "must reached, aim undecided", True: "aim reached", False: "must reached"}[
            self._reached(value, self.aim)
        ]

    def _reached(self, value: Estimate, bound: float) -> bool | None:
        """``None`` if that is undecided."""
        if value.low < bound < value.high:
            return None
        return value.middle >= bound if self.at_least else value.middle <= bound

    def row(self, what: str, unit: str, value: Estimate, least: Estimate | None = None) -> tuple[str, ...]:
        """Of the table."""
        sign = "≥" if self.at_least else "≤"
        alone = "" if least is None else str(least)
        bounds = f"{sign} {self.must:g}", f"{sign} {self.aim:g}"
        return (what, unit, *bounds, str(value), alone, self.verdict(value, least))


_MISSED = "**missed**"
_LEAST = {False: "; (p) misses it, too", None: "; (p): undecided", True: "; (p) reaches it"}
"""Of the prototype, by whether it reaches a must."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of one system under one load, relative to another system's."""

    what: str
    section: str
    """A key of `bench.sections.plans`."""
    scenario: Scenario
    figure: str
    """One of `bench.report.FIGURES`, or `MORE_US`."""
    bounds: Bounds
    system: str = "gateway"
    against: str = "router"
    unit: str = "x (c)"
    above: str = ""
    """A system whose CPU is subtracted first: then the figure is the share of CPU that a system adds, and `figure` has no
    meaning."""

    like_above: str = ""
    """Another system that is like the one in `above`."""

    like_against: str = ""
    """Another system that is like the one in `against`."""

    prototype: str = ""
    """The least that a worker behind ext_proc can do under this load, if there is a system that does it."""

    @property
    def systems(self) -> set[str]:
        """That have to be measured for it."""
        named = {self.system, self.against, self.above, self.like_above, self.like_against, self.prototype}
        return named - {""}

    def value(self, outcomes: Mapping[str, Outcome]) -> Estimate | None:
        """The measured value, if there is one."""
        return self._value(self.system, outcomes)

    def least(self, outcomes: Mapping[str, Outcome]) -> Estimate | None:
        """That of the prototype, if it was measured."""
        return self._value(self.prototype, outcomes) if self.prototype else None

    def _value(self, system: str, outcomes: Mapping[str, Outcome]) -> Estimate | None:
        results = outcomes[self.section].results.get(self.scenario, {}) if self.section in outcomes else {}
        if not {system, self.against, self.above or system} <= results.keys():
            return None
        if self.above:
            alike = [results[name] for name in (self.above, self.like_above) if name in results]
            return added(results[system], alike, results[self.against])
        bases = [results[name] for name in (self.against, self.like_against) if name in results]
        if self.figure == MORE_US:
            return added_us(results[system], bases)
        return compared(self.figure, results[system], bases)


def _small(logged: str, section: str, suffix: str) -> tuple[Goal, ...]:
    def goal(count: int, what: str, figure: str, bounds: Bounds) -> Goal:
        text = f"small calls, {count} connection{'s' if count > 1 else ''}, {logged}: {what}"
        systems = f"gateway{suffix}", f"router{suffix}"
        return Goal(text, section, Scenario(0, count), figure, bounds, *systems, prototype=f"floor{suffix}")

    return (
        goal(16, "CPU", "cpu", Bounds(2.1, 1.8)),
        goal(16, "calls/s", "calls", Bounds(0.55, 0.65, True)),
        goal(1, "p50", "p50", Bounds(2.0, 1.7)),
    )


def _events(servers: str, system: str, hundred: Bounds) -> tuple[Goal, ...]:
    def goal(what: str, scenario: Scenario, figure: str, bounds: Bounds) -> Goal:
        return Goal(what, "events", scenario, figure, bounds, system, prototype=f"floor-{system}")

    return (
        goal(f"one event, {servers}: CPU", Scenario(0, 16, "event"), "cpu", Bounds(2.8, 2.3)),
        goal(f"one event, {servers}: p50", Scenario(0, 1, "event"), "p50", Bounds(2.8, 2.3)),
        goal(f"100 events, {servers}: CPU", Scenario(0, 16, "events"), "cpu", hundred),
    )


def _large(what: str, scenario: Scenario, bounds: Bounds) -> Goal:
    return Goal(f"{what}: CPU", "large", scenario, "cpu", bounds, prototype="floor")


GOALS = (
    *_small("with access logs", "logged", "-logged"),
    *_small("without", "calls", ""),
    *_events("servers with sessions", "events", Bounds(3.18, 3.0)),
    *_events("servers without", "stateless", Bounds(1.55, 1.4)),
    _large("64 KiB of arguments, 4 connections", Scenario(65_536, 4), Bounds(1.2, 0.8)),
    _large("64 KiB of arguments, 16 connections", Scenario(65_536, 16), Bounds(0.9, 0.8)),
    _large("64 KiB of results", Scenario(0, 16, result=65_536), Bounds(1.0, 0.6)),
    _large("1 MiB of results", Scenario(0, 16, result=1_048_576), Bounds(1.0, 0.6)),
    Goal("lists of 3 servers: CPU", "lists of 3", Scenario(0, 1, "list"), "cpu", Bounds(1.2, 0.75)),
    Goal(
        "a policy on metadata: CPU", "policy", Scenario(0, 16), "cpu", Bounds(1.15, 1.05),
        "policy", "gateway", "x without", like_against="again",
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
        "metrics: CPU", "telemetry", Scenario(0, 16), "", Bounds(0.25, 0.2), "metrics",
        unit="x (c) more", above="quiet", like_above="quiet-again",
    ),
    Goal(
        "metrics, traces of all and the audit: CPU", "telemetry", Scenario(0, 16), "", Bounds(0.5, 0.4), "telling",
        unit="x (c) more", above="quiet", like_above="quiet-again",
    ),
)  # fmt: skip
"""Of loads."""

OTHERS = ("streams", "start", "rules")
"""Sections of other goals, which consist of no loads."""

SESSION, STREAM = Bounds(7.0, 3.5), Bounds(205.0, 102.5)
"""KiB of an idle session and of its open stream, Envoy and the worker: not more than they were when goals were set (31fc1a6),
and half of it. Measured in another way, these were 1.8 and 97 KiB then."""

START = {1: (Bounds(3.0, 2.0), Bounds(70.0, 50.0)), 2: (Bounds(3.0, 2.0), Bounds(95.0, 65.0))}
"""By number of workers: multiples of `bench.start.IMPORTS`, and MB of the Python processes."""

UNDER_RULES, LISTED = Bounds(2.0, 2.0), Bounds(1.1, 1.1)

IDLE_SESSION, IDLE_STREAM = "an idle session", "its open stream"
RULED_CALL, RULED_LIST = "a call under 20 rules without conditions", "a list of 1,000 tools under 20 rules"

HEADINGS = ("goal", "unit", "must", "aim", "measured", "(p) alone", "")


def needed(plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Of these the loads and systems that goals are about."""
    found = {}
    for name, plan in plans.items():
        own = [goal for goal in GOALS if goal.section == name]
        systems = set().union(*(goal.systems for goal in own))
        loads = {goal.scenario for goal in own}
        if own:
            found[name] = replace(
                plan,
                systems=tuple(each for each in plan.systems if each in systems),
                scenarios=tuple(each for each in plan.scenarios if each in loads),
            )
    return found


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
    headings = (*HEADINGS, "run")
    found = {row[0]: row for row in _rows(old, headings)} | {row[0]: (*row, run) for row in rows}
    return table([found[name] for name in _names() if name in found], headings)


def _rows(table: str, headings: Sequence[str]) -> Iterator[Sequence[str]]:
    """Of a table, whose columns may have been others."""
    first, *lines = table.splitlines() or [""]
    for line in lines[1:]:
        row = dict(zip(cells(first), cells(line), strict=True))
        yield [row.get(heading, "") for heading in headings]


def _names() -> Iterator[str]:
    """Of all goals, in the order of the table."""
    yield from (goal.what for goal in GOALS)
    yield from (each for workers in START for each in (_start_of(workers), _memory_of(workers)))
    yield from (IDLE_SESSION, IDLE_STREAM, RULED_CALL, RULED_LIST)


def _of_loads(outcomes: Mapping[str, Outcome]) -> Iterator[tuple[str, ...]]:
    for goal in GOALS:
        if (value := goal.value(outcomes)) is not None:
            yield goal.bounds.row(goal.what, goal.unit, value, goal.least(outcomes))


def _of_starts(starts: Sequence[Start]) -> Iterator[tuple[str, ...]]:
    for start in starts:
        seconds, memory = START[start.workers]
        yield seconds.row(_start_of(start.workers), "x imports", Estimate.of(start.multiples))
        yield memory.row(_memory_of(start.workers), "MB (PSS)", Estimate.of(start.megabytes))


def _start_of(workers: int) -> str:
    return f"start of `run` with {_counted(workers)}"


def _memory_of(workers: int) -> str:
    return f"memory of `run` with {_counted(workers)}"


def _counted(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _of_rules(ruled: RulesCost) -> Iterator[tuple[str, ...]]:
    yield UNDER_RULES.row(RULED_CALL, "µs more", Estimate.of(ruled.calls))
    yield LISTED.row(RULED_LIST, "x without", Estimate.of(ruled.lists))


def _of_streams(held: Sequence[StreamOutcome]) -> Iterator[tuple[str, ...]]:
    sessions = Estimate.of(sum(each.bytes_per_session().values()) / KIB for each in held)
    streams = Estimate.of(sum(each.bytes_per_stream().values()) / KIB for each in held)
    yield SESSION.row(IDLE_SESSION, "KiB", sessions)
    yield STREAM.row(IDLE_STREAM, "KiB", streams)
