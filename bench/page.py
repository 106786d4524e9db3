"""The figures as Markdown, for docs/performance.md: the benchmark writes the text between two comments there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import goals, rules, where
from bench.crowds import CrowdOutcome
from bench.errors import BenchError
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
from bench.start import Start, table
from bench.streams import StreamOutcome
from bench.systems import SYSTEMS

BEGIN, END = "<!-- figures: written by python -m bench -->", "<!-- end of figures -->"


def written(
    page: str,
    about: Mapping[str, Any],
    outcomes: Mapping[str, Outcome],
    crowds: CrowdOutcome | None,
    held: Sequence[StreamOutcome] = (),
    starts: Sequence[Start] = (),
    ruled: RulesCost | None = None,
    costs: Sequence[where.Costs] = (),
) -> str:
    """The page with new figures. Raises BenchError if it has no place for them."""
    before, after = place(page)
    measured = goals.rows(outcomes, held, starts, ruled)
    blocks = [_about(about), *([goals.table(measured)] if measured else []), *_blocks(outcomes)]
    blocks += [f"**where the CPU of a call goes, 16 connections**\n\n{where.table(costs)}"] if costs else []
    blocks += [] if crowds is None else [_crowds(crowds)]
    blocks += [_streams(held)] if held else []
    blocks += [table(starts)] if starts else []
    blocks += [] if ruled is None else [rules.table(ruled)]
    return before + BEGIN + "\n\n" + "\n\n".join(blocks) + "\n\n" + END + after


def place(page: str) -> tuple[str, str]:
    """The text before and after the figures. Raises BenchError if the page has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"the page has no place for figures: it needs the lines {BEGIN} and {END}")
    return before, after


def _about(about: Mapping[str, Any]) -> str:
    commit = f"Commit {about['commit']}; " if about["commit"] else ""
    return (
        f"{commit}{about['envoy']}, CPython {about['python']}, {about['cpu']}, {about['cores']} cores; "
        f"{about['rounds']} rounds of {about['seconds']:g} s. Load {about['load']:.1f} before the run and "
        f"{about['load_at_end']:.1f} at its end, with its own; {about['stolen']:.1%} of the processors' time was stolen."
    )


def _blocks(outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    for name, outcome in outcomes.items():
        for scenario, results in outcome.results.items():
            systems = figures(results, outcome.plan.references)
            yield f"**{title(outcome.plan, scenario)}**"
            yield _calls(systems)
            yield caption(systems)
        if name in MEMORY_SECTIONS:
            yield "**memory (PSS)**"
            yield _table(MEMORY_HEADINGS, memory_rows(outcome))


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
