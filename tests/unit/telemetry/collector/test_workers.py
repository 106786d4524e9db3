"""What is known of workers: of those that are there, and for as long as they say so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from mcp_extproc.telemetry.collector.workers import SILENT_SECONDS, Workers
from mcp_extproc.telemetry.instruments import MEMORY
from mcp_extproc.telemetry.report import Count, Report, State
from mcp_extproc.telemetry.restarts import RestartCounts
from tests.support.waiting import eventually


class Now:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def told(pid: int, at: float = 100.0, **changes: Any) -> bytes:
    state = {"at": at, "started": float(pid), "streams": 2, "sessions": 1, "rss": 1000 * pid, "lag": 0.25, **changes}
    return msgspec.json.encode(Report(pid=pid, state=State(**state)))


def numbers(workers: Workers) -> Mapping[str, float]:
    return {family.instrument.name: sum(family.numbers.values()) for family in workers.families()}


def test_nothing_is_known_of_whom_nobody_has_heard() -> None:
    assert numbers(Workers(lambda _: None, Now())) == {}


def test_those_that_report() -> None:
    now = Now()
    workers = Workers(lambda _: None, now)
    workers.take(told(2))
    workers.take(told(1, rss=None))
    assert [(each.pid, each.at, each.streams, each.rss) for each in workers.state()] == [
        (1, 100.0, 2, None),
        (2, 100.0, 2, 2000),
    ]
    assert numbers(workers) == {"mcp.gateway.workers": 2, "mcp.gateway.streams": 4, "mcp.gateway.memory": 2000}
    [memory] = [family for family in workers.families() if family.instrument is MEMORY]
    assert [dict(labels) for labels in memory.numbers] == [{"mcp.process": "worker", "process.pid": "2"}]

    now.seconds += SILENT_SECONDS - 1
    workers.take(told(1, at=now.seconds))
    workers.take(told(3, at=now.seconds - SILENT_SECONDS))
    now.seconds += 1
    assert [each.pid for each in workers.state()] == [1], "one has died, and one was long dead when this was read"
    workers.take(msgspec.json.encode(Report(pid=1, is_last=True)))
    assert numbers(workers) == {}


def test_restarts() -> None:
    workers = Workers(lambda _: None, Now())
    workers.restarts = RestartCounts(worker=1)
    workers.take(told(1))
    assert numbers(workers)["mcp.gateway.worker.restarts"] == 1
    workers.take(msgspec.json.encode(Report(restarts=RestartCounts(worker=2))))
    found = numbers(workers)
    assert (found["mcp.gateway.worker.restarts"], found["mcp.gateway.collector.restarts"]) == (2, 0)
    assert found["mcp.gateway.workers"] == 1


async def test_messages_come_one_by_one() -> None:
    """Those that can't be read are left out, and whoever can write may go."""
    reports: list[Report] = []
    workers = Workers(reports.append, Now())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        workers.listen(ours)
        with theirs:
            for message in (
                b"{",
                msgspec.json.encode(Report(pid=1, counts=(Count("n", (), 1),), spans_lost=3)),
                told(1),
            ):
                theirs.send(message)
        await eventually(lambda: len(reports) == 2, "all that can be read")
        assert workers.spans_lost == 3
        await eventually(lambda: not asyncio.get_running_loop().remove_reader(ours), "nobody listens any more")
