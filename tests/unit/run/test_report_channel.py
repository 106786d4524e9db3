"""The way from workers to the collector."""

from __future__ import annotations

import socket

import msgspec

from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.telemetry.report import Report
from mcp_extproc.telemetry.restarts import RestartCounts


def test_nothing_is_opened_before_it_is_used() -> None:
    reports = ReportChannel()
    reports.restarts.worker += 1
    reports.tell_restarts()
    reports.close()


def test_nobody_waits_for_a_collector_that_does_not_read() -> None:
    reports = ReportChannel()
    with socket.socket(fileno=reports.collector_end) as collector:
        for worker in range(1, 1000):
            reports.restarts.worker = worker
            reports.tell_restarts()
        found = [msgspec.json.decode(collector.recv(1 << 16), type=Report).restarts for _ in range(2)]
        assert found == [RestartCounts(worker=1), RestartCounts(worker=2)]
        collector.detach()
    reports.close()


def test_who_is_gone() -> None:
    reports = ReportChannel()
    with socket.socket(fileno=reports.collector_end) as collector:
        reports.tell_end(7)
        report = msgspec.json.decode(collector.recv(1 << 16), type=Report)
        assert (report.pid, report.is_last) == (7, True)
        collector.detach()
    reports.close()
