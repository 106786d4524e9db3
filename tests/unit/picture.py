"""The picture of the imports in docs/design.md, drawn from the sources: `python -m tests.unit.picture` puts it there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tests.unit.test_layers import MODULES, imported, is_generated, layer_of

PAGE = Path(__file__).parents[2] / "docs" / "design.md"
BEGIN = "<!-- picture of the imports: make golden draws it -->\n"
END = "<!-- end of the picture -->\n"

READ_BY_ALL = (
    "config",
    "contract",
    "address",
    "telemetry",
    "tasks",
    "processes",
    "held",
    "secret_values",
    "slices",
    "__init__",
    "__main__",
)
"""Without arrows of their own: what is in them may be read from anywhere above."""

ROOMS = ("gateway", "envoy", "upstreams", "extproc", "run")
"""Folders that are shown from the inside as well."""


def reduced(graph: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """The arrows that do not follow from others."""

    def reached(start: str) -> set[str]:
        return {end for step in graph[start] for end in {step, *reached(step)}}

    return {
        name: sorted(step for step in steps if not any(step in reached(other) for other in steps if other != step))
        for name, steps in graph.items()
    }


def floors(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Names in rows, the lowest row last: each imports from rows below its own only."""
    height: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((of(step) for step in graph[name]), default=-1)
        return height[name]

    for name in graph:
        of(name)
    return [sorted(name for name in height if height[name] == row) for row in range(max(height.values()), -1, -1)]


def folders() -> dict[str, set[str]]:
    """Arrows between folders."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        layer = layer_of(module)
        if layer not in READ_BY_ALL:
            graph.setdefault(layer, set()).update(
                layer_of(other) for other in imported(module) if layer_of(other) not in (layer, *READ_BY_ALL)
            )
    return graph


def room(folder: str) -> dict[str, set[str]]:
    """Arrows between the files of a folder."""
    inside = [m for m in MODULES if layer_of(m) == folder and not m.endswith("__init__.py") and not is_generated(m)]
    short = {module: module.removeprefix(f"{folder}/").removesuffix(".py") for module in inside}
    return {short[m]: {short[other] for other in imported(m) if other in short} for m in inside}


def picture() -> str:
    """The text between the two marks."""
    arrows = [f"  {name} --> {step}" for name, steps in sorted(reduced(folders()).items()) for step in steps]
    lines = ["```mermaid", "graph TD", *arrows, "```", ""]
    for folder in ROOMS:
        lines += [f"`{folder}/`, each row imports from the rows below it:", "", "```text"]
        lines += ["  ".join(row) for row in floors(room(folder))]
        lines += ["```", ""]
    return "\n".join(lines)


def in_page(page: str) -> str:
    """The picture that a page has."""
    return page.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Draw it anew."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}{picture()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
