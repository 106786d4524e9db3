"""What Envoy knows of its records."""

from __future__ import annotations

from pathlib import Path

from mcp_extproc.telemetry.collector.envoy import SETTLED_SECONDS, Envoy
from mcp_extproc.telemetry.collector.received import Received


def text(written: int, dropped: int = 0) -> str:
    stats = {"written": written, "dropped": dropped}
    lines = [f"envoy_access_logs_grpc_access_log_logs_{name}{{}} {number}" for name, number in stats.items()]
    return "\n".join(["# TYPE envoy_access_logs_grpc_access_log_logs_written counter", *lines, "envoy_other 7\n"])


def test_what_is_missing_is_lost(tmp_path: Path) -> None:
    now = 0.0
    received = Received(tmp_path / "records")
    envoy = Envoy("/none", received, lambda: now)
    envoy.count(text(10))
    assert envoy.lost is None, "they may be on their way"
    received.add(7)
    now += SETTLED_SECONDS / 2
    envoy.count(text(12))
    assert envoy.lost is None
    now += SETTLED_SECONDS / 2
    envoy.count(text(14, dropped=2))
    assert envoy.lost == 2, "it may be that the others are read late"
    now += SETTLED_SECONDS
    envoy.count(text(14, dropped=2))
    assert envoy.lost == 5
    received.add(3)
    now += SETTLED_SECONDS
    envoy.count(text(14, dropped=2))
    assert envoy.lost == 6, "of those that were there before"
    received.add(1)
    now += SETTLED_SECONDS
    envoy.count(text(14, dropped=2))
    assert envoy.lost == 6, "it never goes back"


def test_what_is_read_late_is_not_lost(tmp_path: Path) -> None:
    """By a collector that was held up."""
    now = 0.0
    received = Received(tmp_path / "records")
    envoy = Envoy("/none", received, lambda: now)
    for written, more in ((10, 10), (500, 0), (500, 0), (500, 490), (500, 0)):
        received.add(more)
        envoy.count(text(written))
        now += SETTLED_SECONDS
    assert envoy.lost == 0


def test_another_envoy_begins_anew(tmp_path: Path) -> None:
    now = 0.0
    received = Received(tmp_path / "records")
    received.add(100)
    envoy = Envoy("/none", received, lambda: now)
    for written in (100, 0, 0, 5, 5, 5):
        envoy.count(text(written))
        now += SETTLED_SECONDS
    assert envoy.lost == 5
