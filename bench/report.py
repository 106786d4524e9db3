"""Results to figures, and figures to tables and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.crowds import CrowdOutcome
from bench.rounds import REFERENCES, Outcome, Plan, Scenario
from bench.slices import Result
from bench.stats import Estimate, Quartiles, ratios
from bench.streams import StreamOutcome
from bench.systems import SYSTEMS
from bench.tools import EVENTS

UNCOUNTED = "upstream"
"""The process that is not included, because it is the same for all."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system relative to another, round by round."""

    calls: Quartiles
    """Calls per second: above 1 is faster."""
    p50: Quartiles
    """Median latency: below 1 is faster."""
    cpu: Quartiles
    """CPU per call, all processes of the system together: below 1 is cheaper."""
    workers: Quartiles
    """CPU per call of the workers alone, relative to all of the other system's."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One system under one load, over the rounds."""

    calls_per_second: Quartiles
    p50_ms: Quartiles
    p99_ms: Quartiles | None
    """If every slice had enough calls for one."""
    cpu_us: Mapping[str, Quartiles]
    """CPU per call in microseconds, by process."""
    upstream_cpu_us: Quartiles
    client_cpu_us: Quartiles
    fewest_calls: int
    """Of a slice."""
    ratios: Mapping[str, Comparison]
    """By reference system."""


def figures(results: Mapping[str, Sequence[Result]], references: Sequence[str] = REFERENCES) -> dict[str, Figures]:
    """The figures of all systems under one load."""
    bases = {name: results[name] for name in references if name in results}
    return {system: _figures(own, bases) for system, own in results.items()}


def _figures(own: Sequence[Result], bases: Mapping[str, Sequence[Result]]) -> Figures:
    return Figures(
        calls_per_second=Quartiles.of(map(_rate, own)),
        p50_ms=Quartiles.of(result.p50 * 1e3 for result in own),
        p99_ms=_p99_ms([result.p99 for result in own]),
        cpu_us={name: _cpu_us([result.cpu[name] for result in own], own) for name in own[0].cpu if name != UNCOUNTED},
        upstream_cpu_us=_cpu_us([result.cpu[UNCOUNTED] for result in own], own),
        client_cpu_us=_cpu_us([result.client_cpu for result in own], own),
        fewest_calls=min(result.calls for result in own),
        ratios={name: _compare(own, base) for name, base in bases.items()},
    )


def _p99_ms(slices: Sequence[float | None]) -> Quartiles | None:
    known = [each * 1e3 for each in slices if each is not None]
    return Quartiles.of(known) if len(known) == len(slices) else None


def _compare(own: Sequence[Result], reference: Sequence[Result]) -> Comparison:
    costs = [*map(_cost, reference)]
    compared = {name: ratios([*map(of, own)], [*map(of, reference)]) for name, of in FIGURES.items()}
    return Comparison(**compared, workers=ratios([*map(_workers, own)], costs))


def _rate(result: Result) -> float:
    return result.calls / result.seconds


def _cost(result: Result) -> float:
    return sum(cpu for name, cpu in result.cpu.items() if name != UNCOUNTED) / result.calls


def _workers(result: Result) -> float:
    return sum(cpu for name, cpu in result.cpu.items() if name.startswith("worker")) / result.calls


FIGURES: Final[Mapping[str, Callable[[Result], float]]] = {
    "calls": _rate,
    "p50": lambda result: result.p50,
    "cpu": _cost,
}
"""What a slice says, by the attributes of :class:`Comparison`."""


def _cpu_us(seconds: Sequence[float], results: Sequence[Result]) -> Quartiles:
    return Quartiles.of(cpu / result.calls * 1e6 for cpu, result in zip(seconds, results, strict=True))


def compared(figure: str, own: Sequence[Result], bases: Sequence[Sequence[Result]]) -> Estimate:
    """One of :data:`FIGURES`, relative to the mean of systems that are all alike."""
    of = FIGURES[figure]
    return Estimate.of(of(each) / mean for each, mean in zip(own, _means(of, bases), strict=True))


def added(own: Sequence[Result], bases: Sequence[Sequence[Result]], unit: Sequence[Result]) -> Estimate:
    """CPU per call, all processes together, above the mean of systems that are all alike, as a share of another one's."""
    return Estimate.of(more / _cost(each) for more, each in zip(_more(own, bases), unit, strict=True))


def added_us(own: Sequence[Result], bases: Sequence[Sequence[Result]]) -> Estimate:
    """The same in microseconds."""
    return Estimate.of(more * 1e6 for more in _more(own, bases))


def _more(own: Sequence[Result], bases: Sequence[Sequence[Result]]) -> Iterator[float]:
    return (_cost(each) - mean for each, mean in zip(own, _means(_cost, bases), strict=True))


def _means(of: Callable[[Result], float], bases: Sequence[Sequence[Result]]) -> list[float]:
    """Round by round. Two processes of the same differ, too, so what is compared with both is compared with their mean."""
    return [statistics.fmean(map(of, side_by_side)) for side_by_side in zip(*bases, strict=True)]


def print_report(console: Console, outcome: Outcome) -> None:
    """One table for each load."""
    for scenario, results in outcome.results.items():
        console.print(_table(title(outcome.plan, scenario), figures(results, outcome.plan.references)))


def _table(heading: str, systems: Mapping[str, Figures]) -> Table:
    references = list(next(iter(systems.values())).ratios)
    main = references[-1:]  # The system to which p50 and workers are relative, or none.
    processes = list(dict.fromkeys(name for row in systems.values() for name in row.cpu_us))
    table = Table(title=heading, caption=caption(systems), title_justify="left", caption_justify="left")
    table.add_column("system", no_wrap=True)
    for column in (
        "calls/s",
        *(_times(name) for name in references),
        "p50 ms",
        *(_times(name) for name in main),
        "p99 ms",
        *(f"CPU µs\n{name}" for name in processes),
        *(f"CPU\n{_times(name)}" for name in references),
        *(f"worker\n{_times(name)}" for name in main),
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for system, row in systems.items():
        table.add_row(
            f"({SYSTEMS[system].letter}) {SYSTEMS[system].title}",
            _stacked(row.calls_per_second.within(",.0f")),
            *(_stacked(str(row.ratios[name].calls)) for name in references),
            _stacked(row.p50_ms.within(".2f")),
            *(_stacked(str(row.ratios[name].p50)) for name in main),
            "-" if row.p99_ms is None else _stacked(row.p99_ms.within(".2f")),
            *(_stacked(row.cpu_us[name].within(",.0f")) if name in row.cpu_us else "-" for name in processes),
            *(_stacked(str(row.ratios[name].cpu)) for name in references),
            *(_stacked(str(row.ratios[name].workers)) if row.ratios[name].workers.median else "-" for name in main),
        )
    return table


def _stacked(figure: str) -> str:
    """Its spread below it."""
    return figure.replace(" ", "\n", 1)


def _times(reference: str) -> str:
    return f"x ({SYSTEMS[reference].letter})"


def title(plan: Plan, scenario: Scenario) -> str:
    """A load, as text."""
    what = {
        "echo": f"tools/call{plan.subject}, {_size(scenario)}",
        "event": "tools/call, answered by one event",
        "events": f"tools/call, answered by {EVENTS} events",
        "list": f"tools/list over {len(plan.servers)} servers with {plan.tools} tools each",
    }[scenario.kind]
    return f"{what}, {scenario.connections} connection{'s' if scenario.connections > 1 else ''}"


def _size(scenario: Scenario) -> str:
    sizes = {"arguments": scenario.content, "result": scenario.result}
    return ", ".join(f"{size:,} characters of {what}" for what, size in sizes.items() if size) or "small"


WIDE = 0.1
"""Spread of a ratio from which on it is marked: an idle machine stays well below."""

WIDE_SPREAD = "**Wide spread**: good for orders of magnitude only. "


def caption(systems: Mapping[str, Figures]) -> str:
    """How far to trust a table, and what is in none of its figures."""
    client = _range(row.client_cpu_us.median for row in systems.values())
    upstream = _range(row.upstream_cpu_us.median for row in systems.values())
    fewest = min(row.fewest_calls for row in systems.values())
    return (
        f"{_steadiness(systems)}At least {fewest:,} calls a slice. "
        f"In no figure, by system: {client} µs of CPU per call of the client, and {upstream} µs of the upstream."
    )


def _range(values: Iterable[float]) -> str:
    known = [*values]
    return f"{min(known):,.0f} to {max(known):,.0f}"


def _steadiness(systems: Mapping[str, Figures]) -> str:
    within = spread(systems)
    if within is None:
        return ""
    wide = WIDE_SPREAD if within > WIDE else ""
    return f"{wide}Half of all rounds lie within ±{within:.0%} of a ratio. "


def spread(systems: Mapping[str, Figures]) -> float | None:
    """The largest spread of all ratios, as a share; ``None`` without references."""
    compared = [each for row in systems.values() for each in row.ratios.values()]
    return max((max(each.calls.spread, each.p50.spread, each.cpu.spread) for each in compared), default=None)


MEMORY_SECTIONS = ("calls", "workers", "run")
"""Those whose processes' memory is reported."""

MEMORY_HEADINGS = ("system", "process", "before, MB", "after, MB", "requests in between")
"""Of `memory_rows`."""


def memory_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each process: what it had before and after all slices, and how many requests that was."""
    return [
        (
            f"({SYSTEMS[system].letter}) {SYSTEMS[system].title}",
            name,
            f"{size.before / 1e6:.0f}",
            f"{size.after / 1e6:.0f}",
            f"{outcome.requests(system):,}",
        )
        for system, processes in outcome.memory.items()
        for name, size in processes.items()
    ]


def print_memory(console: Console, outcome: Outcome) -> None:
    """Memory of each process before and after all slices."""
    console.print(_plain_table("memory (PSS)", MEMORY_HEADINGS, memory_rows(outcome), left=2))


CROWD_HEADINGS = (
    "sharing", "all answered after s", "calls/s", "p50 ms", "children",
    "bridge MB", "PSS MB", "with all MB", "KiB a session", "a child MB", "its PSS MB", "all PSS MB",
)  # fmt: skip
"""Of `crowd_rows`."""


def crowd_title(outcome: CrowdOutcome) -> str:
    """What the table is about."""
    rounds = min(len(crowd.rounds) for crowd in outcome.crowds.values())
    return f"{outcome.sessions} sessions of one stdio server, over {rounds} gateways"


def crowd_rows(outcome: CrowdOutcome) -> list[tuple[str, ...]]:
    """A row for each way of sharing."""
    return [
        (
            sharing,
            crowd.over_rounds(lambda each: each.seconds).within(".2f"),
            crowd.over_rounds(lambda each: each.calls.calls / each.calls.seconds).within(",.0f"),
            crowd.over_rounds(lambda each: each.calls.p50 * 1e3).within(".1f"),
            crowd.over_rounds(lambda each: each.full.count).between(".0f"),
            crowd.over_rounds(lambda each: each.before.bridge.resident / 1e6).within(".1f"),
            crowd.over_rounds(lambda each: each.before.bridge.proportional / 1e6).within(".1f"),
            crowd.over_rounds(lambda each: each.full.bridge.resident / 1e6).within(".1f"),
            crowd.over_rounds(lambda each: each.growth(outcome.sessions) / 1024).between(".0f"),
            crowd.over_rounds(lambda each: each.full.children.resident / each.full.count / 1e6).within(".1f"),
            crowd.over_rounds(lambda each: each.full.children.proportional / each.full.count / 1e6).within(".1f"),
            crowd.over_rounds(lambda each: each.full.children.proportional / 1e6).within(".1f"),
        )
        for sharing, crowd in outcome.crowds.items()
    ]


def crowds_as_json(outcome: CrowdOutcome) -> Any:
    """The figures and the underlying results, as JSON."""
    return msgspec.to_builtins(outcome) | {
        "rows": [dict(zip(CROWD_HEADINGS, row, strict=True)) for row in crowd_rows(outcome)]
    }


def print_crowds(console: Console, outcome: CrowdOutcome) -> None:
    """Time and memory of many sessions of one stdio server."""
    console.print(_plain_table(crowd_title(outcome), CROWD_HEADINGS, crowd_rows(outcome)))


STREAM_HEADINGS = ("process", "KiB of a session", "KiB of its open stream", "CPU µs/s of an idle stream")
"""Of `stream_rows`."""


def stream_rows(held: Sequence[StreamOutcome]) -> list[tuple[str, ...]]:
    """A row for each process."""
    return [
        (
            name,
            Quartiles.of(each.bytes_per_session()[name] / 1024 for each in held).between(".1f"),
            Quartiles.of(each.bytes_per_stream()[name] / 1024 for each in held).between(".1f"),
            Quartiles.of(each.idle_cpu_per_stream()[name] * 1e6 for each in held).between(".1f"),
        )
        for name in held[0].before
    ]


def stream_title(held: Sequence[StreamOutcome]) -> str:
    """What the table of `stream_rows` is about."""
    first = held[0]
    return (
        f"{first.streams} sessions, then {first.streams} streams in them, each from two servers, in {len(held)} gateways; "
        f"idle for {first.idle_seconds:g} s with {_range(each.heartbeats for each in held)} heartbeats"
    )


def round_headings(held: Sequence[StreamOutcome]) -> tuple[str, ...]:
    """Of `round_rows`."""
    return ("PSS in MB", "before", *(f"round {number}" for number in range(1, len(held[0].rounds) + 1)))


def round_rows(held: Sequence[StreamOutcome]) -> list[tuple[str, ...]]:
    """For each process, its memory round by round with streams open, and closed again."""

    def megabytes(sizes: Iterable[int]) -> str:
        return Quartiles.of(size / 1e6 for size in sizes).between(".0f")

    return [
        (
            f"{name}, {state}",
            "" if state == "open" else megabytes(each.before[name] for each in held),
            *(
                megabytes(getattr(each.rounds[number], state)[name] for each in held)
                for number in range(len(held[0].rounds))
            ),
        )
        for name in held[0].before
        for state in ("open", "closed")
    ]


def print_streams(console: Console, held: Sequence[StreamOutcome]) -> None:
    """The cost of streams, and the memory round by round."""
    console.print(_plain_table(stream_title(held), STREAM_HEADINGS, stream_rows(held)))
    title = "memory with all streams open, and closed again"
    console.print(_plain_table(title, round_headings(held), round_rows(held)))


def _plain_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """Figures to the right, but those of the first columns."""
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The figures and the underlying results, as JSON; orjson writes the values unchanged."""
    return {
        "scenarios": [
            {
                "title": title(outcome.plan, scenario),
                "content": scenario.content,
                "result": scenario.result,
                "connections": scenario.connections,
                "systems": figures(results, outcome.plan.references),
                "rounds": {system: [_round(result) for result in own] for system, own in results.items()},
            }
            for scenario, results in outcome.results.items()
        ],
        "memory": {system: dict(processes) for system, processes in outcome.memory.items()},
    }


def _round(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
