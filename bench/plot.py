"""The CPU of all loads as one chart: a panel of horizontal bars for each load, as hand-written SVG.

    python -m bench.plot docs/performance.md docs/performance.svg

It has its own background, to be readable on dark and light pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from bench.blocks import Block, cells
from bench.page import on
from bench.slices import SERVER

_WIDTH = 920
_BARS = 250
"""Start of the bars. Names are to the left."""
_LONGEST = 420
"""Length of the longest bar of a panel. Figures are to the right."""
_ROW = 22
_HEADING = 34
_MARGIN = 18
_COLOURS = {
    "envoy": "#7b8fa6",
    "worker": "#d9822b",
    "collector": "#d6b656",
    "supervisor": "#a05c8f",
    "bridge": "#5c9e6f",
    SERVER: "#c9c2b8",
}
"""By the kind of process, in the order of the parts of a bar."""
_CPU: Final = "CPU µs "
"""Begins the heading of a column that has a process of its own."""
_STYLE = (
    "text { font: 13px system-ui, sans-serif; fill: #1f2933 } .heading { font-weight: 600 } .name { text-anchor: end }"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One system under one load."""

    name: str
    parts: Mapping[str, float]
    """CPU per request in microseconds, by the kind of process."""
    ratio: str
    """Of all CPU to that of Envoy's own router; empty if that was not measured."""

    @property
    def total(self) -> float:
        """CPU of all processes."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Panel:
    """One load."""

    heading: str
    bars: Sequence[Bar]


def panels(tables: Iterable[Block]) -> list[Panel]:
    """Of those tables of a page that have the CPU of processes: so the chart and the page have the same figures, and what was
    not measured again stays."""
    return [panel for table in tables for panel in _panels(table)]


def _panels(table: Block) -> Iterator[Panel]:
    heading, *lines = table.text.splitlines()
    rows = [cells(line) for line in lines if line.startswith("| ")]
    if rows and rows[0][0] == "system" and any(each.startswith(_CPU) for each in rows[0]):
        yield Panel(heading.strip("*"), [_bar(dict(zip(rows[0], row, strict=True))) for row in rows[2:]])


def _bar(row: Mapping[str, str]) -> Bar:
    parts = dict.fromkeys(_COLOURS, 0.0)
    for heading, cell in row.items():
        if heading.startswith(_CPU) and cell:
            kind = heading.removeprefix(_CPU).partition(" ")[0]  # "worker 2" is a worker
            parts[kind] += float(cell.split()[0].replace(",", ""))
    return Bar(row["system"], parts, row.get("CPU x (c)", ""))


def draw(panels: Sequence[Panel]) -> str:
    """The chart. Each panel has its own scale, given by its longest bar."""
    lines = _legend()
    top = _MARGIN + _HEADING
    for panel in panels:
        lines += _panel(panel, top)
        top += _HEADING + _ROW * len(panel.bars)
    height = top + _MARGIN
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
    )
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([start, f"<style>{_STYLE}</style>", background, *lines, "</svg>\n"])


def _legend() -> list[str]:
    lines = [_text(_MARGIN, _MARGIN + 12, "heading", "CPU of each request")]
    for number, (name, colour) in enumerate(_COLOURS.items()):
        left = _BARS + 90 * number
        lines.append(_rectangle(left, _MARGIN + 1, 12, 12, colour))
        lines.append(_text(left + 18, _MARGIN + 12, "", name))
    return lines


def _panel(panel: Panel, top: int) -> list[str]:
    lines = [_text(_MARGIN, top + _HEADING - 10, "heading", panel.heading)]
    scale = _LONGEST / max(bar.total for bar in panel.bars)
    for row, bar in enumerate(panel.bars):
        middle = top + _HEADING + _ROW * row
        lines.append(_text(_BARS - 10, middle + 14, "name", bar.name))
        left: float = _BARS
        for kind in (kind for kind in _COLOURS if bar.parts.get(kind)):
            length = bar.parts[kind] * scale
            lines.append(_rectangle(left, middle + 2, length, _ROW - 6, _COLOURS[kind]))
            left += length
        lines.append(_text(left + 8, middle + 14, "", _figure(bar)))
    return lines


def _figure(bar: Bar) -> str:
    size = f"{bar.total:,.0f} µs" if bar.total < 10_000 else f"{bar.total / 1e3:,.1f} ms"
    return f"{size}, {bar.ratio} x (c)" if bar.ratio else size


def _rectangle(left: float, top: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(left: float, top: float, kind: str, text: str) -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{left:.1f}" y="{top:.1f}"{style}>{escape(text)}</text>'


def main() -> None:
    """Draws what a page has: of its tables into the file that is named second."""
    page, chart = map(Path, sys.argv[1:])
    chart.write_text(draw(panels(on(page.read_text()))))


if __name__ == "__main__":
    main()
