"""How a bridge by itself follows its configuration, without processes. With them: tests/e2e/test_bridge.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_extproc.config import FileSource, GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run import changes
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.standing_bridge import StandingBridge
from tests.support.waiting import eventually


class Bug(Exception):
    """Nobody expects it."""


async def nothing(*_: object) -> None:
    """Instead of a process."""


async def test_the_watcher_outlives_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named as what it is, and the next edit is taken up at once."""
    served: list[set[str]] = []

    async def serve(_: Bridge, config: GatewayConfig) -> None:
        served.append(set(config.servers))
        if "b" in config.servers:
            raise Bug

    def write(name: str) -> None:
        file.write_text(f"servers: {{{name}: {{command: [cat]}}}}")

    monkeypatch.setattr(changes, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(Bridge, "begin", nothing)
    monkeypatch.setattr(Bridge, "serve", serve)
    file = tmp_path / "gateway.yaml"
    write("a")
    source = FileSource(file, {})
    async with StandingBridge(source, source.load(), Layout.in_directory(tmp_path)):
        write("b")
        await eventually(lambda: served, "the old one again", until=lambda seen: seen == [{"b"}, {"a"}])
        write("c")
        await eventually(lambda: served[-1], "the next one", until=lambda names: names == {"c"})
    events = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in events] == ["config_refused"]
    assert events[0].__dict__["mcp_fields"]["why"].startswith("the bridge failed to take it up (Bug)")
