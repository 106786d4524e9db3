"""Client mode: the suite is the only server of a gateway, and checks what the gateway sends it.

Only scenarios for versions with a handshake. The base line is the same client without gateway.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.results import differences, report
from tests.conformance.suite import RUN_SECONDS, client_run

pytestmark = pytest.mark.timeout(2 * RUN_SECONDS + 60)

DRIVER = (sys.executable, "-W", "ignore", "-m", "tests.conformance.driver")

SCENARIOS = pytest.mark.parametrize(
    ("scenario", "version", "totals"),
    [
        ("initialize", "2025-06-18", {"SUCCESS": 1, "INFO": 1}),
        ("tools_call", "2025-06-18", {"SUCCESS": 2}),
        ("initialize", "2025-11-25", {"SUCCESS": 1, "INFO": 1}),
        ("tools_call", "2025-11-25", {"SUCCESS": 2}),
        ("sse-retry", "2025-11-25", {"SUCCESS": 3}),
        ("elicitation-sep1034-client-defaults", "2025-11-25", {"SUCCESS": 5}),
        ("json-schema-2020-12-preservation", "2025-11-25", {"SUCCESS": 9}),
    ],
)


@SCENARIOS
async def test_the_client_passes_every_check(
    scenario: str, version: str, totals: dict[str, int], tmp_path: Path
) -> None:
    assert (await client_run(DRIVER, scenario, version, tmp_path)).totals() == totals


@SCENARIOS
async def test_the_gateway_as_a_client_passes_the_same(
    scenario: str, version: str, totals: dict[str, int], tmp_path: Path
) -> None:
    direct = await client_run(DRIVER, scenario, version, tmp_path / "direct")
    through = await client_run([*DRIVER, "--gateway"], scenario, version, tmp_path / "gateway")
    found = differences(direct, through)
    assert not found, report(found)
