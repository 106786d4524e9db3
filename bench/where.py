"""Where the CPU of a call goes: Envoy as a proxy, ext_proc, Envoy's other filters, and the steps of the worker.

Each is a difference of two systems that take turns: plain Envoy, the prototype behind ext_proc alone (:mod:`bench.floor`), and
this gateway. What the worker takes beyond the prototype is divided as its steps are, which the prototype measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bench.rounds import Plan, Rig, Scenario
from bench.slices import Result
from bench.stats import Quartiles
from bench.steps import STEPS_SUFFIX, Steps

_SERVERS = ("s1", "s2", "s3")

HEADINGS: Final = ("CPU µs of", "tools/call", "one event", "64 KiB of arguments")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of call: a column."""

    scenario: Scenario
    gateway: str
    floor: str


_KINDS = (
    _Kind(Scenario(0, 16), "gateway", "floor"),
    _Kind(Scenario(0, 16, "event"), "events", "floor-events"),
    _Kind(Scenario(65_536, 16), "gateway", "floor"),
)


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU of each call of one kind, medians of all rounds."""

    plain: float
    """Plain Envoy."""
    router: float
    """Envoy's `mcp` and `mcp_router`."""
    floor_envoy: float
    floor_worker: float
    """The prototype's."""
    envoy: float
    worker: float
    """This gateway's."""
    steps: Steps

    def rows(self) -> Iterator[tuple[str, float]]:
        """What each part takes. The parts between the first and the last two add up to them."""
        yield "Envoy, forwarding", self.plain
        yield "Envoy, ext_proc and its gRPC stream", self.floor_envoy - self.plain
        yield "Envoy, the other filters", self.envoy - self.floor_envoy
        yield "worker, system calls, event loop, HTTP/2 and gRPC", self.floor_worker
        more, parts = self.worker - self.floor_worker, self.steps.parts()
        whole = sum(parts.values())
        for name, part in parts.items():
            yield f"worker, {name}", more * part / whole
        yield "**all**", self.envoy + self.worker
        yield "of it the prototype", self.floor_envoy + self.floor_worker
        yield "(c) Envoy's mcp + mcp_router", self.router


def measure(
    rounds: int, seconds: float, directory: Path, envoy: Path, on_slice: Callable[[int, str], None]
) -> list[Costs]:
    """Measures all kinds of calls.

    Raises:
        BenchError: a response was wrong or missing.
    """
    found = []
    for number, kind in enumerate(_KINDS):
        plan = Plan(("plain", "router", kind.floor, kind.gateway), (kind.scenario,), seconds, rounds, _SERVERS, 2)
        place = directory / str(number)
        place.mkdir()
        with Rig(plan, place, envoy) as rig:
            done = number * plan.slices
            results = rig.run(partial(_report, on_slice, done)).results[kind.scenario]
            found.append(_costs(results, kind, _steps(place / f"{kind.floor}{STEPS_SUFFIX}", kind)))
    return found


SLICES_A_ROUND: Final = 4 * len(_KINDS)


def _report(on_slice: Callable[[int, str], None], before: int, done: int, what: str) -> None:
    on_slice(before + done, what)


def _steps(file: Path, kind: _Kind) -> Steps:
    """Those of calls of a size and kind: others are from the sessions' beginning."""
    found = [msgspec.json.decode(line, type=Steps) for line in file.read_bytes().splitlines()]
    return max(found, key=lambda each: each.bytes if kind.scenario.content else -each.bytes)


def _costs(results: Mapping[str, Sequence[Result]], kind: _Kind, steps: Steps) -> Costs:
    def of(system: str, process: str) -> float:
        return Quartiles.of(each.cpu[process] / each.calls * 1e6 for each in results[system]).median

    floor, gateway = kind.floor, kind.gateway
    return Costs(
        of("plain", "envoy"), of("router", "envoy"), of(floor, "envoy"), of(floor, "worker"),
        of(gateway, "envoy"), of(gateway, "worker"), steps,
    )  # fmt: skip


def table(costs: Sequence[Costs]) -> str:
    """As Markdown."""
    columns = [list(each.rows()) for each in costs]
    rows = [(cells[0][0], *(f"{value:,.0f}" for _, value in cells)) for cells in zip(*columns, strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *rows))
