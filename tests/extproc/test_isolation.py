"""Many exchanges on one connection, a good part of them faulty: each gets what is its own, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from mcp_extproc.gateway.decision import Decision
from mcp_extproc.gateway.legs import Leg, Listed, ListLeg, Outcome
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.extproc.rig import REQUEST_BYTES, LiveTasks, Rig, call
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    DEADLINE,
    Ended,
    RawExchange,
    common,
    error_of,
    facts,
    kind,
    rpc,
    set_headers,
)

EXCHANGES = 200

Kind = Callable[["One"], Awaitable[None]]


class One:
    """One of many exchanges. All wait for one another between the phases, so that every phase meets every fault."""

    def __init__(self, rig: Rig[FakeUpstreams], what: Kind, number: int, phase: asyncio.Barrier) -> None:
        self.number = number
        self._what = what
        self.exchange: RawExchange = rig.client.exchange()
        self._phase = phase
        name = "bug" if what is One.hit_by_a_bug_in_a_fan_out else f"session-{number}"
        session = UpstreamSession("2025-11-25", name, frozenset({"tools"}))
        self.fields = rig.fields(mcp_session_id=rig.token(github=session, weather=session))

    async def run(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._phase.wait()
            await self.exchange.send_headers(self.fields)
            await self._phase.wait()
            await self._what(self)

    async def ends(self) -> None:
        assert (await self.exchange.end()).name == "OK"

    async def forwarded(self) -> None:
        await self.exchange.send_body(call(f"gh__tool-{self.number}", id=self.number))
        answer = await self.exchange.receive()
        message = json.loads(common(answer).body_mutation.body)
        assert (message["id"], message["params"]["name"]) == (self.number, f"tool-{self.number}")
        assert set_headers(answer)["mcp-session-id"] == f"session-{self.number}"
        assert facts(answer)["id"] == self.number
        await self.ends()

    async def merged(self) -> None:
        await self.exchange.send_body(rpc("tools/list", id=self.number))
        assert (await self.exchange.receive()).HasField("override_message_timeout")
        answer = await self.exchange.receive()
        message = json.loads(answer.immediate_response.body)
        names = [tool["name"] for tool in message["result"]["tools"]]
        assert (message["id"], names) == (self.number, [f"{p}__session-{self.number}" for p in ("gh", "weather")])
        await self.ends()

    async def rejected(self) -> None:
        await self.exchange.send_body(call(f"nobody__{self.number}", id=str(self.number)))
        error = error_of(await self.exchange.receive())
        assert (error["id"], error["error"]["message"]) == (str(self.number), f"Unknown tool: nobody__{self.number}")
        await self.ends()

    async def unreadable(self) -> None:
        await self.exchange.send_body(b"\xff" * self.number)
        assert error_of(await self.exchange.receive())["error"]["code"] == -32700
        await self.ends()

    async def oversize(self) -> None:
        await self.exchange.send_body(b"1" * (REQUEST_BYTES + 1))
        assert (await self.exchange.receive()).immediate_response.status.code == 413
        await self.ends()

    async def too_large_for_a_message(self) -> None:
        with pytest.raises(Ended) as ended:  # noqa: PT012 - the stream may end while it is still being sent
            await self.exchange.send_body(b"1" * (REQUEST_BYTES + 300_000))
            await self.exchange.receive()
        assert ended.value.code.name == "RESOURCE_EXHAUSTED"

    async def garbage(self) -> None:
        await self.exchange.send(b"\xff\xff\xff")
        with pytest.raises(Ended) as ended:
            await self.exchange.receive()
        assert ended.value.code.name not in ("OK", "CANCELLED")

    async def out_of_order(self) -> None:
        await self.exchange.send_trailers()
        assert error_of(await self.exchange.receive())["error"]["code"] == -32603
        await self.ends()

    async def abandoned(self) -> None:
        self.exchange.cancel()

    async def abandoned_in_a_fan_out(self) -> None:
        await self.exchange.send_body(rpc("tools/list", id="never"))
        assert (await self.exchange.receive()).HasField("override_message_timeout")
        self.exchange.cancel()

    async def half_closed(self) -> None:
        assert (await self.exchange.end()).name == "ABORTED"

    async def hit_by_a_bug(self) -> None:
        await self.exchange.send_body(call("bug", id=self.number))
        assert error_of(await self.exchange.receive())["id"] == self.number
        await self.ends()

    async def hit_by_a_bug_in_a_fan_out(self) -> None:
        await self.exchange.send_body(rpc("tools/list", id=self.number))
        assert kind(await self.exchange.receive()) is None
        assert error_of(await self.exchange.receive())["id"] == self.number
        await self.ends()


KINDS: Sequence[Kind] = (
    One.forwarded, One.merged, One.rejected, One.unreadable, One.oversize, One.too_large_for_a_message, One.garbage,
    One.out_of_order, One.abandoned, One.abandoned_in_a_fan_out, One.half_closed, One.hit_by_a_bug,
    One.hit_by_a_bug_in_a_fan_out,
)  # fmt: skip


def outcomes(legs: tuple[Leg, ...]) -> list[Outcome]:
    """Each server lists one tool, named after the session that asked."""
    listed: list[Outcome] = []
    for leg in legs:
        assert isinstance(leg, ListLeg)
        if leg.session.anchor == "bug":
            raise ZeroDivisionError
        listed.append(Listed(leg.server, [msgspec.Raw(json.dumps({"name": leg.session.anchor}).encode())]))
    return listed


@pytest.mark.parametrize("seed", [1, 2])
async def test_faults_stay_where_they_are(rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    decide = rig.gateway.decide

    def decide_or_break(
        head: RequestHead, body: bytes, now: float, own: Callable[[RequestHead], RequestHead]
    ) -> Decision:
        if b'"bug"' in body:
            raise ZeroDivisionError
        return decide(head, body, now, own)

    monkeypatch.setattr(rig.gateway, "decide", decide_or_break)
    await rig.serves()
    live = LiveTasks()

    # As many that are served as ever as there are faulty ones, in an order that is the same each time.
    kinds = [KINDS[n // 2 % len(KINDS)] if n % 2 else KINDS[n // 2 % 3] for n in range(EXCHANGES)]
    random.Random(seed).shuffle(kinds)
    phase = asyncio.Barrier(EXCHANGES)
    async with rig.upstreams.answering(outcomes):
        async with asyncio.TaskGroup() as group:
            for number, what in enumerate(kinds):
                group.create_task(One(rig, what, number, phase).run())

    await rig.serves()
    await live.ended()
    assert rig.counters.value("mcp.forwarded", server="github") == kinds.count(One.forwarded) + 2
