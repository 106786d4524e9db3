"""What of one test reaches the next through a gateway that both use: nothing (tests/support/shared_gateways.py)."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import ScriptedServer, hang
from tests.support.waiting import PATIENCE, eventually

OWN = {"separator": "-o-"}
"""No other test has it."""


async def test_one_gateway_serves_several_tests_but_one_at_a_time(start: StartGateway) -> None:
    """Also where the servers are others: they listen at the same port."""
    gateways: list[TestGateway] = []
    for _ in range(2):
        async with ScriptedServer("one") as server, start({"one": server.url}, **OWN) as gateway:
            session = await gateway.initialize()
            assert (await gateway.call(session, "one-o-echo")).result
            assert len(server.calls("initialize")) == len(server.calls("tools/call")) == 1
            gateways.append(gateway)
            if len(gateways) == 2:
                async with start({"one": server.url}, **OWN) as another:
                    gateways.append(another)
    first, second, third = (gateway.local.pids for gateway in gateways)
    assert first == second
    assert set(third.values()).isdisjoint(second.values())


async def test_a_failed_test_keeps_its_gateway_from_others(start: StartGateway, alpha: ScriptedServer) -> None:
    failed: dict[str, int] = {}

    async def fail() -> None:
        async with start({"alpha": alpha.url}, **OWN) as gateway:
            failed.update(gateway.local.pids)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with start({"alpha": alpha.url}, **OWN) as gateway:
        assert set(gateway.local.pids.values()).isdisjoint(failed.values())


async def test_a_gateway_whose_processes_changed_is_not_used_again(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}, **OWN) as gateway:
        before = gateway.local.pids
        gateway.signal_workers(signal.SIGKILL)
        await eventually(lambda: gateway.local.pids, "other workers", until=lambda pids: pids != before)
        changed = gateway.local.pids
    async with start({"alpha": alpha.url}, **OWN) as gateway:
        assert set(gateway.local.pids.values()).isdisjoint({*before.values(), *changed.values()})


async def test_requests_are_over_before_the_next_test(start: StartGateway, alpha: ScriptedServer) -> None:
    """A call whose client left is not one that the next test's server gets."""
    left = asyncio.Event()

    async def notice(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        try:
            return await hang(request, message)
        finally:
            left.set()

    alpha.on["tools/list"] = notice
    async with start({"alpha": alpha.url}, **OWN) as gateway:
        pids = gateway.local.pids
        session = await gateway.initialize()
        pending = asyncio.create_task(gateway.rpc("tools/list", mcp_session_id=session))
        await eventually(lambda: alpha.calls("tools/list"), "the server is asked for its tools")
        pending.cancel()
    async with start({"alpha": alpha.url}, **OWN) as gateway:
        assert gateway.local.pids == pids
        active = "http.mcp_upstreams.downstream_rq_active"
        await eventually(lambda: gateway.local.stat(active), "all is over", until=lambda active: active == 0)
        assert len(alpha.calls("tools/list")) == 1
    async with asyncio.timeout(PATIENCE):
        await left.wait()


async def test_the_access_log_begins_with_the_test(start: StartGateway, alpha: ScriptedServer) -> None:
    for version in ("2025-06-18", "2025-11-25"):
        async with start({"alpha": alpha.url}, **OWN) as gateway:
            await gateway.initialize(version)
            assert (await gateway.logged(mcp_method_name="initialize"))["mcp.protocol.version"] == version
