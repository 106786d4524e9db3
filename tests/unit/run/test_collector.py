"""The collector's process: started when there is something to collect, replaced, and restarted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.collector import Collector, told
from mcp_extproc.run.process import StartError
from mcp_extproc.run.reports import Reports
from mcp_extproc.telemetry.collector.spec import AuditTo, Export, Restarts
from tests.support.waiting import eventually

SERVERS = {"servers": {"a": {"url": "http://a"}}}


def config(**sections: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({**SERVERS, **sections})


@pytest.fixture
def folder() -> Any:
    # Short, for the socket's path.
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
async def collector(folder: Path) -> AsyncIterator[Collector]:
    reports = Reports()
    found = Collector(Layout.in_directory(folder), folder, reports, {})
    yield found
    await found.stop()
    reports.close()


def is_served(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(folder / "collector.sock")) == 0


def test_what_it_is_told(folder: Path) -> None:
    layout = Layout.in_directory(folder)
    assert told(config(), {}, layout, folder) is None
    assert told(config(audit={"file": "a"}), {}, replace(layout, collector=None), folder) is None
    audit = told(config(audit={"file": "logs/a", "keep": 3}), {"OTEL_SERVICE_NAME": "n"}, layout, folder)
    assert audit is not None
    assert audit.audit_file == AuditTo(str(folder / "logs" / "a"), 100 << 20, 3)
    assert (audit.resource["service.name"], audit.traces, audit.metrics_address) == ("n", None, None)
    traces = {"traces": {"endpoint": "http://c:4317", "headers": {"x-key": "k"}, "sample": 0.25}}
    sent = told(config(telemetry=traces), {}, layout, folder)
    assert sent is not None
    assert (sent.traces, sent.ratio, sent.audit_file) == (Export("http://c:4317", True, {"x-key": "k"}), 0.25, None)


@pytest.mark.parametrize(
    ("metrics", "status", "address"),
    [
        ({}, {}, "127.0.0.1:0"),
        ({}, {"address": "127.0.0.1:9901"}, "127.0.0.1:9901"),
        ({"address": "127.0.0.1:9464"}, {"address": "127.0.0.1:9901"}, "127.0.0.1:9464"),
        ({"otlp": {"endpoint": "http://c"}}, {}, None),
    ],
)
def test_where_prometheus_finds_metrics(folder: Path, metrics: Any, status: Any, address: str | None) -> None:
    found = told(config(telemetry={"metrics": metrics}, status=status), {}, Layout.in_directory(folder), folder)
    assert found is not None
    assert found.metrics_address == address


async def test_a_life(collector: Collector, folder: Path) -> None:
    await collector.serve(config())
    assert collector.pid is None
    await collector.serve(config(audit={"file": "a"}))
    first = collector.pid
    assert first is not None
    assert is_served(folder)
    assert (folder / "a").exists()

    await collector.serve(config(audit={"file": "a"}))
    assert collector.pid == first
    await collector.serve(config(audit={"file": "b"}))
    assert collector.pid not in (None, first)
    assert (folder / "b").exists()

    await collector.serve(config())
    assert collector.pid is None
    assert not (folder / "collector.sock").exists()


async def test_it_is_started_again(collector: Collector, folder: Path) -> None:
    """And told how often that was."""
    await collector.serve(config(audit={"file": "a"}))
    first = collector.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: collector.pid != first and is_served(folder), "another one serves")
    assert collector._reports.restarts == Restarts(collector=1)


async def test_an_audit_that_can_not_be_written(collector: Collector, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StartError, match="the collector ended at start"):
        await collector.serve(config(audit={"file": "no/such/folder/a"}))
    assert "audit.file" in capfd.readouterr().err


def test_what_is_off_is_not_imported() -> None:
    """By the supervisor and the workers: neither the exporters nor what reads records."""
    program = (
        "import sys, mcp_extproc.run.standalone, mcp_extproc.run.workers, mcp_extproc.run.worker\n"
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry', 'mcp_extproc.telemetry'))))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert not [name for name in found if name.startswith("opentelemetry")]
    mine = {name for name in found if name.startswith("mcp_extproc.telemetry")}
    assert not mine & {f"mcp_extproc.telemetry.{name}" for name in ("_pb", "records", "exchange", "spans", "totals")}
    assert mine & {"mcp_extproc.telemetry.collector.spec"}
