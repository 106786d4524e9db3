"""One worker: nobody else can connect to it, and all that it started ends with it; what it does by itself."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from mcp_extproc.address import TcpAddress, UnixAddress
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.worker import TRANSPORTS, WorkerOptions, worker
from mcp_extproc.run.worker import transport as transport_of
from mcp_extproc.telemetry.report import Report
from mcp_extproc.upstreams import expiry
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.get_streams import Streams
from tests.support.rawclient import RawClient, request_fields, rpc
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually
from tests.unit.gateway.support import config


class Bug(Exception):
    """Nobody expects it."""


def test_a_worker_imports_no_more_than_it_uses() -> None:
    """It takes most of the time of a start, and of a restart."""
    code = (
        "import sys, mcp_extproc.cli, mcp_extproc.run.worker; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"aiohttp", "pydantic"} <= set(done.stdout.split())
    assert {"envoy_data_plane", "grpc", "rich"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nobody_else_can_ever_connect(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket has its mode when it appears, whatever the umask."""
    kind, modes = transport_of(transport), []
    start = kind.start

    async def started(self: Any) -> None:
        await start(self)
        modes.append(stat.S_IMODE(Path(path).stat().st_mode))

    monkeypatch.setattr(kind, "start", started)
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:  # paths of sockets have to be short
        layout = Layout.in_directory(Path(directory))
        path = str(layout.extproc[0]).removeprefix("unix:")
        before = os.umask(0)
        try:
            async with worker(config(), WorkerOptions(layout.extproc[0], layout.upstreams, None, transport), "s" * 32):
                pass
            assert os.umask(0) == 0
        finally:
            os.umask(before)
    assert modes == [0o600]


async def test_streams_that_break_when_they_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*_: Any) -> NoReturn:
        raise Bug

    closed = []
    close_legs, close_client = LegRunner.close, UpstreamClient.__aexit__

    async def legs_close(self: LegRunner) -> None:
        closed.append("legs")
        await close_legs(self)

    async def client_close(self: UpstreamClient, *args: Any) -> None:
        closed.append("client")
        await close_client(self, *args)

    monkeypatch.setattr(Streams, "close", breaks)
    monkeypatch.setattr(LegRunner, "close", legs_close)
    monkeypatch.setattr(UpstreamClient, "__aexit__", client_close)
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:  # paths of sockets have to be short
        layout = Layout.in_directory(Path(directory))
        options = WorkerOptions(layout.extproc[0], layout.upstreams, layout.batches)
        with pytest.raises(ExceptionGroup) as caught:
            async with worker(config(), options, "s" * 32):
                pass
    assert [type(error) for error in caught.value.exceptions] == [Bug]
    assert closed == ["legs", "client"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_sessions_that_nobody_ends_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client never comes back: once its token has expired, the server's session is of no use. The collector is told."""
    monkeypatch.setattr(expiry, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(expiry, "GRACE_SECONDS", -1e6)  # expired already
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:
        collector, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        async with ScriptedServer() as server:
            upstreams = TcpAddress("127.0.0.1", server.port)
            options = WorkerOptions(UnixAddress(f"{directory}/s"), upstreams, None, collector=end)
            async with worker(config({"a": {}}), options, "s" * 32), RawClient(UnixAddress(f"{directory}/s")) as client:
                exchange = client.exchange()
                await exchange.send_headers(request_fields())
                await exchange.send_body(rpc("initialize", {"protocolVersion": "2025-11-25"}))
                await eventually(lambda: [r for r in server.received if r.http_method == "DELETE"], "it is ended")
            assert not server.sessions
    with collector:
        reports = [msgspec.json.decode(raw, type=Report) for raw in iter(lambda: collector.recv(1 << 18), b"")]
    [expired] = [each for report in reports for each in report.expired]
    assert expired.seconds == config().session.ttl
    assert {count.labels for report in reports for count in report.counts} == {
        (("mcp.server", "a"), ("mcp.leg", "open"))
    }
    assert [report.is_last for report in reports if not report.counts][-1]
