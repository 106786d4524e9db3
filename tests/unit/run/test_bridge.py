"""The bridge's process, where it can't be started. Real ones: tests/e2e/test_stdio.py."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run import bridge as bridge_module
from mcp_extproc.run.bridge import Bridge

CONFIG = GatewayConfig.model_validate({"servers": {"a": {"command": ["cat"]}}})


async def no_process(*_: object, **__: object) -> None:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    monkeypatch.setattr(bridge_module, "spawn", no_process)
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:  # paths of sockets have to be short
        yield Bridge(Layout.in_directory(Path(directory)), Path(directory))


async def test_a_first_start_that_failed_is_tried_again(bridge: Bridge) -> None:
    """Its own socket is not in the way."""
    for _ in range(2):
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            await bridge.serve(CONFIG)
    await bridge.stop()


async def test_a_start_that_failed_leaves_no_pipe_open(bridge: Bridge) -> None:
    """It is tried again and again."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only how many
    with pytest.raises(OSError, match="Resource temporarily unavailable"):
        await bridge.serve(CONFIG)
    await bridge.stop()
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - only how many
