"""The chaos table as tests: every call gets one answer, its own, and in the end all are well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import SERVERS
from tests.chaos.run import run


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_calls_while(fault: Fault, tmp_path: Path) -> None:
    load = (await run(fault, tmp_path)).load
    assert load.lost == []
    assert set(load.failed) <= fault.errors
    if fault.most is not None:
        assert load.failed.total() <= fault.most
    if fault.spares is not None:
        assert not load.of[fault.spares].failed
    assert [load.of[server].refused for server in SERVERS] == [0, 0]
