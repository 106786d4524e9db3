"""How many records have come is in a file."""

from __future__ import annotations

from pathlib import Path

from mcp_extproc.telemetry.collector.received import Received, received


def test_a_collector_goes_on_where_another_one_ended(tmp_path: Path) -> None:
    assert received(tmp_path / "records") == 0
    Received(tmp_path / "records").add(3)
    again = Received(tmp_path / "records")
    again.add(4)
    assert received(tmp_path / "records") == 7
    assert (tmp_path / "records").stat().st_mode & 0o077 == 0
