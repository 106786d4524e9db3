"""grpc.health.v1, by which Envoy and orchestrators tell whether a worker takes requests.

Source: grpc/doc/health-checking.md.
"""

from __future__ import annotations

import asyncio

import grpc
import pytest

from mcp_extproc.extproc import _pb as pb
from tests.extproc.rig import Rig
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import DEADLINE

SERVICES = ["", pb.SERVICE_NAME]


@pytest.mark.parametrize("service", SERVICES)
async def test_a_worker_that_serves_says_so(rig: Rig[FakeUpstreams], service: str) -> None:
    assert await rig.client.health(service) == "SERVING"


async def test_a_service_that_is_not_there_is_not_found(rig: Rig[FakeUpstreams]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await rig.client.health("other")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", SERVICES)
async def test_a_worker_that_drains_says_so_first(rig: Rig[FakeUpstreams], service: str) -> None:
    """Whoever watches learns it while the exchanges that run go on."""
    running = await rig.asked()
    async with rig.client.watch_health(service) as states:
        assert await anext(states) == "SERVING"
        stopping = asyncio.create_task(rig.server.stop(grace=DEADLINE))
        assert await anext(states) == "NOT_SERVING"
    running.cancel()
    await stopping


async def test_a_worker_that_drains_never_says_that_it_serves(rig: Rig[FakeUpstreams]) -> None:
    running = await rig.asked()
    async with rig.client.watch_health("") as states:
        assert await anext(states) == "SERVING"
        stopping = asyncio.create_task(rig.server.stop(grace=DEADLINE))
        assert await anext(states) == "NOT_SERVING"
        try:
            assert await rig.client.health("") == "NOT_SERVING"
        except grpc.aio.AioRpcError as refused:
            assert refused.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - either is right
    running.cancel()
    await stopping


async def test_a_worker_without_exchanges_stops_at_once(rig: Rig[FakeUpstreams]) -> None:
    await rig.serves()
    async with asyncio.timeout(DEADLINE):
        await rig.server.stop(grace=10 * DEADLINE)
