"""What breaks while an answer takes time: the exchange ends with an answer or a status, and the log says why, once."""

from __future__ import annotations

import json
import logging
from typing import Any, NoReturn

import msgspec
import pytest

from mcp_extproc.extproc.exchange import Exchange
from mcp_extproc.mcp import jsontext
from mcp_extproc.upstreams.client import Result, UpstreamClient
from tests.extproc import rig as rigs
from tests.extproc.rig import LiveTasks, Rig, Transport, call
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import Ended, rpc
from tests.support.scripted import ScriptedServer


class Bug(Exception):
    """Nobody expects it."""


def broken(*_: Any, **__: Any) -> NoReturn:
    raise Bug


async def test_a_leg(transport: Transport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One server's leg breaks. The other's answer is passed on, and the client is told who is missing."""

    async def request(_: UpstreamClient, entry: Any, *__: object, **___: object) -> Result:
        if entry.name == "github":
            raise Bug
        body = b'{"tools":[{"name":"forecast","inputSchema":{"type":"object"}}]}'
        return Result(jsontext.split(msgspec.Raw(body)), len(body), streamed=False)

    monkeypatch.setattr(UpstreamClient, "request", request)
    async with ScriptedServer() as server, rigs.real_legs(transport, server) as rig:
        live = LiveTasks()
        exchange = await rig.waiting(rpc("tools/list"))
        result = json.loads((await exchange.receive()).immediate_response.body)["result"]
        assert [tool["name"] for tool in result["tools"]] == ["weather__forecast"]
        [missing] = result["_meta"]["mcp-extproc/unavailable"]
        assert (missing["server"], missing["reason"]) == ("github", "internal")
        assert "its log says why" in missing["message"]
        assert (await exchange.end()).name == "OK"
        await live.ended()
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.getMessage() == "leg_failed"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], Bug)
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
