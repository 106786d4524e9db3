"""Exceptions that nobody expects, in each kind of task that works for servers: none of them vanishes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from mcp_extproc import tasks
from mcp_extproc.address import TcpAddress
from mcp_extproc.gateway.decision import Reply, Stream
from mcp_extproc.gateway.facts import NOTHING
from mcp_extproc.gateway.legs import Failed, NotifyLeg, Opened, OpenLeg, SessionRef
from mcp_extproc.gateway.request import NO_CONTEXT
from mcp_extproc.mcp.sse import COMMENT, SseEvent, SseParser, render
from mcp_extproc.upstreams import merged_stream
from mcp_extproc.upstreams.client import UpstreamClient, UpstreamError
from mcp_extproc.upstreams.get_streams import Streams
from tests.support.scripted import ScriptedServer, hang
from tests.support.waiting import PATIENCE, eventually
from tests.unit.gateway.relay.support import Rig as RelayRig
from tests.unit.gateway.support import LATEST, catalog_of, config, upstream
from tests.unit.upstreams.fake_client import DEADLINE, FakeClient, Rig, need, stream_services

FLAGS = frozenset({"roots"})


class Bug(Exception):
    """Nobody expects it."""


def broken(*_: Any, **__: Any) -> NoReturn:
    raise Bug


def opening(server: str) -> OpenLeg:
    return OpenLeg(server, LATEST, FLAGS, deadline=DEADLINE)


def ref(server: str) -> SessionRef:
    return SessionRef(server, "token 1", None, LATEST, FLAGS, "token 1")


def failures(caplog: pytest.LogCaptureFixture, event: str = "task_failed") -> list[dict[str, object]]:
    """The failures that were logged with their traces. Nothing else was logged."""
    assert {record.getMessage() for record in caplog.records} <= {event}
    assert all(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)
    return [record.__dict__["mcp_fields"] for record in caplog.records]


# -- Fan-outs -------------------------------------------------------------------------------------------------------------


async def test_a_leg_that_breaks_is_that_servers_failure(caplog: pytest.LogCaptureFixture) -> None:
    """What one server provokes must not cost the others' answers."""
    rig = Rig(FakeClient(a=[Bug()], b=[upstream("b")], c=[KeyError()]))
    a, b, c = await rig.legs.run([opening(server) for server in "abc"])
    for outcome, server in ((a, "a"), (c, "c")):
        assert outcome == Failed(server, "internal", "could not be asked: the gateway failed, its log says why")
    assert isinstance(b, Opened)
    assert failures(caplog, "leg_failed") == [{"server": "a"}, {"server": "c"}]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_failures_that_are_expected_end_no_leg_but_their_own(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(FakeClient(a=[UpstreamError("connect", "is unreachable")], b=[upstream("b")]))
    a, b = await rig.legs.run([opening("a"), opening("b")])
    assert a == Failed("a", "connect", "is unreachable")
    assert isinstance(b, Opened)
    assert failures(caplog) == []


# -- What nobody waits for --------------------------------------------------------------------------------------------------


async def test_a_late_opening_that_breaks_when_all_who_waited_have_gone(caplog: pytest.LogCaptureFixture) -> None:
    goes_on = asyncio.Event()
    rig = Rig(FakeClient(a=[goes_on, Bug(), upstream("a", id="new")]))
    waiting = asyncio.create_task(rig.legs.session(need(ref("a"), None)))
    await eventually(lambda: rig.client.asked, "the server is asked")
    waiting.cancel()
    await asyncio.wait({waiting})
    goes_on.set()
    await eventually(lambda: caplog.records, "the failure is logged")
    assert failures(caplog) == [{"task": "open_session", "server": "a"}]
    assert await rig.legs.session(need(ref("a"), None)) == upstream("a", id="new"), "the next one tries again"


async def test_a_late_opening_that_breaks_for_those_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(FakeClient(a=[Bug()]))
    found = await asyncio.gather(*(rig.legs.session(need(ref("a"), None)) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in found] == [Bug, Bug]
    assert failures(caplog) == [{"task": "open_session", "server": "a"}]


async def test_a_server_that_refuses_a_late_opening_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(FakeClient(a=[UpstreamError("connect", "is unreachable")]))
    assert await rig.legs.session(need(ref("a"), None)) == Failed("a", "connect", "is unreachable")
    assert failures(caplog) == []


async def test_answers_and_ends_that_break(caplog: pytest.LogCaptureFixture) -> None:
    """The rest goes on."""
    rig = Rig(FakeClient(a=[Bug(), {}], b=[Bug()]))
    rig.legs.post("a", upstream("a"), b"{}", NO_CONTEXT)
    rig.legs.discard("b", upstream("b"), NO_CONTEXT)
    await eventually(lambda: len(caplog.records) == 2, "both failures are logged")
    assert failures(caplog) == [{"task": "answer", "server": "a"}, {"task": "end_session", "server": "b"}]
    known = replace(ref("a"), known=upstream("a"))
    assert len(await rig.legs.run([NotifyLeg("a", known, b"{}", deadline=DEADLINE)])) == 1
    assert rig.client.left("a") == 0


async def test_a_cancellation_that_can_not_be_passed_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    settings = config({"a": {"url": "https://a.example/mcp"}})
    entry = catalog_of(settings).entries["a"]
    async with (
        ScriptedServer(on={"tools/list": hang}) as server,
        UpstreamClient(TcpAddress("127.0.0.1", server.port), settings.limits) as client,
    ):
        server.sessions.add("id of a")
        asking = asyncio.create_task(client.request(entry, upstream("a"), "tools/list", {}))
        await eventually(lambda: server.calls("tools/list"), "the list is asked for")
        monkeypatch.setattr(client, "notify", broken)
        asking.cancel()
        await asyncio.wait({asking})
        await eventually(lambda: caplog.records, "the failure is logged")
    assert failures(caplog) == [{"task": "tell_cancelled", "server": "a"}]


# -- Merged streams ---------------------------------------------------------------------------------------------------------


class Breaking:
    """A server whose stream brings a message each time it is opened, after it broke ``breaks`` times."""

    def __init__(self, breaks: int) -> None:
        self.breaks = breaks
        self.opened = 0

    @asynccontextmanager
    async def listen(self, *_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened += 1
        if self.opened <= self.breaks:
            raise Bug
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield render(SseEvent(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
        await asyncio.Event().wait()

    def parser(self) -> SseParser:
        return SseParser(1 << 20)


class Silent(Breaking):
    """A server that has nothing to say."""

    def __init__(self) -> None:
        super().__init__(0)

    async def _chunks(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


class Listening:
    """A client's stream over one server."""

    def __init__(self, client: Any, changed: frozenset[str] = frozenset()) -> None:
        rig = RelayRig()
        legs: Any = None
        self.streams = Streams(stream_services(client, legs, rig.memory, rig))
        refs = (SessionRef("b", "b", upstream("b"), LATEST, frozenset()),)
        self.asked = Stream(
            rig.view, rig.relay, refs, {}, "", 1e9, Reply(405, b""), Reply(429, b""), NOTHING, 1.0, NO_CONTEXT, changed
        )

    async def next(self) -> bytes:
        """The first message that the client gets."""
        async with asyncio.timeout(PATIENCE), self.streams.open(self.asked) as chunks:
            assert not isinstance(chunks, Reply)
            while (chunk := await anext(chunks)) == COMMENT:
                pass
        await self.streams.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return chunk


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "RESTART_SECONDS", (0.0,))


async def test_a_pump_that_breaks_starts_again(at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    server = Breaking(2)
    assert b"notifications/x" in await Listening(server).next()
    assert server.opened == 3
    assert failures(caplog) == [{"task": "pump", "server": "b", "restart_in_seconds": 0.0}] * 2


async def test_news_of_changes_that_break_are_told_again(
    at_once: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A list that changed is not forgotten because the first attempt to say so broke."""
    monkeypatch.setattr(merged_stream, "BURST_SECONDS", 0.0)
    breaks = iter([True])

    def write(event: SseEvent) -> bytes:
        if next(breaks, False):
            raise Bug
        return render(event)

    monkeypatch.setattr(merged_stream, "render", write)
    told = await Listening(Silent(), changed=frozenset({"tools"})).next()
    assert b"notifications/tools/list_changed" in told
    assert failures(caplog) == [{"task": "tell_changes", "restart_in_seconds": 0.0}]
