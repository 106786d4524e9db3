"""Fixtures of the raw-protocol tests: each runs on every transport, on the event loop that workers run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.extproc import rig as rigs
from tests.extproc.rig import TRANSPORTS, Rig, Transport
from tests.support.fake_upstreams import FakeUpstreams


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=sorted(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> Transport:
    return TRANSPORTS[request.param]


@pytest.fixture
async def rig(transport: Transport) -> AsyncIterator[Rig[FakeUpstreams]]:
    async with rigs.rig(transport, rigs.fakes) as running:
        yield running
