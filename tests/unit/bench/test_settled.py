"""Rounds whose CPU is charged as a whole."""

from __future__ import annotations

import pytest

from bench.settled import IDLE_SECONDS, Slice, WholeRounds
from bench.slices import Result


class Machine:
    """Two systems, of which one goes on with timers, and with its calls after they are answered."""

    def __init__(self) -> None:
        self.now = 100.0
        self.clocks = {"quiet": {"envoy": 5.0}, "telling": {"envoy": 7.0, "collector": 1.0}}
        self._late = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.clocks["telling"]["collector"] += 0.001 * seconds + self._late
        self._late = 0.0

    def calls(self, system: str, requests: int) -> Result:
        """Of which a fifth is the warm-up. Whoever reads the clocks now sees nothing of the collector's work."""
        self.wait(0.5)
        self.clocks[system]["envoy"] += requests * 0.0002
        self._late += requests * 0.0001 if system == "telling" else 0.0
        cpu = dict.fromkeys(self.clocks[system], 0.0) | {"upstream": 9.0}
        return Result(calls=requests * 4 // 5, seconds=0.5, p50=1.0, p99=None, cpu=cpu, client_cpu=1.0)

    def read(self) -> dict[str, dict[str, float]]:
        return {system: dict(clocks) for system, clocks in self.clocks.items()}


def test_what_is_done_later_is_the_rounds_and_what_is_done_without_calls_nobodys() -> None:
    machine = Machine()
    whole = WholeRounds(machine.read, 2.0, machine.wait, lambda: machine.now)
    assert machine.now == 102 + 2 * IDLE_SECONDS
    for _ in range(2):
        slices = [Slice(name, 1000, machine.calls(name, 1000)) for name in ("telling", "quiet")]
        telling, quiet = whole.settled(slices)
        assert telling.cpu == pytest.approx({"envoy": 0.16, "collector": 0.08, "upstream": 9.0})
        assert quiet.cpu == pytest.approx({"envoy": 0.16, "upstream": 9.0})
        assert (telling.calls, telling.p50) == (800, 1.0)


def test_what_a_start_leaves_to_do_is_not_taken_off() -> None:
    machine = Machine()
    begun = machine.now

    def wait(seconds: float) -> None:
        if begun + 2 < machine.now + seconds and machine.now <= begun + 2:
            machine.clocks["telling"]["collector"] += 0.013
        machine.wait(seconds)

    whole = WholeRounds(machine.read, 2.0, wait, lambda: machine.now)
    (telling,) = whole.settled([Slice("telling", 1000, machine.calls("telling", 1000))])
    assert telling.cpu["collector"] == pytest.approx(0.08)


def test_slices_of_a_system_share_its_round() -> None:
    machine = Machine()
    whole = WholeRounds(machine.read, 2.0, machine.wait, lambda: machine.now)
    first, second = whole.settled([Slice("quiet", number, machine.calls("quiet", number)) for number in (1000, 3000)])
    assert (first.cpu["envoy"], second.cpu["envoy"]) == pytest.approx((0.16, 0.48))
