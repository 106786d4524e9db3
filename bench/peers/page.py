"""The records as Markdown, for docs/performance.md: written between two comments there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.errors import BenchError
from bench.peers.records import NATIVE, OURS, PEER, Record, Row
from bench.report import WIDE, WIDE_SPREAD
from bench.stats import Quartiles

BEGIN, END = "<!-- other gateways: written by python -m bench.peers -->", "<!-- end of other gateways -->"

HEADINGS = ("load", "system", "CPU µs", "x (c)", "calls/s", "x (c)", "p50 ms", "x (c)")
"""Of one peer's table."""

_SYSTEMS = {NATIVE: "(c) Envoy's mcp + mcp_router", OURS: "(d) this gateway"}


def written(page: str, records: Sequence[Record]) -> str:
    """The page with these records in place of those it has. Raises BenchError if it has no place for them."""
    before, after = place(page)
    return before + BEGIN + "\n\n" + "\n\n".join(blocks(records)) + "\n\n" + END + after


def place(page: str) -> tuple[str, str]:
    """The text before and after the figures. Raises BenchError if the page has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"the page has no place for figures of other gateways: it needs the lines {BEGIN} and {END}")
    return before, after


def blocks(records: Sequence[Record]) -> Iterable[str]:
    """An overview, what was not measured, and a table for each peer."""
    measured = [record for record in records if not record.failure]
    if measured:
        yield overview(measured)
    failed = [f"- {name(record)}: not measured: {_first(record.failure)}" for record in records if record.failure]
    if failed:
        yield "\n".join(failed)
    for record in measured:
        yield f"**{name(record)}**, released {record.released}. {record.remark}"
        yield table(HEADINGS, details(record))
        yield _about(record)


def name(record: Record) -> str:
    """With its version."""
    return f"{record.title} {record.version}"


def overview(records: Sequence[Record]) -> str:
    """A row for each peer: ratios to (c), in brackets this gateway's of the same run, in bold where this gateway loses."""
    loads = list(records[0].loads)
    headings = ["gateway", *(f"{load}: {figure}" for load in loads for figure in _figures(load)), "MB"]
    lines = [
        (name(record), *_cells(record.loads), _memory(record.memory))
        for record in records
        if list(record.loads) == loads
    ]
    return table(headings, lines)


def _figures(load: str) -> tuple[str, ...]:
    """What counts under a load: with one connection, how long a request takes."""
    return ("CPU", "calls/s") if "16 connections" in load else ("CPU", "p50")


def _cells(loads: Mapping[str, Mapping[str, Row]]) -> Iterable[str]:
    for load, systems in loads.items():
        for figure in _figures(load):
            ours, theirs = _ratio(systems[OURS], figure).median, _ratio(systems[PEER], figure).median
            ours_loses = ours < theirs if figure == "calls/s" else ours > theirs
            yield _beside(_ratio_text(theirs), _ratio_text(ours), ours_loses=ours_loses)


def _memory(memory: Mapping[str, float]) -> str:
    ours, theirs = memory[OURS], memory[PEER]
    return _beside(f"{theirs:.0f}", f"{ours:.0f}", ours_loses=ours > theirs)


def _beside(theirs: str, ours: str, *, ours_loses: bool) -> str:
    return f"**{theirs}** ({ours})" if ours_loses else f"{theirs} ({ours})"


def _ratio(row: Row, figure: str) -> Quartiles:
    return {"CPU": row.cpu, "calls/s": row.calls, "p50": row.p50}[figure]


def _form(value: float) -> str:
    """Two digits at least."""
    return ",.0f" if value >= 100 else ".2f" if value >= 0.1 else ".2g"


def _ratio_text(value: float) -> str:
    return f"{value:{_form(value)}}"


def _times(value: Quartiles) -> str:
    return value.between(_form(value.median))


def details(record: Record) -> list[tuple[str, ...]]:
    """A row for each load and system."""
    return [
        (
            load if system == NATIVE else "",
            _SYSTEMS.get(system, name(record)),
            row.cpu_us.within(",.0f"),
            _times(row.cpu),
            row.calls_per_second.within(",.0f"),
            _times(row.calls),
            row.p50_ms.within(",.2f"),
            _times(row.p50),
        )
        for load, systems in record.loads.items()
        for system, row in systems.items()
    ]


def _about(record: Record) -> str:
    about: Mapping[str, Any] = record.about
    commit = f"Commit {about['commit']}; " if about["commit"] else ""
    memory = ", ".join(f"{_SYSTEMS.get(system, name(record))} {size:.0f}" for system, size in record.memory.items())
    return (
        f"{_steadiness(record)}Memory afterwards in MB (PSS): {memory}. Measured {record.day}. {commit}{about['envoy']}, "
        f"CPython {about['python']}, {about['cpu']}, {about['cores']} cores; {about['rounds']} rounds of "
        f"{about['seconds']:g} s. "
        f"Load {about['load']:.1f} before and {about['load_at_end']:.1f} at the end, with its own; "
        f"{about['stolen']:.1%} of the processors' time was stolen."
    )


def _steadiness(record: Record) -> str:
    ratios = [
        ratio
        for systems in record.loads.values()
        for row in systems.values()
        for ratio in (row.cpu, row.calls, row.p50)
    ]
    return WIDE_SPREAD if max((ratio.spread for ratio in ratios), default=0) > WIDE else ""


def _first(failure: str) -> str:
    """One line: what follows is the end of a log."""
    return failure.strip().split("\n", 1)[0]


def table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """As Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *lines))
