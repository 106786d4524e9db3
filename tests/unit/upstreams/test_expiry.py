"""Sessions with servers end some time after the client's token has expired, few at a time, whatever servers say."""

from __future__ import annotations

import asyncio

import pytest

from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.upstreams import expiry
from mcp_extproc.upstreams.client import UpstreamError
from mcp_extproc.upstreams.expiry import GRACE_SECONDS, Expiry
from tests.support.waiting import eventually
from tests.unit.gateway.support import LATEST, upstream
from tests.unit.upstreams.fake_client import FakeClient, Rig, Told

MANY = 50


def ref(number: int) -> SessionRef:
    known = upstream("a", id=str(number))
    return SessionRef("a", str(number), known, LATEST, frozenset())


async def test_they_end_after_a_time_for_calls_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "LOOK_SECONDS", 0.001)
    refused = UpstreamError("connect", "is unreachable")
    client = FakeClient(a=[refused, *[{}] * MANY])
    rig, now, looks = Rig(client), [100.0 + GRACE_SECONDS - 1], [0]

    def clock() -> float:
        looks[0] += 1
        return now[0]

    for number in range(MANY + 1):
        rig.memory.begin(str(number), 100.0, (ref(number),))
    told = Told()
    ending = Expiry(rig.legs, rig.memory, clock, 60.0, told)
    ending.start()
    await eventually(lambda: looks[0] > 2, "it looks")
    assert client.asked == []
    now[0] += 1
    await eventually(lambda: client.left("a") == 0, "all are ended")
    assert told.expirations == [(str(number), LATEST, 60.0) for number in range(MANY + 1)]
    assert sorted(client.asked) == sorted(("a", "end", str(number)) for number in range(MANY + 1))
    await ending.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
