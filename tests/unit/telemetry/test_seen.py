"""Who was there lately."""

from __future__ import annotations

from mcp_extproc.telemetry import seen as seen_lately
from mcp_extproc.telemetry.instruments import SESSIONS_SEEN
from mcp_extproc.telemetry.seen import Seen


def test_who_was_seen() -> None:
    seen = Seen(300, most=3)
    for name, now in (("a", 0.0), ("b", 100.0), ("a", 200.0)):
        seen.see(name, now)
    assert [seen.count(now) for now in (200, 400, 401, 500, 501)] == [2, 2, 1, 1, 0]
    for number in range(10):
        seen.see(str(number), 600)
    assert seen.count(600) == 3


def test_the_metric_has_the_time_in_its_name() -> None:
    assert SESSIONS_SEEN.name.endswith(f"_{seen_lately.SECONDS / 60:g}m")
