"""How many records have come is in a file."""

from __future__ import annotations

from pathlib import Path

from mcp_extproc.telemetry.collector.received import Received


def test_a_collector_goes_on_where_another_one_ended(tmp_path: Path) -> None:
    first = Received(tmp_path / "records")
    assert (first.number, first.lost) == (0, 0)
    first.taking(5)
    first.add(3)
    assert (first.number, first.lost) == (3, 2)
    again = Received(tmp_path / "records")
    again.taking(4)
    again.add(4)
    assert (again.number, again.lost) == (7, 2)
    assert (tmp_path / "records").stat().st_mode & 0o077 == 0


def test_what_the_supervisor_throws_away_is_lost(tmp_path: Path) -> None:
    supervisors, collectors = Received(tmp_path / "records"), Received(tmp_path / "records")
    collectors.taking(1)
    supervisors.drop(3)
    collectors.add(1)
    supervisors.drop(1)
    assert collectors.lost == Received(tmp_path / "records").lost == 4
