"""The collector's process: started when there is something to collect, replaced, and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run import visitors
from mcp_extproc.run.collector import CollectorProcess, spec_of
from mcp_extproc.run.known import Gateway
from mcp_extproc.run.page import Page
from mcp_extproc.run.page_file import pages
from mcp_extproc.run.process import StartError
from mcp_extproc.run.report_channel import ReportChannel
from mcp_extproc.run.visitors import MOST
from mcp_extproc.telemetry.collector.spec import AuditTo, Export
from mcp_extproc.telemetry.restarts import RestartCounts
from tests.support.otlp_receiver import over_http
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
async def collector(folder: Path) -> AsyncIterator[CollectorProcess]:
    layout, reports = Layout.in_directory(folder), ReportChannel()

    def gateway() -> Gateway:
        return Gateway(config(), "gateway.yaml", "run", 1975, 1)

    found = CollectorProcess(layout, folder, reports, Page(layout.upstreams, gateway), environ={})
    yield found
    await found.stop()
    reports.close()


def is_served(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(folder / "collector.sock")) == 0


def test_what_it_is_told(folder: Path) -> None:
    layout = Layout.in_directory(folder)
    assert spec_of(config(), {}, layout, folder) is None
    assert spec_of(config(audit={"file": "a"}), {}, replace(layout, collector=None), folder) is None
    audit = spec_of(config(audit={"file": "logs/a", "keep": 3}), {"OTEL_SERVICE_NAME": "n"}, layout, folder)
    assert audit is not None
    assert audit.audit_file == AuditTo(str(folder / "logs" / "a"), 100 << 20, 3)
    assert (audit.resource["service.name"], audit.traces, audit.metrics_address) == ("n", None, None)
    traces = {"traces": {"endpoint": "http://c:4317", "headers": {"x-key": "k"}, "sample": 0.25}}
    sent = spec_of(config(telemetry=traces), {}, layout, folder)
    assert sent is not None
    assert (sent.traces, sent.ratio, sent.audit_file) == (Export("http://c:4317", True, {"x-key": "k"}), 0.25, None)


@pytest.mark.parametrize(
    ("metrics", "page", "address", "at_page"),
    [
        ({}, None, "127.0.0.1:0", False),
        ({}, 7, None, True),
        ({"address": "127.0.0.1:9464"}, 7, "127.0.0.1:9464", False),
        ({"address": "127.0.0.1:9901"}, 7, None, True),
        ({"otlp": {"endpoint": "http://c"}}, None, None, False),
        ({"otlp": {"endpoint": "http://c"}}, 7, None, True),
    ],
)
def test_where_prometheus_finds_metrics(
    folder: Path, metrics: Any, page: int | None, address: str | None, at_page: bool
) -> None:
    both = config(telemetry={"metrics": metrics}, status={"address": "127.0.0.1:9901"})
    found = spec_of(both, {}, Layout.in_directory(folder), folder, page)
    assert found is not None
    assert found.metrics_address == address
    assert (found.page is not None and found.page.has_metrics) == at_page


def test_records_come_on_demand_only_where_nothing_else_wants_them(folder: Path) -> None:
    layout = Layout.in_directory(folder)

    def on_demand(layout: Layout, **sections: Any) -> bool:
        found = spec_of(config(**sections), {}, layout, folder, 7)
        assert found is not None
        assert found.page is not None
        return found.page.records_on_demand

    assert on_demand(layout)
    assert not on_demand(layout, audit={"file": "a"})
    assert not on_demand(layout, telemetry={"traces": {"endpoint": "http://c:4317"}})
    assert not on_demand(replace(layout, admin=None))


async def test_a_life(collector: CollectorProcess, folder: Path) -> None:
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


async def test_it_is_started_again(collector: CollectorProcess, folder: Path) -> None:
    """And told how often that was."""
    await collector.serve(config(audit={"file": "a"}))
    first = collector.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: collector.pid != first and is_served(folder), "another one serves")
    assert collector._reports.restarts == RestartCounts(collector=1)


async def test_for_a_page_that_nobody_looks_at_there_is_no_process(
    collector: CollectorProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    await collector.serve(config(status={"address": "127.0.0.1:0"}))
    [page] = pages()
    assert collector.pid is None
    async with aiohttp.ClientSession() as http:
        async with http.get(page.url) as response:
            assert response.status == 200
        # It answers as soon as it runs, and its id is known here a little later.
        first = await eventually(lambda: collector.pid, "its process")
        assert first is not None

        async def is_told() -> bool:
            async with http.get(f"{page.url}state") as response:
                known = (await response.json())["known"]
                return known is not None and known["file"] == "gateway.yaml"

        await eventually(is_told, "the page is told what it shows")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: collector.pid != first, "another one")
        async with http.get(page.url) as response:
            assert response.status == 200
        await collector.serve(config())
        assert pages() == []
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(page.url)


async def test_attack_a_scan_of_ports_starts_no_process(
    collector: CollectorProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor whoever connects and says nothing, or something else than HTTP. Who asks is answered, however many those are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(visitors, "SILENT_SECONDS", 60)
    await collector.serve(config(status={"address": "127.0.0.1:0"}))
    [page] = pages()
    parts = urlsplit(page.url)

    async def connect(start: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(start)
        return reader, writer

    async with AsyncExitStack() as left:
        # The last one of these is read only after all before it.
        for start in (b"", b"\x16\x03\x01\x02\x00", b"ssh", b"\r\n\r\n"):
            reader, writer = await connect(start)
            left.callback(writer.close)
            with suppress(ConnectionResetError):  # what it sent is not read
                assert not start or await reader.read() == b""
        (await connect())[1].close()
        silent = [await connect() for _ in range(MOST + 1)]
        for _, writer in silent:
            left.callback(writer.close)
        assert await silent[0][0].read() == b"", "more than those are not waited for"
        assert collector.pid is None
        reader, writer = silent[-1]
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        await eventually(lambda: collector.pid, "its process")
        # Whoever was connected as well is served, too.
        reader, writer = silent[-2]
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


async def test_attack_who_says_nothing_has_to_leave(
    collector: CollectorProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(visitors, "SILENT_SECONDS", 0.01)
    await collector.serve(config(status={"address": "127.0.0.1:0"}))
    parts = urlsplit(pages()[0].url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    assert await reader.read() == b""
    writer.close()
    assert collector.pid is None


async def test_an_address_of_the_page_that_is_taken(collector: CollectorProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(StartError, match=rf"cannot listen on {address}.*status\.address"):
            await collector.serve(config(status={"address": address}))


async def test_an_audit_that_can_not_be_written(collector: CollectorProcess, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StartError, match="the collector ended at start"):
        await collector.serve(config(audit={"file": "no/such/folder/a"}))
    assert "audit.file" in capfd.readouterr().err


async def test_metrics_at_an_address_that_is_taken(
    collector: CollectorProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(StartError, match="the collector ended at start"):
            await collector.serve(config(telemetry={"metrics": {"address": address}}))
    said = capfd.readouterr().err
    assert said == (
        f"cannot serve metrics on {address}: Address already in use. Choose another address with telemetry.metrics.address.\n"
    )
    assert "Traceback" not in said


def test_what_is_off_is_not_imported() -> None:
    """By the supervisor and the workers: neither the exporters nor what reads records."""
    program = (
        "import sys, mcp_extproc.run.standalone, mcp_extproc.run.workers, mcp_extproc.run.worker\n"
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry', 'mcp_extproc.telemetry'))))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert not [name for name in found if name.startswith("opentelemetry")]
    mine = {name for name in found if name.startswith("mcp_extproc.telemetry")}
    unwanted = ("_pb", "records.messages", "records.line_reader", "exchange", "spans", "totals")
    assert not mine & {f"mcp_extproc.telemetry.{name}" for name in unwanted}
    assert mine & {"mcp_extproc.telemetry.collector.spec"}


async def test_variables_are_read_once(
    collector: CollectorProcess, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is refused with a warning is not taken by the library all the same, nor warned of by it in other words."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b,hunter2")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    async with over_http() as received:
        await collector.serve(config(telemetry={"metrics": {"otlp": {"endpoint": received.url}}}))
        await collector.stop()  # what is known by then is sent
        [resource] = {
            tuple(sorted((one.key, one.value.string_value) for one in each.resource.attributes))
            for request in received.requests
            for each in request.resource_metrics
        }
    found = dict(resource)
    assert found["service.name"] == "mcp-extproc"
    assert "service.instance.id" in found
    assert "a" not in found
    assert "library_message" not in capfd.readouterr().err
