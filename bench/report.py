"""Results to figures, and figures to tables and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.crowds import CrowdOutcome
from bench.rounds import REFERENCES, Memory, Outcome, Plan, Scenario
from bench.slices import Result
from bench.stats import Quartiles, ratios
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
    """One system under one load. Each figure is the median of the rounds."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float | None
    """If every slice had enough calls for one."""
    cpu_us: Mapping[str, float]
    """CPU per call in microseconds, by process."""
    upstream_cpu_us: float
    client_cpu_us: float
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
        calls_per_second=statistics.median(map(_rate, own)),
        p50_ms=statistics.median(result.p50 for result in own) * 1e3,
        p99_ms=_p99_ms([result.p99 for result in own]),
        cpu_us={name: _cpu_us([result.cpu[name] for result in own], own) for name in own[0].cpu if name != UNCOUNTED},
        upstream_cpu_us=_cpu_us([result.cpu[UNCOUNTED] for result in own], own),
        client_cpu_us=_cpu_us([result.client_cpu for result in own], own),
        fewest_calls=min(result.calls for result in own),
        ratios={name: _compare(own, base) for name, base in bases.items()},
    )


def _p99_ms(slices: Sequence[float | None]) -> float | None:
    known = [each for each in slices if each is not None]
    return statistics.median(known) * 1e3 if len(known) == len(slices) else None


def _compare(own: Sequence[Result], reference: Sequence[Result]) -> Comparison:
    costs = [*map(_cost, reference)]
    return Comparison(
        calls=ratios([*map(_rate, own)], [*map(_rate, reference)]),
        p50=ratios([result.p50 for result in own], [result.p50 for result in reference]),
        cpu=ratios([*map(_cost, own)], costs),
        workers=ratios([*map(_workers, own)], costs),
    )


def _rate(result: Result) -> float:
    return result.calls / result.seconds


def _cost(result: Result) -> float:
    return sum(cpu for name, cpu in result.cpu.items() if name != UNCOUNTED) / result.calls


def _workers(result: Result) -> float:
    return sum(cpu for name, cpu in result.cpu.items() if name.startswith("worker")) / result.calls


def _cpu_us(seconds: Sequence[float], results: Sequence[Result]) -> float:
    return statistics.median(cpu / result.calls for cpu, result in zip(seconds, results, strict=True)) * 1e6


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
            f"{row.calls_per_second:,.0f}",
            *(_stacked(row.ratios[name].calls) for name in references),
            f"{row.p50_ms:.2f}",
            *(_stacked(row.ratios[name].p50) for name in main),
            "-" if row.p99_ms is None else f"{row.p99_ms:.2f}",
            *(f"{row.cpu_us[name]:.0f}" if name in row.cpu_us else "-" for name in processes),
            *(_stacked(row.ratios[name].cpu) for name in references),
            *(_stacked(row.ratios[name].workers) if row.ratios[name].workers.median else "-" for name in main),
        )
    return table


def _stacked(ratio: Quartiles) -> str:
    return str(ratio).replace(" [", "\n[")


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


def caption(systems: Mapping[str, Figures]) -> str:
    """How far to trust a table, and what is in none of its figures."""
    client = statistics.median(row.client_cpu_us for row in systems.values())
    upstream = statistics.median(row.upstream_cpu_us for row in systems.values())
    fewest = min(row.fewest_calls for row in systems.values())
    return (
        f"{_steadiness(systems)}At least {fewest:,} calls a slice. "
        f"In no figure: client {client:,.0f} µs and upstream {upstream:,.0f} µs of CPU per call."
    )


def _steadiness(systems: Mapping[str, Figures]) -> str:
    within = spread(systems)
    if within is None:
        return ""
    wide = "**Wide spread**: good for orders of magnitude only. " if within > WIDE else ""
    return f"{wide}Half of all rounds lie within ±{within:.0%} of a ratio. "


def spread(systems: Mapping[str, Figures]) -> float | None:
    """The largest spread of all ratios, as a share; ``None`` without references."""
    compared = [each for row in systems.values() for each in row.ratios.values()]
    return max((max(each.calls.spread, each.p50.spread, each.cpu.spread) for each in compared), default=None)


def print_memory(console: Console, memory: Mapping[str, Mapping[str, Memory]]) -> None:
    """Memory of each process before and after all slices."""
    table = Table(title="memory (PSS), MB", title_justify="left")
    table.add_column("process", no_wrap=True)
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for system, processes in memory.items():
        for name, size in processes.items():
            table.add_row(
                f"({SYSTEMS[system].letter}) {SYSTEMS[system].title}: {name}",
                f"{size.before / 1e6:.0f}",
                f"{size.after / 1e6:.0f}",
            )
    console.print(table)


CROWD_HEADINGS = (
    "sharing", "all answered after s", "calls/s", "p50 ms", "children",
    "bridge MB", "PSS MB", "with all MB", "KiB a session", "a child MB", "its PSS MB", "all PSS MB",
)  # fmt: skip
"""Of `crowd_rows`."""


def crowd_rows(outcome: CrowdOutcome) -> list[tuple[str, ...]]:
    """A row for each way of sharing."""
    return [
        (
            sharing,
            f"{crowd.seconds:.2f}",
            f"{crowd.calls_per_second:,.0f}",
            f"{crowd.p50 * 1e3:.1f}",
            str(crowd.full.count),
            _megabytes(crowd.before.bridge.resident),
            _megabytes(crowd.before.bridge.proportional),
            _megabytes(crowd.full.bridge.resident),
            f"{crowd.growth(outcome.sessions) / 1024:.0f}",
            _megabytes(crowd.child.resident),
            _megabytes(crowd.child.proportional),
            _megabytes(crowd.full.children.proportional),
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
    table = Table(title=f"{outcome.sessions} sessions of one stdio server", title_justify="left")
    for heading in CROWD_HEADINGS:
        table.add_column(heading, justify="left" if heading == CROWD_HEADINGS[0] else "right")
    for row in crowd_rows(outcome):
        table.add_row(*row)
    console.print(table)


def print_streams(console: Console, outcome: StreamOutcome) -> None:
    """The cost of streams, and the memory round by round."""
    console.print(_stream_table(outcome))
    console.print(_round_table(outcome))


def _stream_table(outcome: StreamOutcome) -> Table:
    seconds, sessions, streams = outcome.idle_seconds, outcome.bytes_per_session(), outcome.bytes_per_stream()
    table = Table(
        title=f"{outcome.streams} sessions, each with a stream from two servers",
        caption=f"Idle for {seconds:.0f} s, in which {outcome.heartbeats} heartbeats came.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("process", no_wrap=True)
    for heading in ("KiB of a session\nwithout stream", "KiB\nof a stream", "CPU µs/s\nof an idle stream"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, cpu in outcome.idle_cpu_per_stream().items():
        table.add_row(name, f"{sessions[name] / 1024:.1f}", f"{streams[name] / 1024:.1f}", f"{cpu * 1e6:.1f}")
    return table


def _round_table(outcome: StreamOutcome) -> Table:
    processes = list(outcome.before)
    table = Table(title="memory (PSS), MB, with streams open and closed again", title_justify="left")
    table.add_column("round", no_wrap=True)
    for name in processes:
        table.add_column(f"{name}\nopen", justify="right")
        table.add_column(f"{name}\nclosed", justify="right")
    table.add_row("before", *(cell for name in processes for cell in ("", _megabytes(outcome.before[name]))))
    for number, sizes in enumerate(outcome.rounds, 1):
        cells = (_megabytes(each[name]) for name in processes for each in (sizes.open, sizes.closed))
        table.add_row(str(number), *cells)
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


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
