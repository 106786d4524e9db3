"""What breaks while an answer takes time: the exchange ends with an answer or a status, and the log says why, once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

import pytest

from mcp_extproc.extproc.exchange import Exchange
from mcp_extproc.upstreams.client import UpstreamClient
from tests.extproc import rig as rigs
from tests.extproc.rig import LiveTasks, Rig, Transport, call
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import Ended, error_of, rpc
from tests.support.scripted import ScriptedServer


class Bug(Exception):
    """Nobody expects it."""


def broken(*_: Any, **__: Any) -> NoReturn:
    raise Bug


async def test_a_leg(transport: Transport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One server's leg breaks while the other waits for its answer. That one is given up."""

    async def request(_: UpstreamClient, entry: Any, *__: object, **___: object) -> NoReturn:
        if entry.name == "github":
            raise Bug
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(UpstreamClient, "request", request)
    async with ScriptedServer() as server, rigs.real_legs(transport, server) as rig:
        live = LiveTasks()
        exchange = await rig.waiting(rpc("tools/list"))
        error = error_of(await exchange.receive())
        assert error["id"] == 1
        assert error["error"]["code"] == -32603
        assert "its log says why" in error["error"]["message"]
        assert (await exchange.end()).name == "OK"
        await live.ended()
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.getMessage() == "exchange_failed"
        assert record.exc_info is not None
        group = record.exc_info[1]
        assert isinstance(group, ExceptionGroup)
        assert [type(error) for error in group.exceptions] == [Bug]
        await rig.serves()


@pytest.mark.parametrize("body", [rpc("tools/list"), call()], ids=["fan-out", "session"])
async def test_a_failure_that_can_not_be_answered(
    rig: Rig[FakeUpstreams], body: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What should apologise breaks as well: nobody is left waiting, and nothing passes unprocessed."""
    monkeypatch.setattr(Exchange, "fail", broken)
    fields = rig.fields(mcp_session_id=rig.token(weather=rigs.WEATHER))
    if body == call():
        exchange = await rig.waiting(body, fields, rigs.FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.set_exception(Bug())
    else:
        exchange = await rig.waiting(body, fields)
        (await rig.upstreams.next_run()).outcome.set_exception(Bug())
    with pytest.raises(Ended) as ended:
        await exchange.receive()
    assert ended.value.code.name not in ("OK", "CANCELLED")
    assert [record.getMessage() for record in caplog.records if record.name == "mcp_extproc.http2"] in (
        [],  # grpc.aio has a log of its own
        ["exchange_failed", "task_failed"],
    )
    await rig.serves()
