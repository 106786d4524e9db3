"""Legs: side by side, each with its own deadline, in the end one outcome for each in their order."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from mcp_extproc.gateway.decision import FanOut, NeedSession, Reply
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.effects import EndSession
from mcp_extproc.gateway.legs import (
    AskLeg,
    BatchLeg,
    CloseLeg,
    Done,
    Failed,
    Leg,
    Listed,
    ListLeg,
    NotifyLeg,
    Opened,
    OpenLeg,
    Outcome,
    SessionRef,
)
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.upstreams.client import Result, SessionLost, UpstreamError
from tests.support.waiting import eventually
from tests.unit.gateway.support import EVERYTHING, LATEST, NOW, SECRET, as_reply, head, message, upstream
from tests.unit.upstreams.fake_client import DEADLINE, LOST, FakeClient, Rig, Step, need, page

FLAGS = frozenset({"roots"})
REFUSED = UpstreamError("connect", "is unreachable")
CONTEXT = RequestContext((("traceparent", "00-0-0-01"),), "alice", b"7")


def ref(server: str, known: UpstreamSession | None = None, anchor: str = "token 1") -> SessionRef:
    return SessionRef(server, known.id if known is not None and known.id else anchor, known, LATEST, FLAGS, "token 1")


def listing(
    server: str, known: UpstreamSession | None = None, anchor: str = "token 1", deadline: float = DEADLINE
) -> ListLeg:
    return ListLeg(server, ref(server, known, anchor), "tools/list", "tools", "tools", deadline=deadline)


def opening(server: str, deadline: float = DEADLINE) -> OpenLeg:
    return OpenLeg(server, LATEST, FLAGS, deadline=deadline)


def asking(server: str, known: UpstreamSession | None = None, deadline: float = DEADLINE) -> AskLeg:
    return AskLeg(server, ref(server, known), "logging/setLevel", b'{"level":"info"}', "logging", deadline=deadline)


def doubted(session: SessionRef, lost: str) -> NeedSession:
    return need(session, lost, doubtful=True)


def names(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Listed), outcome
    return [json.loads(bytes(item))["name"] for item in outcome.items]


# -- Order and independence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [*itertools.permutations("abc")], ids="".join)
async def test_outcomes_come_in_the_order_of_the_legs_whoever_answers_first(order: tuple[str, ...]) -> None:
    """And so the merged answer is the same, byte for byte."""
    answered = {server: asyncio.Event() for server in "abc"}
    steps: dict[str, list[Step]] = {
        server: [event, upstream(server), event, page("x", "y")] for server, event in answered.items()
    }
    rig = Rig(FakeClient(**steps))
    gateway = Gateway(rig.config, SECRET, rig.memory)

    async def answer(body: bytes, token: str | None) -> Reply:
        for event in answered.values():
            event.clear()
        decision = gateway.decide(head(mcp_session_id=token), body, NOW)
        assert isinstance(decision, FanOut)
        running = asyncio.create_task(rig.legs.run(decision.legs))
        for server in order:
            await asyncio.sleep(0)
            answered[server].set()
        return as_reply(decision.merge(await running, NOW))

    opened = await answer(message("initialize", {"protocolVersion": LATEST}), None)
    assert json.loads(opened.body)["result"]["instructions"].split("\n\n")[::2] == ["# a", "# b", "# c"]
    listed = await answer(message("tools/list"), dict(opened.headers)["mcp-session-id"])
    assert [tool["name"] for tool in json.loads(listed.body)["result"]["tools"]] == [
        "a__x", "a__y", "b__x", "b__y", "c__x", "c__y",
    ]  # fmt: skip


async def test_legs_run_side_by_side() -> None:
    first_asked = asyncio.Event()
    rig = Rig(FakeClient(a=[first_asked, upstream("a")], b=[upstream("b")]))
    running = asyncio.create_task(rig.legs.run([opening("a"), opening("b")]))
    while rig.client.left("b"):
        await asyncio.sleep(0)
    assert not running.done()
    first_asked.set()
    assert [type(outcome) for outcome in await running] == [Opened, Opened]


async def test_a_leg_that_fails_leaves_the_others_alone() -> None:
    """One dead server must not fail the rest."""
    rig = Rig(FakeClient(a=[REFUSED], b=[upstream("b")], c=[UpstreamError("status", "answered HTTP 500")]))
    a, b, c = await rig.legs.run([opening(server) for server in "abc"])
    assert (a, c) == (Failed("a", "connect", "is unreachable"), Failed("c", "status", "answered HTTP 500"))
    assert b == Opened("b", upstream("b"), "How to use b")
    assert rig.client.declared == [FLAGS] * 3


async def test_how_a_server_answered_is_told() -> None:
    rig = Rig(FakeClient(a=[upstream("a")], b=[upstream("b")]))
    rig.client.streaming = {"b"}
    outcomes = await rig.legs.run([opening("a"), opening("b")])
    assert [isinstance(outcome, Opened) and outcome.streamed for outcome in outcomes] == [False, True]


async def test_each_leg_has_its_own_deadline() -> None:
    """Every request has one (MCP lifecycle, Timeouts)."""
    never = asyncio.Event()
    rig = Rig(FakeClient(a=[never], b=[upstream("b")]))
    a, b = await rig.legs.run([opening("a", 0.01), opening("b")])
    assert a == Failed("a", "timeout", "did not answer within 0.01 s")
    assert isinstance(b, Opened)


@pytest.mark.parametrize(
    "leg",
    [
        listing("a", upstream("a"), deadline=0.01),
        NotifyLeg("a", ref("a", upstream("a")), b"{}", deadline=0.01),
        CloseLeg("a", ref("a", upstream("a")), deadline=0.01),
        listing("a", deadline=0.01),
        asking("a", upstream("a", capabilities=("logging",)), 0.01),
    ],
    ids=["list", "notify", "close", "open late", "ask"],
)
async def test_every_kind_of_leg_has_a_deadline(leg: Leg) -> None:
    rig = Rig(FakeClient(a=[asyncio.Event()]))
    assert await rig.legs.run([leg]) == [Failed("a", "timeout", "did not answer within 0.01 s")]
    await rig.legs.close()


async def test_cancelling_the_run_cancels_what_runs() -> None:
    rig = Rig(FakeClient(a=[asyncio.Event()], b=[asyncio.Event()]))
    running = asyncio.create_task(rig.legs.run([opening("a"), opening("b")]))
    while len(rig.client.asked) < 2:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_was_opened_for_nobody_is_ended_with_the_callers_credentials() -> None:
    """A server that wants them would keep the session otherwise."""
    client = FakeClient(a=[upstream("a"), {}], b=[asyncio.Event()])
    rig = Rig(client)
    running = asyncio.create_task(rig.legs.run([replace(opening(name), context=CONTEXT) for name in "ab"]))
    while len(client.asked) < 2:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    while client.left("a"):
        await asyncio.sleep(0)
    assert client.asked[-1] == ("a", "end", "id of a")
    assert client.contexts == [CONTEXT] * 3
    await rig.legs.close()


async def test_what_replaced_a_session_for_nothing_is_ended_with_the_callers_credentials() -> None:
    client = FakeClient(a=[{}])
    rig = Rig(client)
    given_up, replacement = upstream("a"), upstream("a", id="another")
    session = ref("a", given_up)
    rig.memory.replace("a", "id of a", replacement)
    rig.legs.take_back(session, given_up, replacement, CONTEXT)
    assert rig.memory.current(session) == given_up
    while client.left("a"):
        await asyncio.sleep(0)
    assert (client.asked, client.contexts) == ([("a", "end", "another")], [CONTEXT])
    await rig.legs.close()


# -- Lists ----------------------------------------------------------------------------------------------------------------


async def test_all_pages_are_read() -> None:
    """Some clients read the first page only."""
    client = FakeClient(a=[page("1", nextCursor="x"), page("2", nextCursor=""), page(), page("9")])
    (listed,) = await Rig(client).legs.run([listing("a", upstream("a"))])
    assert names(listed) == ["1", "2"]
    assert isinstance(listed, Listed)
    assert listed.truncated is None
    assert [asked[2] for asked in client.asked] == [
        ("id of a", "{}"),
        ("id of a", '{"cursor":"x"}'),
        ("id of a", '{"cursor":""}'),
    ]
    assert client.left("a") == 1


@pytest.mark.parametrize(
    "end", [{}, {"nextCursor": None}, {"nextCursor": 5}, {"nextCursor": []}, {"nextCursor": False}]
)
async def test_what_is_no_cursor_ends_the_list(end: dict[str, Any]) -> None:
    (listed,) = await Rig(FakeClient(a=[page("1", **end)])).legs.run([listing("a", upstream("a"))])
    assert names(listed) == ["1"]


@pytest.mark.parametrize(
    ("limits", "pages", "found", "why"),
    [
        ({}, [page("1", nextCursor="x"), page("2", nextCursor="x")], ["1", "2"], "repeats a page of its list"),
        (
            {},
            [page("1", nextCursor="x"), page("2", nextCursor="y"), page("3", nextCursor="x")],
            ["1", "2", "3"],
            "repeats a page of its list",
        ),
        (
            {"list_pages": 2},
            [page("1", nextCursor="x"), page("2", nextCursor="y")],
            ["1", "2"],
            "has more than 2 pages",
        ),
        ({"list_pages": 2}, [page("1", nextCursor="x"), page("2")], ["1", "2"], None),
        ({"list_items": 2}, [page("1", "2", nextCursor="x"), page()], ["1", "2"], None),
        ({"list_items": 1}, [page("1", "2", nextCursor="x")], ["1"], "listed more than 1 entries"),
        (
            {"list_items": 3},
            [page("1", "2", nextCursor="x"), page("3", "4")],
            ["1", "2", "3"],
            "listed more than 3 entries",
        ),
        ({"response_bytes": 64}, [page("1", nextCursor="x"), page("2")], ["1", "2"], "listed more than 64 bytes"),
        ({"response_bytes": 65}, [page("1", nextCursor="x"), page("2")], ["1", "2"], None),
    ],
)
async def test_lists_are_bounded(
    limits: dict[str, int], pages: list[dict[str, Any]], found: list[str], why: str | None
) -> None:
    """And what was read until then is given."""
    client = FakeClient(a=pages)
    (listed,) = await Rig(client, limits).legs.run([listing("a", upstream("a"))])
    assert names(listed) == found
    assert isinstance(listed, Listed)
    assert listed.truncated == why
    assert client.left("a") == 0


async def test_an_entry_with_too_many_members_is_left_out() -> None:
    """And the list ends with its page, marked as truncated."""
    large = {"name": "large", "x": [1] * 2000, "text": "a,b" * 2000}
    fits = {"name": "fits", "x": [1] * 900, "text": "a,b" * 2000}
    client = FakeClient(a=[{"tools": [{"name": "1"}, large, fits], "nextCursor": "x"}])
    (listed,) = await Rig(client, {"json_members": 1000}).legs.run([listing("a", upstream("a"))])
    assert names(listed) == ["1", "fits"]
    assert isinstance(listed, Listed)
    assert listed.truncated == "listed an entry with more than 1000 members"


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (
            UpstreamError("error", "answered with error -32602: no such cursor"),
            "answered with error -32602: no such cursor",
        ),
        (UpstreamError("status", "answered HTTP 500"), "answered HTTP 500"),
        ({"tools": {}}, "answered without a list of tools"),
        (SessionLost(doubtful=True), "does not know its session any more"),
    ],
)
@pytest.mark.parametrize("cursor", ["", "x"])
async def test_a_page_that_fails_leaves_the_pages_before(cursor: str, step: Step, why: str) -> None:
    """Servers that mean the end with an empty cursor refuse it, some with HTTP 400. Their session is kept."""
    client = FakeClient(a=[page("1", nextCursor=cursor), step])
    rig = Rig(client)
    (listed,) = await rig.legs.run([listing("a", upstream("a"))])
    assert names(listed) == ["1"]
    assert isinstance(listed, Listed)
    assert listed.truncated == f"{why} (a page of its list)"
    assert rig.memory.current(ref("a", upstream("a"))) == upstream("a")


async def test_a_page_that_does_not_come_leaves_the_pages_before() -> None:
    client = FakeClient(a=[page("1", nextCursor="x"), asyncio.Event()])
    (listed,) = await Rig(client).legs.run([listing("a", upstream("a"), deadline=0.05)])
    assert names(listed) == ["1"]
    assert isinstance(listed, Listed)
    assert listed.truncated == "did not answer within 0.05 s (a page of its list)"


async def test_entries_keep_their_bytes() -> None:
    class Verbatim(FakeClient):
        async def request(self, *_: object, **__: object) -> Any:
            return Result({"tools": msgspec.Raw(b'[ {"name":"\\u0061", "n" : 1.50 } , 9007199254740993]')}, 60, False)

    (listed,) = await Rig(Verbatim()).legs.run([listing("a", upstream("a"))])
    assert isinstance(listed, Listed)
    assert [bytes(item) for item in listed.items] == [b'{"name":"\\u0061", "n" : 1.50 }', b"9007199254740993"]


@pytest.mark.parametrize("result", [{}, {"tools": {}}, {"tools": None}, {"tools": "x"}, {"Tools": []}])
async def test_an_answer_that_is_no_list(result: dict[str, Any]) -> None:
    (outcome,) = await Rig(FakeClient(a=[result])).legs.run([listing("a", upstream("a"))])
    assert outcome == Failed("a", "protocol", "answered without a list of tools")


async def test_a_server_without_the_capability_is_not_asked() -> None:
    client = FakeClient(a=[])
    assert await Rig(client).legs.run([listing("a", upstream("a", capabilities=()))]) == [Listed("a", ())]
    assert client.asked == []


@pytest.mark.parametrize("streaming", [set(), {"a"}])
async def test_a_list_tells_whether_it_came_as_a_stream(streaming: set[str]) -> None:
    client = FakeClient(a=[page("1", nextCursor="x"), page("2")])
    client.streaming = streaming
    (listed,) = await Rig(client).legs.run([listing("a", upstream("a"))])
    assert isinstance(listed, Listed)
    assert listed.streamed == bool(streaming)


# -- Requests whose result does not matter ----------------------------------------------------------------------------------

LOGS = upstream("a", capabilities=("logging",))


async def test_what_is_asked_goes_there_as_it_is() -> None:
    client = FakeClient(a=[{}])
    assert await Rig(client).legs.run([asking("a", LOGS)]) == [Done("a")]
    assert client.asked == [("a", "logging/setLevel", ("id of a", '{"level":"info"}'))]


async def test_who_can_not_do_it_is_not_asked() -> None:
    """Also a server that shows only when its session is opened what it can do."""
    client = FakeClient(a=[], b=[upstream("b", capabilities=("tools",))])
    assert await Rig(client).legs.run([asking("a", upstream("a")), asking("b")]) == [Done("a"), Done("b")]
    assert [asked[:2] for asked in client.asked] == [("b", "initialize")]


async def test_what_is_asked_of_a_server_that_lost_its_session() -> None:
    """It is initialized afresh, without a session id (MCP transports, Session Management)."""
    client = FakeClient(a=[LOST, upstream("a", id="new", capabilities=("logging",)), {}])
    assert await Rig(client).legs.run([asking("a", LOGS)]) == [Done("a")]
    assert [asked[1] for asked in client.asked] == ["logging/setLevel", "initialize", "logging/setLevel"]
    client = FakeClient(a=[LOST, upstream("a", id="new", capabilities=("logging",)), LOST])
    (outcome,) = await Rig(client).legs.run([asking("a", LOGS)])
    assert outcome == Failed("a", "session_lost", "does not know its session any more")


async def test_what_is_asked_and_refused() -> None:
    legs = Rig(FakeClient(a=[REFUSED])).legs
    assert await legs.run([asking("a", LOGS)]) == [Failed("a", "connect", "is unreachable")]


async def test_batches_without_a_front_door_fail() -> None:
    (outcome,) = await Rig(FakeClient()).legs.run([BatchLeg("", "/mcp", (), b"{}", deadline=DEADLINE)])
    assert outcome == Failed("", "no_front_door", "batches are not set up")


# -- Sessions that are opened late, or again -------------------------------------------------------------------------------


async def test_a_server_that_was_down_is_opened_at_the_next_list() -> None:
    client = FakeClient(a=[upstream("a", id="late"), page("1"), page("2")])
    rig = Rig(client)
    assert names((await rig.legs.run([listing("a")]))[0]) == ["1"]
    assert names((await rig.legs.run([listing("a")]))[0]) == ["2"]
    assert [asked[1] for asked in client.asked] == ["initialize", "tools/list", "tools/list"]
    assert rig.memory.current(ref("a")) == upstream("a", id="late")


async def test_a_server_that_lost_its_session_is_opened_again_and_asked_once_more() -> None:
    """The client sees nothing of it."""
    client = FakeClient(a=[LOST, upstream("a", id="new"), page("1")])
    rig = Rig(client)
    (listed,) = await rig.legs.run([listing("a", upstream("a"))])
    assert names(listed) == ["1"]
    assert client.asked == [
        ("a", "tools/list", ("id of a", "{}")),
        ("a", "initialize", LATEST),
        ("a", "tools/list", ("new", "{}")),
    ]
    assert rig.memory.current(ref("a", upstream("a"))) == upstream("a", id="new")
    assert (rig.told.repairs, rig.told.legs) == ([("a", None)], [("a", "list", None)])


async def test_a_session_lost_between_pages_starts_the_list_anew() -> None:
    client = FakeClient(
        a=[page("1", nextCursor="x"), LOST, upstream("a", id="new"), page("1", nextCursor="x"), page("2")]
    )
    (listed,) = await Rig(client).legs.run([listing("a", upstream("a"))])
    assert names(listed) == ["1", "2"]


async def test_a_session_lost_twice_is_a_failure() -> None:
    """There is one retry."""
    client = FakeClient(a=[LOST, upstream("a", id="new"), LOST])
    rig = Rig(client)
    (outcome,) = await rig.legs.run([listing("a", upstream("a"))])
    assert outcome == Failed("a", "session_lost", "does not know its session any more")
    assert rig.told.legs == [("a", "list", "session_lost")]


async def test_a_session_that_could_not_be_opened_again() -> None:
    rig = Rig(FakeClient(a=[LOST, REFUSED]))
    await rig.legs.run([listing("a", upstream("a"))])
    assert (rig.told.repairs, rig.told.legs) == ([("a", "connect")], [("a", "list", "connect")])


async def test_a_session_that_is_opened_late_is_no_repair() -> None:
    rig = Rig(FakeClient(a=[upstream("a"), page("1")]))
    await rig.legs.run([listing("a")])
    assert rig.told.repairs == []


async def test_all_who_miss_one_session_open_it_once() -> None:
    client = FakeClient(a=[upstream("a", id="new")])
    rig = Rig(client)
    found = await asyncio.gather(*(rig.legs.session(need(ref("a", upstream("a")), "id of a")) for _ in range(10)))
    assert found == [upstream("a", id="new")] * 10
    assert client.asked == [("a", "initialize", LATEST)]
    # Nor is it opened again for one who learns of the loss later.
    assert await rig.legs.session(need(ref("a", upstream("a")), "id of a")) == upstream("a", id="new")
    assert len(client.asked) == 1


DOUBTFUL = UpstreamSession(LATEST, "id of a", frozenset())


@pytest.mark.parametrize("reply", [{}, UpstreamError("error", "answered with error -32601: no ping")])
async def test_a_doubtful_session_that_the_server_knows_goes_on(reply: Step) -> None:
    client = FakeClient(a=[reply])
    assert await Rig(client).legs.session(doubted(ref("a"), "id of a")) == DOUBTFUL
    assert client.asked == [("a", "ping", ("id of a", "{}"))]


async def test_a_doubtful_session_that_is_lost_is_opened_again() -> None:
    client = FakeClient(a=[LOST, upstream("a", id="new")])
    rig = Rig(client)
    assert await rig.legs.session(doubted(ref("a", anchor="id of a"), "id of a")) == upstream("a", id="new")
    # Who comes later with the same one does not ask.
    assert await rig.legs.session(doubted(ref("a", anchor="id of a"), "id of a")) == upstream("a", id="new")
    assert client.asked == [("a", "ping", ("id of a", "{}")), ("a", "initialize", LATEST)]


async def test_a_doubtful_session_with_a_server_that_is_down() -> None:
    """No session is opened for that: the old one may be good when the server is back."""
    client = FakeClient(a=[REFUSED])
    assert await Rig(client).legs.session(doubted(ref("a"), "id of a")) == Failed("a", "connect", "is unreachable")


async def test_sessions_of_different_clients_and_servers_are_opened_each() -> None:
    client = FakeClient(a=[upstream("a", id="1"), upstream("a", id="2")], b=[upstream("b", id="3")])
    legs = Rig(client).legs
    refs = [ref("a", anchor="token 1"), ref("a", anchor="token 2"), ref("b", anchor="token 1")]
    found = await asyncio.gather(*(legs.session(need(one, None)) for one in refs))
    assert [session.id for session in found if isinstance(session, UpstreamSession)] == ["1", "2", "3"]


async def test_one_who_gives_up_does_not_fail_the_others() -> None:
    opened = asyncio.Event()
    client = FakeClient(a=[opened, upstream("a", id="new")])
    legs = Rig(client).legs
    first, second = (asyncio.create_task(legs.session(need(ref("a"), None))) for _ in range(2))
    while not client.asked:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    opened.set()
    assert await second == upstream("a", id="new")


async def test_a_session_that_can_not_be_opened_is_tried_again_the_next_time() -> None:
    client = FakeClient(a=[REFUSED, upstream("a", id="new")])
    legs = Rig(client).legs
    assert await legs.session(need(ref("a"), None)) == Failed("a", "connect", "is unreachable")
    assert await legs.session(need(ref("a"), None)) == upstream("a", id="new")


async def test_opening_late_has_a_deadline() -> None:
    legs = Rig(FakeClient(a=[asyncio.Event()]), discovery_timeout="10ms").legs
    assert await legs.session(need(ref("a"), None)) == Failed("a", "timeout", "did not answer within 0.01 s")


async def test_a_session_opened_late_is_declared_what_the_client_declared() -> None:
    client = FakeClient(a=[upstream("a", id="new")])
    await Rig(client).legs.session(need(ref("a"), None))
    assert client.declared == [FLAGS]


async def test_a_session_for_a_client_that_has_gone_is_ended_and_not_kept() -> None:
    """Nobody would end it later."""
    opened, ended = asyncio.Event(), asyncio.Event()
    client = FakeClient(a=[opened, upstream("a", id="new"), ended, {}])
    rig = Rig(client)
    waiting = asyncio.create_task(rig.legs.session(need(ref("a"), None)))
    while not client.asked:
        await asyncio.sleep(0)
    rig.memory.end("token 1")
    opened.set()
    outcome = await waiting
    assert isinstance(outcome, Failed)
    assert outcome.reason == "ended"
    ended.set()
    while client.left("a"):
        await asyncio.sleep(0)
    assert client.asked[-1] == ("a", "end", "new")
    assert rig.memory.current(ref("a")) is None


@pytest.mark.parametrize("first", ["retry", "DELETE"])
async def test_a_session_for_a_retry_of_envoys_ends_with_the_clients(first: str) -> None:
    """The retry names the session that the server lost, and not whose it is (gateway/repair.py)."""
    opened = asyncio.Event()
    client = FakeClient(a=[opened, upstream("a", id="new"), {}])
    rig = Rig(client)
    known = ref("a", upstream("a", id="old"))
    retried = replace(known, known=None, client="")
    if first == "DELETE":
        rig.memory.apply(EndSession("token 1", (known,)))
    waiting = asyncio.create_task(rig.legs.session(need(retried, "old")))
    await eventually(lambda: client.asked, "initialize")
    rig.memory.apply(EndSession("token 1", (known,)))
    opened.set()
    outcome = await waiting
    assert isinstance(outcome, Failed)
    assert outcome.reason == "ended"
    await eventually(lambda: client.left("a") == 0, "the session is ended")
    assert client.asked[-1] == ("a", "end", "new")


async def test_a_session_for_a_client_that_leaves_while_its_settings_are_told_is_ended() -> None:
    telling = asyncio.Event()
    client = FakeClient(a=[upstream("a", id="new", capabilities=EVERYTHING), telling, {}, {}])
    rig = Rig(client)
    rig.memory.set_level(ref("a", RICH), "info")
    waiting = asyncio.create_task(rig.legs.session(need(ref("a", RICH), "id of a")))
    await eventually(lambda: client.asked and client.asked[-1][1] == "logging/setLevel", "the level is told")
    rig.memory.end("token 1")
    telling.set()
    outcome = await waiting
    assert isinstance(outcome, Failed)
    assert outcome.reason == "ended"
    await eventually(lambda: client.left("a") == 0, "the session is ended")
    assert client.asked[-1] == ("a", "end", "new")
    assert rig.memory.settings("a", "new") is None


# -- Settings that are told again -------------------------------------------------------------------------------------------

RICH = upstream("a", capabilities=EVERYTHING)
NEW = upstream("a", id="new", capabilities=EVERYTHING)


def remembered(client: FakeClient) -> Rig:
    rig = Rig(client)
    rig.memory.set_level(ref("a", RICH), "info")
    for uri in ("x:1", "x:2"):
        rig.memory.subscribe(ref("a", RICH), uri)
    return rig


async def test_a_server_that_lost_its_session_is_told_the_settings_again() -> None:
    """Before anybody uses the session, and for the next time it is lost."""
    client = FakeClient(a=[NEW, {}, {}, {}])
    rig = remembered(client)
    assert await rig.legs.session(need(ref("a", RICH), "id of a")) == NEW
    assert client.asked[1:] == [
        ("a", "logging/setLevel", ("new", '{"level":"info"}')),
        ("a", "resources/subscribe", ("new", '{"uri":"x:1"}')),
        ("a", "resources/subscribe", ("new", '{"uri":"x:2"}')),
    ]
    settings = rig.memory.settings("a", "new")
    assert settings is not None
    assert (settings.level, [*settings.subscriptions]) == ("info", ["x:1", "x:2"])


@pytest.mark.parametrize(
    ("flags", "asked"),
    [((), []), (("logging",), ["logging/setLevel"]), (("resources.subscribe",), ["resources/subscribe"] * 2)],
)
async def test_only_what_a_server_still_offers_is_told_again(flags: tuple[str, ...], asked: list[str]) -> None:
    client = FakeClient(a=[upstream("a", id="new", capabilities=flags), {}, {}])
    await remembered(client).legs.session(need(ref("a", RICH), "id of a"))
    assert [found[1] for found in client.asked] == ["initialize", *asked]


async def test_a_setting_that_is_refused_does_no_harm() -> None:
    """The resource may be gone, and the session is good all the same."""
    client = FakeClient(a=[NEW, {}, UpstreamError("error", "answered with error -32002: no"), {}])
    assert await remembered(client).legs.session(need(ref("a", RICH), "id of a")) == NEW
    assert client.left("a") == 0
    client = FakeClient(a=[NEW, UpstreamError("error", "no")])
    assert await remembered(client).legs.session(need(ref("a", RICH), "id of a")) == NEW


# -- Notifications and ends -----------------------------------------------------------------------------------------------


async def test_a_notification_goes_to_open_sessions_as_it_is() -> None:
    client = FakeClient(a=[{}], b=[])
    legs: list[Leg] = [
        NotifyLeg("a", ref("a", upstream("a")), b'{"x": 1}', deadline=DEADLINE),
        NotifyLeg("b", ref("b"), b'{"x": 1}', deadline=DEADLINE),
    ]
    assert await Rig(client).legs.run(legs) == [Done("a"), Done("b")]
    assert client.asked == [("a", "notify", ("id of a", b'{"x": 1}'))]


async def test_a_notification_opens_no_session() -> None:
    client = FakeClient(a=[LOST])
    assert await Rig(client).legs.run([NotifyLeg("a", ref("a", upstream("a")), b"{}", deadline=DEADLINE)]) == [
        Done("a")
    ]
    assert [asked[1] for asked in client.asked] == ["notify"]


async def test_a_notification_that_is_refused() -> None:
    legs = Rig(FakeClient(a=[REFUSED])).legs
    assert await legs.run([NotifyLeg("a", ref("a", upstream("a")), b"{}", deadline=DEADLINE)]) == [
        Failed("a", "connect", "is unreachable")
    ]


async def test_the_newest_session_is_ended() -> None:
    """Not the one that it replaced."""
    client = FakeClient(a=[{}], b=[])
    rig = Rig(client)
    rig.memory.replace("a", "id of a", upstream("a", id="new"))
    legs: list[Leg] = [
        CloseLeg("a", ref("a", upstream("a")), deadline=DEADLINE),
        CloseLeg("b", ref("b"), deadline=DEADLINE),
    ]
    assert await rig.legs.run(legs) == [Done("a"), Done("b")]
    assert client.asked == [("a", "end", "new")]


async def test_a_useless_session_is_ended_without_anybody_waiting() -> None:
    ended = asyncio.Event()
    client = FakeClient(a=[ended, {}], b=[REFUSED])
    legs = Rig(client).legs
    legs.discard("a", upstream("a"), CONTEXT)
    legs.discard("b", upstream("b"), CONTEXT)
    while client.left("b"):
        await asyncio.sleep(0)
    ended.set()
    while client.left("a"):
        await asyncio.sleep(0)
    await legs.close()
    assert sorted(asked[:2] for asked in client.asked) == [("a", "end"), ("b", "end")]
    assert client.contexts == [CONTEXT, CONTEXT]


async def test_an_answer_to_a_server_is_posted_without_anybody_waiting() -> None:
    """And whether that works is nobody's trouble."""
    client = FakeClient(a=[{}], b=[REFUSED])
    legs = Rig(client).legs
    legs.post("a", upstream("a"), b'{"id":1}', CONTEXT)
    legs.post("b", upstream("b"), b'{"id":2}', CONTEXT)
    while client.left("a") or client.left("b"):
        await asyncio.sleep(0)
    await legs.close()
    assert client.asked == [("a", "notify", ("id of a", b'{"id":1}')), ("b", "notify", ("id of b", b'{"id":2}'))]
    assert client.contexts == [CONTEXT, CONTEXT]


async def test_an_answer_to_a_removed_server_is_not_sent() -> None:
    client = FakeClient(a=[{}])
    legs = Rig(client).legs
    assert not legs.post("gone", upstream("gone"), b'{"id":1}', CONTEXT)
    await legs.close()
    assert client.asked == []


async def test_closing_gives_up_what_runs_by_itself() -> None:
    client = FakeClient(a=[asyncio.Event()], b=[asyncio.Event()])
    legs = Rig(client).legs
    waiting = asyncio.create_task(legs.session(need(ref("a"), None)))
    legs.discard("b", upstream("b"), CONTEXT)
    while len(client.asked) < 2:
        await asyncio.sleep(0)
    await legs.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_sessions_that_nobody_learns_of_are_ended() -> None:
    """Whoever asked for them is gone, while another server has not answered."""
    client = FakeClient(a=[upstream("a"), {}], b=[asyncio.Event()])
    legs = Rig(client).legs
    asking = asyncio.create_task(legs.run([opening("a"), opening("b")]))
    await eventually(lambda: client.left("a") == 1 and client.left("b") == 0, "one is open, and one waits")
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    await eventually(lambda: client.left("a") == 0, "it is ended")
    assert client.asked[-1] == ("a", "end", "id of a")
