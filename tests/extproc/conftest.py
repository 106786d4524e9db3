"""Fixtures of the raw-protocol tests: each runs on every transport, on the event loop that workers run on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop

from tests.extproc import rig as rigs
from tests.extproc.rig import TRANSPORTS, Rig, Transport
from tests.support.fake_upstreams import FakeUpstreams


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def without_grpcs_noise() -> Iterator[None]:
    """With several event loops in one process, gRPC's poller reads what another one has read already (``BlockingIOError``),
    now and then. asyncio logs it, in whichever test is running."""

    def is_of_a_test(record: logging.LogRecord) -> bool:
        return "PollerCompletionQueue._handle_events" not in record.getMessage()

    log = logging.getLogger("asyncio")
    log.addFilter(is_of_a_test)
    yield
    log.removeFilter(is_of_a_test)


@pytest.fixture(params=sorted(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> Transport:
    return TRANSPORTS[request.param]


@pytest.fixture
async def rig(transport: Transport) -> AsyncIterator[Rig[FakeUpstreams]]:
    async with rigs.rig(transport, rigs.fakes) as running:
        yield running
