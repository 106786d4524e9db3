"""One worker's end: all that it started ends with it, also where ending one of them breaks."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.worker import WorkerOptions, worker
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.get_streams import Streams
from tests.unit.gateway.support import config


class Bug(Exception):
    """Nobody expects it."""


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
