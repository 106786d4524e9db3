"""Workers that were replaced: they go on with the calls whose answers they read, and nothing else holds them."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack

import aiohttp
import pytest

from mcp_extproc.run import standalone
from tests.e2e.conftest import StartGateway
from tests.support.processes import gone, is_alive
from tests.support.streaming import Events, calling, listen, two

OK = {"content": [{"type": "text", "text": "ok"}]}


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: they replace and end its workers."""
    return start_own


async def is_cut_off(call: Events) -> None:
    """The stream of a call ends without its answer."""
    with pytest.raises(aiohttp.ClientError):
        await call.rest()


async def test_calls_go_on_and_streams_end(start: StartGateway) -> None:
    """A stream of the client's, or the rest of a call's that broke, ends at once: the client opens it again elsewhere."""
    async with two(start, keeps_events=True) as (alpha, _, gateway), AsyncExitStack() as stack:
        session = await gateway.initialize()
        call = await stack.enter_async_context(calling(gateway, session, "alpha__stream", id=1))
        channel = await alpha.called()
        async with calling(gateway, session, "alpha__stream", id=2) as broken:
            other = await alpha.called()
            await other.log("0")
            await broken.message()
        await other.left()
        rest = await stack.enter_async_context(listen(gateway, session, broken.last_id))
        assert await alpha.opened() is other
        standing = await stack.enter_async_context(listen(gateway, session))
        await alpha.opened()
        before = gateway.workers
        assert "--drain-seconds 300" in " ".join(gateway.local._workers._options)
        await gateway.local.restart_workers()
        assert await rest.event() is None
        assert await standing.event() is None
        assert any(is_alive(pid) for pid in before)
        await other.log("1")
        async with listen(gateway, session, rest.last_id or broken.last_id) as again:
            assert (await again.message())["params"]["data"] == "1"
        await channel.log("2")
        assert (await call.message())["params"]["data"] == "2"
        await channel.answer(result=OK)
        assert await call.rest() == [{"jsonrpc": "2.0", "id": 1, "result": OK}]
        await gone(set(before))


async def test_how_long_a_call_may_go_on(start: StartGateway) -> None:
    async with two(start, leaving_seconds=0.1) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as call:
            await alpha.called()
            old = set(gateway.workers)
            await gateway.local.restart_workers()
            await is_cut_off(call)
        await gone(old)
        assert (await gateway.call(session, "alpha__echo")).result


async def test_a_second_sigterm_ends_it(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway):
        async with calling(gateway, await gateway.initialize(), "alpha__stream") as call:
            channel = await alpha.called()
            old = gateway.workers
            await gateway.local.restart_workers()
            await channel.log("0")
            await call.message()
            for pid in filter(is_alive, old):
                os.kill(pid, signal.SIGTERM)
            await is_cut_off(call)
        await gone(set(old))


async def test_the_oldest_of_many_is_ended(start: StartGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of each worker may leave at the same time; and none survives the gateway."""
    monkeypatch.setattr(standalone, "STOP_SECONDS", 0.0)
    async with AsyncExitStack() as calls:
        async with two(start, workers=1) as (alpha, _, gateway):
            workers, streams = [], []
            for number in range(4):
                workers += gateway.workers
                call = calling(gateway, await gateway.initialize(), "alpha__stream")
                streams.append(await calls.enter_async_context(call))
                channel = await alpha.called()
                await channel.log(str(number))
                await streams[-1].message()
                if number < 3:
                    await gateway.local.restart_workers()
            await is_cut_off(streams[0])
            await gone({workers[0]})
            assert len(set(workers)) == 4
            assert all(map(is_alive, workers[1:]))
            calls.pop_all()
        assert not any(map(is_alive, workers))
