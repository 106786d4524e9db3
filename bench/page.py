"""The figures as Markdown, for docs/performance.md: the benchmark writes the text between two comments there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from bench import goals, rules, where
from bench.blocks import Block, blocks, merged, place, put
from bench.crowds import CrowdOutcome
from bench.report import (
    CROWD_HEADINGS,
    MEMORY_HEADINGS,
    MEMORY_SECTIONS,
    STREAM_HEADINGS,
    Figures,
    caption,
    crowd_rows,
    crowd_title,
    figures,
    memory_rows,
    round_headings,
    round_rows,
    stream_rows,
    stream_title,
    title,
)
from bench.rounds import Outcome
from bench.rules import RulesCost
from bench.start import Start
from bench.start import table as start_table
from bench.streams import StreamOutcome
from bench.systems import SYSTEMS

RUNS: Final = "runs"
GOALS: Final = "goals"

ORDER: Final = (
    RUNS, GOALS, "calls", "logged", "events", "large", "read", "pass-through", "lists of 3", "lists of 30", "policy",
    "authentication", "telemetry", "workers", "run", "stdio", "where", "stdio-sessions", "streams", "start", "rules",
)  # fmt: skip
"""Of sections on the page."""


def written(page: str, about: Mapping[str, Any], tables: Iterable[Block], reached: Sequence[Sequence[str]] = ()) -> str:
    """The page with new figures in place of older ones of the same loads, and of the same goals; each names its run. Raises
    BenchError if the page has no place for them.

    Args:
        page: what it has.
        about: the run.
        tables: of loads, as from :func:`tables`.
        reached: of goals, as from :func:`bench.goals.rows`.
    """
    run = _run(about)
    old = {each.key: each for each in on(page)}
    new = [Block(each.key, f"{each.text}\n\nRun of {run}.") for each in tables]
    if reached:
        new.append(Block(GOALS, goals.renewed(old[GOALS].text if GOALS in old else "", reached, run)))
    found = merged(old.values(), new, ORDER)
    runs = {each.key: each for each in (*old.values(), Block(f"{RUNS}: {run}", _about(run, about))) if _is_run(each)}
    shown = [each for each in found if not _is_run(each)]
    used = [each for key, each in runs.items() if any(key.removeprefix(f"{RUNS}: ") in one.text for one in shown)]
    return put(page, [*used, *shown])


def on(page: str) -> list[Block]:
    """What a page has. Raises BenchError if it has no place for figures."""
    return blocks(place(page)[1])


def _run(about: Mapping[str, Any]) -> str:
    """What tells it from other runs."""
    return f"{about['when']}" + (f", {about['commit']}" if about["commit"] else "")


def _is_run(block: Block) -> bool:
    return block.key.startswith(f"{RUNS}: ")


def _about(run: str, about: Mapping[str, Any]) -> str:
    return (
        f"**Run of {run}**: {about['envoy']}, CPython {about['python']}, {about['cpu']}, {about['cores']} cores; "
        f"{about['rounds']} rounds of {about['seconds']:g} s{_restarted(about['restarts'])}. "
        f"Load {about['load']:.1f} before the run and "
        f"{about['load_at_end']:.1f} at its end, with its own; {about['stolen']:.1%} of the processors' time was stolen."
    )


def _restarted(restarts: int) -> str:
    return f", in {restarts + 1} parts, each of other processes" if restarts else ""


def tables(
    outcomes: Mapping[str, Outcome],
    crowds: CrowdOutcome | None = None,
    held: Sequence[StreamOutcome] = (),
    starts: Sequence[Start] = (),
    ruled: RulesCost | None = None,
    costs: Sequence[where.Costs] = (),
) -> Iterator[Block]:
    """Of what was measured, one for each load."""
    for name, outcome in outcomes.items():
        yield from _loads(name, outcome)
    if costs:
        yield Block("where", f"**where the CPU of a call goes, 16 connections**\n\n{where.table(costs)}")
    if crowds is not None:
        yield Block("stdio-sessions", _crowds(crowds))
    if held:
        yield Block("streams", _streams(held))
    if starts:
        yield Block("start", start_table(starts))
    if ruled is not None:
        yield Block("rules", rules.table(ruled))


def _loads(name: str, outcome: Outcome) -> Iterator[Block]:
    for scenario, results in outcome.results.items():
        systems = figures(results, outcome.plan.references)
        load = title(outcome.plan, scenario)
        yield Block(f"{name}: {load}", f"**{load}**\n\n{_calls(systems)}\n\n{caption(systems)}")
    if name in MEMORY_SECTIONS and outcome.memory:
        yield Block(f"{name}: memory", f"**memory (PSS)**\n\n{_table(MEMORY_HEADINGS, memory_rows(outcome))}")


def _calls(systems: Mapping[str, Figures]) -> str:
    references = list(next(iter(systems.values())).ratios)
    main = references[-1:]
    processes = list(dict.fromkeys(name for row in systems.values() for name in row.cpu_us))
    headings = (
        "system",
        "calls/s",
        *(f"x ({SYSTEMS[name].letter})" for name in main),
        "p50 ms",
        *(f"x ({SYSTEMS[name].letter})" for name in main),
        "p99 ms",
        *(f"CPU µs {name}" for name in processes),
        *(f"CPU x ({SYSTEMS[name].letter})" for name in references),
        *(f"worker x ({SYSTEMS[name].letter})" for name in main),
    )
    rows = [
        (
            f"({SYSTEMS[system].letter}) {SYSTEMS[system].title}",
            row.calls_per_second.within(",.0f"),
            *(str(row.ratios[name].calls) for name in main),
            row.p50_ms.within(".2f"),
            *(str(row.ratios[name].p50) for name in main),
            "" if row.p99_ms is None else row.p99_ms.within(".2f"),
            *(row.cpu_us[name].within(",.0f") if name in row.cpu_us else "" for name in processes),
            *(str(row.ratios[name].cpu) for name in references),
            *(str(row.ratios[name].workers) if row.ratios[name].workers.median else "" for name in main),
        )
        for system, row in systems.items()
    ]
    return _table(headings, rows)


def _crowds(crowds: CrowdOutcome) -> str:
    return f"**{crowd_title(crowds)}**\n\n{_table(CROWD_HEADINGS, crowd_rows(crowds))}"


def _streams(held: Sequence[StreamOutcome]) -> str:
    costs = _table(STREAM_HEADINGS, stream_rows(held))
    return f"**{stream_title(held)}**\n\n{costs}\n\n{_table(round_headings(held), round_rows(held))}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))
