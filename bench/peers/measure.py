"""One peer beside Envoy's own filters and this gateway: builds it, starts all three, and has them take turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import BenchError
from bench.machine import Watch, code
from bench.peers.peer import Peer
from bench.peers.records import NATIVE, OURS, PEER, Record, megabytes, rows
from bench.peers.workshop import Workshop
from bench.rounds import Plan, Rig, Scenario
from bench.systems import SYSTEMS
from bench.tools import tool_names

_SERVERS = ("s1", "s2", "s3")
_TOOLS = 50

LOADS = {
    "calls, 16 connections": Scenario(0, 16, slow=True),
    "calls, 1 connection": Scenario(0, 1, slow=True),
    "one event, 16 connections": Scenario(0, 16, "event", slow=True),
    "lists, 1 connection": Scenario(0, 1, "list", slow=True),
}
"""By their names in the tables: small `tools/call` answered in JSON and by one event, and `tools/list`."""


def plan(rounds: int, seconds: float) -> Plan:
    """Slices of the three systems in turn."""
    return Plan((NATIVE, OURS, PEER), tuple(LOADS.values()), seconds, rounds, _SERVERS, _TOOLS, references=(NATIVE,))


def prepare(peer: Peer, workshop: Workshop) -> None:
    """Builds it. Raises BenchError if that is not possible."""
    if not peer.built(workshop).exists() and (missing := peer.missing()):
        raise BenchError(missing)
    peer.build(workshop)


def measure(
    peer: Peer,
    workshop: Workshop,
    planned: Plan,
    directory: Path,
    envoy: Path,
    on_slice: Callable[[int, str], None],
) -> Record:
    """Runs the plan.

    Args:
        peer: that is built.
        workshop: where.
        planned: the slices.
        directory: for files of all processes.
        envoy: Envoy's binary.
        on_slice: as in `Rig.run`.

    Raises:
        BenchError: one of the three systems fails.
    """
    watch = Watch()
    systems = {NATIVE: SYSTEMS[NATIVE], OURS: SYSTEMS[OURS], PEER: peer.system(workshop, tool_names(planned.tools))}
    with Rig(planned, directory, envoy, systems) as rig:
        outcome = rig.run(on_slice)
    about = code(planned.seconds, planned.rounds, envoy) | watch.about()
    return replace(
        empty(peer),
        about=about,
        loads={load: rows(outcome, scenario) for load, scenario in LOADS.items()},
        memory=megabytes(outcome),
    )


def empty(peer: Peer, failure: str = "") -> Record:
    """A record without figures, of today."""
    day = datetime.now(UTC).date().isoformat()
    return Record(peer.name, peer.title, peer.version, peer.released, peer.remark, day, failure=failure)
