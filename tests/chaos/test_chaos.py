"""The chaos tables as tests: every call gets one answer, its own, and who does no harm comes to none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import attacks, records
from tests.chaos.attacks import ATTACKS, Attack
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.records import TROUBLES, Trouble
from tests.chaos.run import run

pytestmark = pytest.mark.timeout(600)  # hundreds of calls, and an attack goes on until it has done what counts


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_calls_while(fault: Fault, tmp_path: Path) -> None:
    load = (await run(fault, tmp_path)).load
    assert load.lost == []
    assert set(load.failed) <= fault.errors
    if fault.spares is not None:
        assert not load.of[fault.spares].failed
    assert load.refused == 0


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_records_while(trouble: Trouble, tmp_path: Path) -> None:
    """No call is harmed, and each request has a line of the audit, or is counted as lost."""
    told = await records.run(trouble, tmp_path)
    assert (told.load.failed, told.load.lost, told.load.refused) == ({}, [], 0)
    if not trouble.loses:
        assert (told.lines, told.audit_lost, told.records_lost) == (told.requests, 0, 0)
    # Of what a collector had when it was killed, nobody knows how much it had written.
    assert told.requests <= told.accounted
    assert trouble.unknown is None or told.accounted <= told.requests + trouble.unknown


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_another_clients_calls_while(attack: Attack, tmp_path: Path) -> None:
    result = await attacks.run(attack, tmp_path)
    assert Counter(result.did) >= Counter(attack.least), "hardly anybody attacked"
    assert Counter(result.server_did) >= Counter(attack.server_least), "the server hardly attacked"
    assert result.during, "no call was answered meanwhile"
    assert (result.load.failed, result.load.lost, result.load.refused) == ({}, [], 0)
