"""The figures as Markdown, for docs/performance.md: the benchmark writes the text between two comments there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import goals
from bench.crowds import CrowdOutcome
from bench.errors import BenchError
from bench.report import CROWD_HEADINGS, Figures, caption, crowd_rows, figures, title
from bench.rounds import Memory, Outcome
from bench.start import Start, table
from bench.streams import StreamOutcome
from bench.systems import SYSTEMS

BEGIN, END = "<!-- figures: written by python -m bench -->", "<!-- end of figures -->"


def written(
    page: str,
    about: Mapping[str, Any],
    outcomes: Mapping[str, Outcome],
    crowds: CrowdOutcome | None,
    held: StreamOutcome | None,
    starts: Sequence[Start] = (),
) -> str:
    """The page with new figures. Raises BenchError if it has no place for them."""
    before, after = place(page)
    measured = goals.rows(outcomes, held, starts)
    blocks = [_about(about), *([goals.table(measured)] if measured else []), *_blocks(outcomes)]
    blocks += [] if crowds is None else [_crowds(crowds)]
    blocks += [] if held is None else [_streams(held)]
    blocks += [table(starts)] if starts else []
    return before + BEGIN + "\n\n" + "\n\n".join(blocks) + "\n\n" + END + after


def place(page: str) -> tuple[str, str]:
    """The text before and after the figures. Raises BenchError if the page has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"the page has no place for figures: it needs the lines {BEGIN} and {END}")
    return before, after


def _about(about: Mapping[str, Any]) -> str:
    return (
        f"{about['envoy']}, CPython {about['python']}, {about['cpu']}, {about['cores']} cores; "
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
        if name in ("calls", "workers"):
            yield "**memory (PSS), MB**"
            yield _memory(outcome.memory)


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
            f"{row.calls_per_second:,.0f}",
            *(str(row.ratios[name].calls) for name in main),
            f"{row.p50_ms:.2f}",
            *(str(row.ratios[name].p50) for name in main),
            "" if row.p99_ms is None else f"{row.p99_ms:.2f}",
            *(f"{row.cpu_us[name]:,.0f}" if name in row.cpu_us else "" for name in processes),
            *(str(row.ratios[name].cpu) for name in references),
            *(str(row.ratios[name].workers) if row.ratios[name].workers.median else "" for name in main),
        )
        for system, row in systems.items()
    ]
    return _table(headings, rows)


def _memory(memory: Mapping[str, Mapping[str, Memory]]) -> str:
    rows = [
        (
            f"({SYSTEMS[system].letter}) {SYSTEMS[system].title}",
            name,
            f"{size.before / 1e6:.0f}",
            f"{size.after / 1e6:.0f}",
        )
        for system, processes in memory.items()
        for name, size in processes.items()
    ]
    return _table(("system", "process", "before", "after all slices"), rows)


def _crowds(crowds: CrowdOutcome) -> str:
    table = _table(CROWD_HEADINGS, crowd_rows(crowds))
    return f"**{crowds.sessions} sessions of one stdio server**\n\n{table}"


def _streams(held: StreamOutcome) -> str:
    sessions, streams = held.bytes_per_session(), held.bytes_per_stream()
    rows = [
        (name, f"{sessions[name] / 1024:.0f} KiB", f"{streams[name] / 1024:.0f} KiB", f"{cpu * 1e6:.0f} µs/s")
        for name, cpu in held.idle_cpu_per_stream().items()
    ]
    costs = _table(("process", "session without stream", "its open stream", "CPU of an idle stream"), rows)
    sizes = [
        (
            f"{name}, {state}",
            "" if state == "open" else f"{held.before[name] / 1e6:.0f}",
            *(f"{getattr(each, state)[name] / 1e6:.0f}" for each in held.rounds),
        )
        for name in held.before
        for state in ("open", "closed")
    ]
    rounds = _table(("PSS in MB", "before", *(f"round {number}" for number in range(1, len(held.rounds) + 1))), sizes)
    return f"**{held.streams} open streams**\n\n{costs}\n\n{rounds}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))
