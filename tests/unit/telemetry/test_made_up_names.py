"""Names that a client makes up, in the metrics: they crowd out none that a server lists."""

from __future__ import annotations

import msgspec

from mcp_extproc.telemetry.collector.intake import Intake
from mcp_extproc.telemetry.instruments import REQUESTS, SERVER_DURATION, Instrument
from mcp_extproc.telemetry.spans import Tracing
from mcp_extproc.telemetry.totals import Family, Totals
from tests.unit.telemetry.support import CALL

MADE_UP = 2000
ROOM = 10


def family(intake: Intake, instrument: Instrument) -> Family:
    return next(each for each in intake.families(0.0) if each.instrument is instrument)


def test_attack_two_thousand_names_before_the_first_real_one() -> None:
    intake = Intake(Tracing(0, parent_based=True), lambda size: "1" * (2 * size), totals=Totals(ROOM))
    intake.take([msgspec.structs.replace(CALL, tool=f"made-up-{number}") for number in range(MADE_UP)])
    real = [f"real-{number}" for number in range(ROOM)]
    intake.take([msgspec.structs.replace(CALL, tool=name, listed=True) for name in real])
    requests, durations = family(intake, REQUESTS).numbers, family(intake, SERVER_DURATION).distributions
    expected = {"other": MADE_UP, **dict.fromkeys(real, 1)}
    assert {dict(labels)["gen_ai.tool.name"]: number for labels, number in requests.items()} == expected
    assert {dict(labels)["gen_ai.tool.name"]: each.count for labels, each in durations.items()} == expected
