"""The CPU of all loads as one chart: a panel of horizontal bars for each load, as hand-written SVG.

It has its own background, to be readable on dark and light pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.report import figures, title
from bench.rounds import Outcome
from bench.slices import SERVER
from bench.stats import Quartiles
from bench.systems import SYSTEMS

_WIDTH = 920
_BARS = 250
"""Start of the bars. Names are to the left."""
_LONGEST = 420
"""Length of the longest bar of a panel. Figures are to the right."""
_ROW = 22
_HEADING = 34
_MARGIN = 18
_COLOURS = {"envoy": "#7b8fa6", "worker": "#d9822b", "supervisor": "#a05c8f", "bridge": "#5c9e6f", SERVER: "#c9c2b8"}
"""By the kind of process, in the order of the parts of a bar."""
_STYLE = (
    "text { font: 13px system-ui, sans-serif; fill: #1f2933 } .heading { font-weight: 600 } .name { text-anchor: end }"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One system under one load."""

    name: str
    parts: Mapping[str, float]
    """CPU per request in microseconds, by the kind of process."""
    ratio: Quartiles | None
    """Of all CPU to that of Envoy's own router, if that was measured."""

    @property
    def total(self) -> float:
        """CPU of all processes."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Panel:
    """One load."""

    heading: str
    bars: Sequence[Bar]


def panels(outcome: Outcome) -> list[Panel]:
    """Chart data of an outcome."""
    return [
        Panel(title(outcome.plan, scenario), _bars(outcome, index)) for index, scenario in enumerate(outcome.results)
    ]


def _bars(outcome: Outcome, index: int) -> list[Bar]:
    rows = figures([*outcome.results.values()][index])
    bars = []
    for system, row in rows.items():
        parts = dict.fromkeys(_COLOURS, 0.0)
        for process, cpu in row.cpu_us.items():
            parts[process.partition(" ")[0]] += cpu.median  # "worker 2" is a worker
        ratio = row.ratios["router"].cpu if "router" in row.ratios else None
        name = f"({SYSTEMS[system].letter}) {SYSTEMS[system].title}"
        bars.append(Bar(name, parts, ratio))
    return bars


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
    return size if bar.ratio is None else f"{size}, {bar.ratio} x (c)"


def _rectangle(left: float, top: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(left: float, top: float, kind: str, text: str) -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{left:.1f}" y="{top:.1f}"{style}>{escape(text)}</text>'
