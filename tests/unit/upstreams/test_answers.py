"""Answers to servers' requests: however many a server sends, few are under way, little is held, and others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.facts import NOTHING
from mcp_extproc.gateway.legs import Listed, ListLeg, SessionRef
from mcp_extproc.gateway.request import NO_CONTEXT, RequestContext
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import SseEvent, SseParser, render
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.answers import (
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    MAX_RUNNING,
    MAX_RUNNING_PER_SERVER,
    Answers,
)
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.get_streams import Streams
from tests.support.waiting import eventually, stays
from tests.unit.gateway.relay.support import Rig as RelayRig
from tests.unit.gateway.support import LATEST, upstream
from tests.unit.upstreams.fake_client import DEADLINE, FakeClient, Rig, page, stream_services

PINGS = 10_000


class Mailbox:
    """A server that takes answers once it is open, and counts those that are on their way at the same time."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.taken: list[bytes] = []
        self.running = 0
        self.most = 0

    async def take(
        self, server: str, session: UpstreamSession, body: bytes, context: RequestContext = NO_CONTEXT
    ) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
            self.taken.append(body)
        finally:
            self.running -= 1


class Rigged:
    """Answers over a mailbox."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.tasks = Tasks(log.logger("test"))
        self.answers = Answers(self.mailbox.take, self.tasks)

    def fill(self, session: UpstreamSession, body: bytes = b"{}") -> int:
        """How many are taken of one session."""
        count = 0
        while self.answers.put("a", session, body, NO_CONTEXT):
            count += 1
        return count


async def test_a_session_has_few_requests_and_a_bounded_queue() -> None:
    rig = Rigged()
    taken = rig.fill(upstream("a"))
    assert taken == MAX_QUEUED
    await eventually(lambda: rig.mailbox.running, "as many as may be are sent", until=lambda n: n == MAX_RUNNING)
    assert rig.fill(upstream("a")) == MAX_RUNNING, "their room is free again"
    rig.mailbox.open.set()
    await eventually(lambda: len(rig.mailbox.taken), "all are sent", until=lambda n: n == MAX_QUEUED + MAX_RUNNING)
    assert rig.mailbox.most == MAX_RUNNING
    await eventually(lambda: not rig.answers._queues, "nothing is kept of it")


async def test_a_queue_is_bounded_in_bytes() -> None:
    """A server chooses the id that its answer repeats."""
    rig = Rigged()
    assert rig.fill(upstream("a"), b"x" * MAX_QUEUED_BYTES) == 1
    await rig.tasks.close()


async def test_all_sessions_of_a_server_share_its_requests() -> None:
    rig = Rigged()
    sessions = [UpstreamSession(LATEST, f"s{n}", frozenset()) for n in range(MAX_RUNNING_PER_SERVER)]
    for session in sessions:
        assert rig.answers.put("a", session, b"1", NO_CONTEXT)
        assert rig.answers.put("a", session, b"2", NO_CONTEXT)
    assert rig.answers.put("b", upstream("b"), b"3", NO_CONTEXT)
    await eventually(lambda: rig.mailbox.running, "both send", until=lambda n: n == MAX_RUNNING_PER_SERVER + 1)
    rig.mailbox.open.set()
    await eventually(
        lambda: len(rig.mailbox.taken), "all are sent", until=lambda n: n == 2 * MAX_RUNNING_PER_SERVER + 1
    )
    assert rig.mailbox.most == MAX_RUNNING_PER_SERVER + 1


class Pinging(FakeClient):
    """Server ``a`` has a stream of pings, and takes their answers into a mailbox."""

    def __init__(self, **scripts: Any) -> None:
        super().__init__(**scripts)
        self.mailbox = Mailbox()
        self.asked_for = 0

    @asynccontextmanager
    async def listen(self, *_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        for number in range(PINGS):
            self.asked_for += 1
            yield render(SseEvent(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % number))
        await asyncio.Event().wait()

    def parser(self) -> SseParser:
        return SseParser(1 << 20)

    async def notify(
        self,
        entry: Any,
        session: UpstreamSession,
        body: bytes,
        *,
        context: RequestContext = NO_CONTEXT,
        method: str | None = None,
    ) -> None:
        await self.mailbox.take(entry.name, session, body)


async def test_a_flood_of_pings_is_read_as_fast_as_its_server_takes_the_answers() -> None:
    client = Pinging(b=[page("x")])
    rig, relays = Rig(client), RelayRig()
    streams = Streams(stream_services(cast("UpstreamClient", client), rig.legs, rig.memory, relays))
    ref = SessionRef("a", "a", upstream("a"), LATEST, frozenset())
    asked = Stream(
        relays.view, relays.relay, (ref,), {}, "", 1e9, Reply(405, b""), Reply(429, b""), NOTHING, 1.0, NO_CONTEXT
    )
    async with streams.open(asked):
        read = await stays(lambda: client.asked_for, 0.1)
        assert 0 < read <= MAX_QUEUED + MAX_RUNNING + 1, "reading goes on without end"
        assert len(asyncio.all_tasks()) < 20
        other = SessionRef("b", "b", upstream("b"), LATEST, frozenset())
        [listed] = await rig.legs.run([ListLeg("b", other, "tools/list", "tools", "tools", deadline=DEADLINE)])
        assert isinstance(listed, Listed)
        client.mailbox.open.set()
        await eventually(lambda: len(client.mailbox.taken), "all are answered", until=lambda n: n == PINGS)
        assert client.mailbox.most == MAX_RUNNING
    await streams.close()
    await rig.legs.close()
