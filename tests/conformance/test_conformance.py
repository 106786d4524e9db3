"""Server mode: the fixture server passes everything, and a gateway in front of it changes nothing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conformance.results import differences, report, rewritten
from tests.conformance.suite import RUN_SECONDS, server_run
from tests.support.gateway import gateway
from tests.support.processes import free_port, http_server

pytestmark = pytest.mark.timeout(2 * RUN_SECONDS + 60)

WIRES = pytest.mark.parametrize(
    ("version", "always", "totals"),
    [
        ("2025-11-25", None, {"SUCCESS": 84}),
        ("2025-06-18", None, {"SUCCESS": 56}),
        # The suite's client proposes 2025-11-25 whatever is tested, so the server has to insist on the older one.
        ("2025-06-18", "2025-06-18", {"SUCCESS": 56}),
        # What came with 2025-11-25, priming events and retry, is then rightly missing.
        ("2025-11-25", "2025-06-18", {"SUCCESS": 81, "WARNING": 2, "INFO": 1}),
    ],
    ids=["2025-11-25", "2025-06-18", "2025-06-18-on-the-wire", "2025-11-25-against-2025-06-18"],
)
"""The scenarios of a version, the version that the server insists on, and what a server with all fixtures reaches."""

OWN_ANSWERS = frozenset({
    "server-session-delete-accepted",  # any 2xx
    "localhost-host-rebinding-rejected",  # any 4xx
    "localhost-host-valid-accepted",  # any 2xx, and with JSON also the body
    # A merged list is one event; the server's stream begins with a priming event, because it can be resumed.
    "server-sse-streams-functional",
    "server-accepts-multiple-post-streams",
})  # fmt: skip
"""Checks whose details are the HTTP answer of whoever was asked, not something that passed through the gateway."""


@asynccontextmanager
async def fixture(directory: Path, always: str | None) -> AsyncIterator[str]:
    """A fixture server. Yields its URL."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.fixture", str(port)]
    async with http_server(command + (["--always", always] if always else []), port, log=directory / "fixture.log"):
        yield f"http://127.0.0.1:{port}/mcp"


@WIRES
async def test_the_fixture_passes_every_check(
    version: str, always: str | None, totals: dict[str, int], tmp_path: Path
) -> None:
    """Without this, a fixture that lost a tool would fail both runs alike, and nothing would differ."""
    async with fixture(tmp_path, always) as url:
        run = await server_run(url, version, tmp_path / "direct")
    assert run.totals() == totals


@WIRES
async def test_the_gateway_changes_no_check(
    version: str, always: str | None, totals: dict[str, int], tmp_path: Path
) -> None:
    async with fixture(tmp_path, always) as url:
        direct = await server_run(url, version, tmp_path / "direct")
        async with gateway(tmp_path, {"fixture": {"url": url, "prefix": ""}}) as running:
            through = await server_run(running.url, version, tmp_path / "gateway")
    found = differences(direct, through)
    assert not found, report(found)
    changed = [difference for difference in rewritten(direct, through) if difference.key.id not in OWN_ANSWERS]
    assert not changed, report(changed)
