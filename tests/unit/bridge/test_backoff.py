from __future__ import annotations

from itertools import pairwise

from mcp_extproc.bridge.backoff import LONGEST, Backoff


def starts(seconds: float) -> list[float]:
    """When a server is started that fails at once."""
    backoff, now, found = Backoff(), 0.0, []
    while now <= seconds:
        found.append(now)
        backoff.failed(now, "ended")
        now += backoff.wait(now)
    return found


def test_few_starts_at_first_and_then_now_and_then() -> None:
    assert len(starts(10)) == 5
    times = starts(300)
    assert max(later - earlier for earlier, later in pairwise(times)) == LONGEST


def test_a_success_begins_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(0, "ended")
    backoff.worked()
    assert backoff.wait(0) == 0
    backoff.failed(0, "ended")
    assert backoff.wait(0) == 0.5
