"""Fixtures of the end-to-end tests: real Envoy, a real worker, servers on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.support import gateway as support
from tests.support.scripted import ScriptedServer

StartGateway = Callable[..., AbstractAsyncContextManager[support.TestGateway]]


@pytest.fixture
def start(tmp_path: Path) -> StartGateway:
    """Start a gateway: ``async with start({"name": url}) as gateway``."""
    return partial(support.gateway, tmp_path)


@pytest.fixture
async def alpha() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer("alpha") as server:
        yield server


@pytest.fixture
async def beta() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer("beta") as server:
        yield server
