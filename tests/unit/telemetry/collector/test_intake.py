"""Records in; spans, values and lines out."""

from __future__ import annotations

import msgspec

from mcp_extproc.telemetry.collector.intake import Intake
from mcp_extproc.telemetry.instruments import REQUESTS
from mcp_extproc.telemetry.spans import Tracing
from mcp_extproc.telemetry.totals import Totals
from tests.unit.telemetry.support import CALL


def test_a_name_that_one_worker_knows_is_known() -> None:
    """Until then it may be made up."""
    totals = Totals(10)
    intake = Intake(Tracing(1, parent_based=True), lambda size: "1" * (2 * size), totals=totals)
    known = msgspec.structs.replace(CALL, listed=True)
    intake.take(
        [CALL, known, CALL, msgspec.structs.replace(CALL, server="wiki"), msgspec.structs.replace(CALL, tool="x")]
    )
    [requests] = [family for family in intake.families(0.0) if family.instrument is REQUESTS]
    counted = {
        (dict(labels)["gen_ai.tool.name"], dict(labels)["mcp.server"]): n for labels, n in requests.numbers.items()
    }
    assert counted == {("other", "notes"): 2, ("add", "notes"): 2, ("other", "wiki"): 1}
