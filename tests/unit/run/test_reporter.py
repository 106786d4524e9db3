"""A worker reports, and keeps what nobody takes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest

from mcp_extproc.bounded import Lookups
from mcp_extproc.run import reporter
from mcp_extproc.run.reporter import Reporter
from mcp_extproc.telemetry.accumulator import Accumulator
from mcp_extproc.telemetry.report import Report
from tests.support.waiting import eventually


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    monkeypatch.setattr(reporter, "SECONDS", 0.001)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def read(collector: socket.socket) -> list[Report]:
    found = []
    try:
        while raw := collector.recv(1 << 18, socket.MSG_DONTWAIT):
            found.append(msgspec.json.decode(raw, type=Report))
    except BlockingIOError:
        pass
    return found


async def test_how_it_is_and_what_it_did(ends: tuple[socket.socket, socket.socket]) -> None:
    collector, worker = ends
    accumulator, lookups = Accumulator(7), Lookups()
    found: list[Report] = []
    reports = Reporter(worker, accumulator, lambda: 2, lambda: 3, {"merged_lists": lookups})
    lookups.hits += 2
    reports.start()

    def counted() -> int:
        found.extend(read(collector))
        return sum(count.number for report in found for count in report.counts)

    await eventually(counted, "hits", until=lambda number: number == 2)
    lookups.misses += 1
    await eventually(counted, "a miss", until=lambda number: number == 3)
    [*_, state] = [report.state for report in found if report.state is not None]
    assert (state.streams, state.sessions, state.rss is None or state.rss > 1 << 20) == (2, 3, True)
    accumulator.leg("notes", "close", None)
    await reports.close()
    found.extend(read(collector))
    assert (counted(), found[-1].is_last) == (4, True)


async def test_what_nobody_takes_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    """For a collector that is busy, or started again: counts are whole in the end."""
    collector, worker = ends
    accumulator = Accumulator(7)
    reports = Reporter(worker, accumulator, lambda: 0, lambda: 0, {})
    while True:  # until no more fits
        try:
            worker.send(msgspec.json.encode(Report(pid=1)), socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    reports.start()
    for _ in range(50):
        accumulator.leg("notes", "list", None)
    await eventually(lambda: reports.waits, "it can't be told")
    accumulator.leg("notes", "list", None)
    found: list[Report] = []

    def counted() -> int:
        found.extend(read(collector))
        return sum(count.number for report in found for count in report.counts)

    await eventually(counted, "all of it", until=lambda number: number == 51)
    await reports.close()


async def test_a_supervisor_that_is_gone_is_no_matter(ends: tuple[socket.socket, socket.socket]) -> None:
    collector, worker = ends
    collector.close()
    reports = Reporter(worker, Accumulator(7), lambda: 0, lambda: 0, {})
    reports.start()
    await reports.close()
