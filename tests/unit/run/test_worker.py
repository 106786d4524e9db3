"""One worker: nobody else can connect to it, and all that it started ends with it, also where ending one of them breaks."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.worker import TRANSPORTS, WorkerOptions, worker
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.get_streams import Streams
from tests.unit.gateway.support import config


class Bug(Exception):
    """Nobody expects it."""


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
async def test_nobody_else_can_ever_connect(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket has its mode when it appears, whatever the umask."""
    kind, modes = TRANSPORTS[transport], []
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
