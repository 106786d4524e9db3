"""Fixtures of the end-to-end tests: real Envoy, a real worker, servers on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.support import gateway as support
from tests.support.scripted import ScriptedServer
from tests.support.shared_gateways import SharedGateways

StartGateway = Callable[..., AbstractAsyncContextManager[support.TestGateway]]


@pytest.fixture(scope="session")
def shared_gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedGateways]:
    with SharedGateways(tmp_path_factory.mktemp("gateways")) as gateways:
        yield gateways


@pytest.fixture
def start(shared_gateways: SharedGateways) -> StartGateway:
    """Start a gateway, or take one that other tests left: ``async with start({"name": url}) as gateway``."""
    return shared_gateways.start


@pytest.fixture
def start_own(tmp_path: Path) -> StartGateway:
    """Start a gateway that no other test uses: one whose processes are ended, or whose counters and log are read."""
    return partial(support.gateway, tmp_path)


@pytest.fixture
async def alpha() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer("alpha") as server:
        yield server


@pytest.fixture
async def beta() -> AsyncIterator[ScriptedServer]:
    """One whose ``initialize`` has Envoy expect event streams, of all servers of the session."""
    async with ScriptedServer("beta", begins_in_events=True) as server:
        yield server
