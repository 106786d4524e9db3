"""What each message of Envoy's is answered with, phase by phase, and what is ordered for the next one."""

from __future__ import annotations

import json

import msgspec
import pytest
from google.protobuf import json_format

from mcp_extproc.contract import (
    ACT_ROUTE,
    EARLY_HIDES,
    EARLY_KEY,
    EARLY_SHOWS,
    JUDGE_ROUTE,
    NAMESPACE,
    ONWARD_NAMESPACE,
    READS_ALL,
    READS_EVENTS,
    READS_KEY,
    RESPONSE_NAMESPACE,
)
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.legs import CloseLeg, Done, Failed, Listed, ListLeg, NotifyLeg, Opened, OpenLeg
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.extproc import rig as rigs
from tests.extproc.rig import (
    FOR_A_SESSION,
    GITHUB,
    REPAIR_FIELDS,
    REPAIR_ROUTE,
    WEATHER,
    Rig,
    Transport,
    assert_more_time,
    call,
    initialize,
)
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    RawExchange,
    body_message,
    common,
    error_of,
    facts,
    headers_message,
    kind,
    later_messages,
    removed_headers,
    reply_headers,
    request_fields,
    response_head,
    rpc,
    set_headers,
)

ASK_FOR_BODY = pb.ProcessingResponse(
    request_headers=pb.HeadersResponse(),
    mode_override=pb.ProcessingMode(
        request_header_mode=pb.ProcessingMode.SEND,
        response_header_mode=pb.ProcessingMode.SKIP,
        request_body_mode=pb.ProcessingMode.BUFFERED,
        response_body_mode=pb.ProcessingMode.NONE,
    ),
)


def is_read(answer: pb.ProcessingResponse) -> str | None:
    """Which responses to a forwarded request are sent to a worker."""
    if RESPONSE_NAMESPACE not in answer.dynamic_metadata.fields:
        return None
    return answer.dynamic_metadata.fields[RESPONSE_NAMESPACE].struct_value.fields[READS_KEY].string_value


class TestCall:
    async def test_takes_head_and_body_in_and_one_message_out(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields())
        await exchange.send_body(call())
        assert kind(await exchange.receive()) == "request_headers"
        assert (await exchange.end()).name == "OK"
        assert rig.counters.snapshot() == {"mcp.forwarded{server=github}": 1}

    async def test_has_event_streams_read_and_json_where_that_can_need_rewriting(self, transport: Transport) -> None:
        """With several servers, links can."""
        plain = UpstreamSession("2025-11-25", None, frozenset({"tools"}))
        rich = UpstreamSession("2025-11-25", None, frozenset({"resources"}))
        one = rigs.configuration(servers={"github": rigs.SERVERS["github"]})
        for config, tokens, asked in (
            (one, {"github": plain}, READS_EVENTS),
            (one, {"github": GITHUB}, READS_EVENTS),
            (rigs.configuration(), {"github": plain, "weather": plain}, READS_EVENTS),
            (rigs.configuration(), {"github": plain, "weather": rich}, READS_ALL),
        ):
            async with rigs.rig(transport, rigs.fakes, config) as rig:
                exchange = await rig.posted(call(), rig.fields(mcp_session_id=rig.token(**tokens)))
                assert is_read(await exchange.receive()) == asked

    async def test_is_forwarded_with_the_servers_own_name_and_session(self, rig: Rig[FakeUpstreams]) -> None:
        body = call("gh__issue_read", number=7)
        exchange = await rig.posted(body)
        answer = await exchange.receive()
        forwarded = body.replace(b"gh__", b"")
        assert common(answer).status == pb.CommonResponse.CONTINUE_AND_REPLACE
        assert common(answer).body_mutation.body == forwarded
        assert common(answer).clear_route_cache
        assert set_headers(answer) == {
            ":path": "/mcp?toolset=all",
            "accept-encoding": "identity",
            "authorization": "Bearer of-the-gateway",
            "mcp-method": "tools/call",
            "mcp-name": "issue_read",
            "mcp-session-id": "gh-1",
            "x-mcp-server": "github",
        }

    async def test_orders_nothing_for_the_response(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(call())
        answer = await exchange.receive()
        assert not answer.HasField("mode_override")
        assert not answer.HasField("override_message_timeout")

    async def test_with_value_instead_of_raw_value_is_read_alike(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields(), raw=False)
        await exchange.send_body(call())
        assert set_headers(await exchange.receive())["mcp-session-id"] == "gh-1"

    @pytest.mark.parametrize("sent", ["response_headers", "response_body", "response_trailers", "request_trailers"])
    async def test_later_messages_are_let_pass_with_the_answer_of_their_kind(
        self, rig: Rig[FakeUpstreams], sent: str
    ) -> None:
        exchange = await rig.posted(call())
        await exchange.receive()
        await exchange.send(later_messages()[sent])
        answer = await exchange.receive()
        assert answer == pb.ProcessingResponse(**{sent: getattr(answer, sent)})
        assert answer.ByteSize() <= 4, "it changes something"
        assert (await exchange.end()).name == "OK"

    async def test_opens_the_session_that_is_missing_and_then_goes_on(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(call(), rig.fields(mcp_session_id=rig.token(weather=WEATHER)), FOR_A_SESSION)
        work = await rig.upstreams.next_session()
        assert (work.asked.ref.server, work.asked.ref.known, work.asked.lost) == ("github", None, None)
        work.outcome.set_result(UpstreamSession("2025-06-18", "late", frozenset({"tools"})))
        answer = await exchange.receive()
        assert kind(answer) == "request_headers"
        assert set_headers(answer)["mcp-session-id"] == "late"
        assert set_headers(answer)["mcp-protocol-version"] == "2025-06-18"
        assert (await exchange.end()).name == "OK"

    async def test_whose_session_cannot_be_opened_is_answered_with_the_cause(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(call(id="q"), rig.fields(mcp_session_id=rig.token(weather=WEATHER)), FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.set_result(Failed("github", "connect", "could not be asked"))
        answer = await exchange.receive()
        error = error_of(answer)
        assert answer.immediate_response.status.code == 200
        assert error["id"] == "q"
        assert error["error"]["code"] == -32603
        assert "'github' could not be asked" in error["error"]["message"]


class TestAnsweredHere:
    async def test_ping(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(rpc("ping", id=12345678901234567890))
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 200
        assert answer.immediate_response.body == b'{"jsonrpc":"2.0","id":12345678901234567890,"result":{}}'
        assert answer.immediate_response.details == "mcp_answered"
        assert not answer.HasField("mode_override")
        assert (await exchange.end()).name == "OK"

    async def test_a_notification_that_ends_here(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(rpc("notifications/initialized", id=None))
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 202
        assert answer.immediate_response.body == b""
        assert (await exchange.end()).name == "OK"

    @pytest.mark.parametrize("end_of_stream", [True, False])
    async def test_get_by_its_head_alone(self, rig: Rig[FakeUpstreams], end_of_stream: bool) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(request_fields("GET", accept="text/event-stream"), end_of_stream=end_of_stream)
        answer = await exchange.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 405
        assert reply_headers(answer)["allow"] == "POST, DELETE"
        assert (await exchange.end()).name == "OK"

    async def test_a_rejected_head_is_answered_without_waiting_for_the_body(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields(content_type="text/plain"))
        answer = await exchange.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 415
        await exchange.send_body(call())  # Envoy does not wait either
        assert (await exchange.end()).name == "OK"


class TestFanOut:
    async def test_initialize(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(initialize(), request_fields())
        work = await rig.upstreams.next_run()
        context = RequestContext(request_id=json.dumps(1).encode())
        assert work.asked == tuple(
            OpenLeg(name, "2025-11-25", frozenset(), deadline=10.0, context=context) for name in ("github", "weather")
        )
        work.outcome.set_result([Opened("github", GITHUB, None), Failed("weather", "timeout", "is slow")])
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 200
        offered = json.loads(answer.immediate_response.body)["result"]["capabilities"]
        assert offered["tools"] == {"listChanged": True}
        token = reply_headers(answer)["mcp-session-id"]
        assert (await exchange.end()).name == "OK"

        again = await rig.posted(call(), rig.fields(mcp_session_id=token))
        assert set_headers(await again.receive())["mcp-session-id"] == "gh-1"

    async def test_list_asks_for_time_once_and_answers_once(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(rpc("tools/list", id="l"))
        assert_more_time(await exchange.receive())
        work = await rig.upstreams.next_run()
        assert all(isinstance(leg, ListLeg) for leg in work.asked)
        listed = Listed("weather", [msgspec.Raw(b'{"name": "sun", "x": 1.0}')])
        work.outcome.set_result([Listed("github", ()), listed])
        answer = await exchange.receive()
        body = b'{"jsonrpc":"2.0","id":"l","result":{"tools":[{"name": "weather__sun", "x": 1.0}]}}'
        assert answer.immediate_response.body == body
        assert (await exchange.end()).name == "OK"

    async def test_cancelled_is_told_to_every_server(self, rig: Rig[FakeUpstreams]) -> None:
        body = rpc("notifications/cancelled", {"requestId": 1}, id=None)
        exchange = await rig.waiting(body)
        work = await rig.upstreams.next_run()
        assert [(leg.server, leg.body) for leg in work.asked if isinstance(leg, NotifyLeg)] == [
            ("github", body),
            ("weather", body),
        ]
        work.outcome.set_result([Done("github"), Done("weather")])
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 202
        assert (await exchange.end()).name == "OK"

    @pytest.mark.parametrize("end_of_stream", [True, False])
    async def test_delete_by_its_head_alone(self, rig: Rig[FakeUpstreams], end_of_stream: bool) -> None:
        fields = request_fields("DELETE", mcp_session_id=rig.token())
        exchange = rig.client.exchange()
        await exchange.send_headers(fields, end_of_stream=end_of_stream)
        assert_more_time(await exchange.receive())
        work = await rig.upstreams.next_run()
        assert [leg.server for leg in work.asked if isinstance(leg, CloseLeg)] == ["github", "weather"]
        work.outcome.set_result([Done("github"), Done("weather")])
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 204
        assert (await exchange.end()).name == "OK"

        again = rig.client.exchange()
        await again.send_headers(fields, end_of_stream=end_of_stream)
        answer = await again.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 404

    async def test_half_closed_by_envoy_is_answered_all_the_same(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        await exchange.half_close()
        work = await rig.upstreams.next_run()
        work.outcome.set_result([Listed("github", ()), Listed("weather", ())])
        answers, code = await exchange.rest()
        assert [kind(answer) for answer in answers] == ["immediate_response"]
        assert code.name == "OK"


class TestRepair:
    """A call that came back because the server lost its session: known by the route, decided by the head alone."""

    async def repaired(self, rig: Rig[FakeUpstreams]) -> tuple[RawExchange, pb.ProcessingResponse, UpstreamSession]:
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        assert_more_time(await exchange.receive(), FOR_A_SESSION)
        work = await rig.upstreams.next_session()
        assert (work.asked.ref.server, work.asked.lost) == ("github", "gh-1")
        session = UpstreamSession("2025-11-25", "gh-2", frozenset({"tools"}))
        rig.gateway.memory.replace("github", "gh-1", session)
        work.outcome.set_result(session)
        return exchange, await exchange.receive(), session

    async def test_goes_on_with_a_new_session_and_asks_for_the_head_of_the_response(
        self, rig: Rig[FakeUpstreams]
    ) -> None:
        _, answer, _ = await self.repaired(rig)
        assert kind(answer) == "request_headers"
        assert set_headers(answer) == {"mcp-session-id": "gh-2", "mcp-protocol-version": "2025-11-25"}
        assert removed_headers(answer) == set()
        assert answer.mode_override == pb.ProcessingMode(
            request_header_mode=pb.ProcessingMode.SEND,
            response_header_mode=pb.ProcessingMode.SEND,
            request_body_mode=pb.ProcessingMode.NONE,
            response_body_mode=pb.ProcessingMode.NONE,
        )
        assert facts(answer) == {"server": "github", "repair": "session"}

    @pytest.mark.parametrize("raw", [True, False])
    @pytest.mark.parametrize(("status", "useless"), [("200", False), ("404", False), ("400", True), ("404", True)])
    async def test_whose_server_refuses_again_gives_the_new_session_up(
        self, rig: Rig[FakeUpstreams], status: str, useless: bool, raw: bool
    ) -> None:
        exchange, _, session = await self.repaired(rig)
        await exchange.send(response_head(status, raw=raw, lost=useless))
        assert await exchange.receive() == pb.ProcessingResponse(response_headers=pb.HeadersResponse())
        assert rig.upstreams.discarded == ([("github", session)] if useless else [])
        assert (rig.gateway.memory.forget("github", "gh-1") is None) == useless
        assert (await exchange.end()).name == "OK"

    async def test_that_fails_is_answered_503(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        assert_more_time(await exchange.receive(), FOR_A_SESSION)
        (await rig.upstreams.next_session()).outcome.set_result(Failed("github", "connect", "could not be asked"))
        answer = await exchange.receive()
        assert answer.immediate_response.status.code == 503
        assert error_of(answer)["error"]["message"] == "No answer: server 'github' could not be asked."
        assert (await exchange.end()).name == "OK"

    async def test_is_no_repair_without_the_route(self, rig: Rig[FakeUpstreams]) -> None:
        """A client that sends all of a repair's headers is still only a client."""
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS)
        await exchange.send_body(call())
        assert error_of(await exchange.receive())["error"]["code"] == -32600

    async def test_of_another_route_is_no_repair(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields(), route="mcp")
        await exchange.send_body(call())
        assert is_read(await exchange.receive()) == READS_EVENTS


async def test_the_first_message_may_come_with_what_envoy_adds_to_it(rig: Rig[FakeUpstreams]) -> None:
    """Envoy tells how its filter is configured along with the first message."""
    message = headers_message(rig.fields())
    message.protocol_config.request_body_mode = pb.ProcessingMode.NONE
    exchange = rig.client.exchange()
    await exchange.send(message)
    body = body_message(call())
    body.metadata_context.SetInParent()
    await exchange.send(body)
    assert kind(await exchange.receive()) == "request_headers"


class TestInFrontOfPolicies:
    """The filter of the first visit waits for what is said to the head."""

    async def test_the_body_is_asked_for(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields(), route=f"{JUDGE_ROUTE}endpoint")
        assert await exchange.receive() == ASK_FOR_BODY
        await exchange.send_body(call())
        answer = await exchange.receive()
        assert kind(answer) == "request_body"
        assert facts(answer)["shown"]
        assert is_read(answer) is None

    async def test_the_second_visit_decides(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        shown = {"x_mcp_server": "github", "mcp_method": "tools/call", "mcp_name": "issue_read"}
        await exchange.send_headers(rig.fields(**shown), route=f"{ACT_ROUTE}github")
        await exchange.send_body(call())
        answer = await exchange.receive()
        assert kind(answer) == "request_headers"
        assert facts(answer)["forwarded"]


EARLY: list[tuple[dict[str, str], str]] = [({}, EARLY_HIDES), ({EARLY_KEY: "1"}, EARLY_SHOWS)]
"""gRPC metadata and the header that is not sent: by which the first visit is known, and was in earlier releases."""


class TestInFrontOfPoliciesThatReadNoBody:
    """The filter of such policies waits for nothing, and an ordinary call is decided there."""

    @pytest.fixture(params=EARLY, ids=["now", "before"], autouse=True)
    def mark(self, request: pytest.FixtureRequest) -> None:
        self.metadata, self.hidden = request.param

    async def answered(self, rig: Rig[FakeUpstreams], body: bytes, **headers: str) -> pb.ProcessingResponse:
        exchange = rig.client.exchange(**self.metadata)
        await exchange.send_headers([field for field in rig.fields(**headers) if field[0] != self.hidden])
        await exchange.send_body(body)
        answer = await exchange.receive()
        assert kind(answer) == "request_headers"
        assert common(answer).status == pb.CommonResponse.CONTINUE_AND_REPLACE
        assert common(answer).clear_route_cache
        assert (await exchange.end()).name == "OK"
        return answer

    async def test_a_call_is_decided(self, rig: Rig[FakeUpstreams]) -> None:
        """Only metadata, headers of ours and the body are written. What is the server's is in metadata of its own."""
        answer = await self.answered(rig, call(), authorization="Bearer c", x_mcp_server="x", x_mcp_other="y")
        assert common(answer).body_mutation.body == call("issue_read")
        assert set(set_headers(answer)) == {"mcp-method", "mcp-name", "x-mcp-server"}
        assert removed_headers(answer) == {"x-mcp-other"}
        told = json_format.MessageToDict(answer.dynamic_metadata)
        assert (
            told[NAMESPACE].items() >= {"server": "github", "tool": "issue_read", "early": True, "shown": True}.items()
        )
        assert "forwarded" not in told[NAMESPACE]
        onward = told[ONWARD_NAMESPACE]
        assert onward["path"].startswith("/")
        assert onward["mcp-name"] == "issue_read"
        assert rig.counters.snapshot() == {"mcp.forwarded{server=github}": 1}

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (rpc("tools/list", id=1), {}),
            (rpc("ping", id=1), {}),
            (rpc("tools/call", {"name": "gh__issue_read", "_meta": {"progressToken": 1}}), {}),
            (call("nobody__does"), {}),
            (call(), {"content_disposition": "x"}),
            (call(), {"x_mcp_owner": "x"}),
        ],
    )  # fmt: skip
    async def test_anything_else_is_shown(self, rig: Rig[FakeUpstreams], body: bytes, headers: dict[str, str]) -> None:
        """As it came, for the second visit to decide."""
        answer = await self.answered(rig, body, **headers)
        assert common(answer).body_mutation.body == body
        assert facts(answer)["shown"]
        assert rig.counters.snapshot() == {"mcp.shown": 1}


@pytest.mark.parametrize("route", ["", "mcp/endpoint"])
async def test_what_does_not_say_which_visit_it_is_is_refused(
    rig: Rig[FakeUpstreams], route: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither decided, which may have effects before policies judge, nor sent on as the client's."""
    exchange = rig.client.exchange()
    unmarked = [field for field in rig.fields() if field[0] not in (EARLY_HIDES, EARLY_SHOWS)]
    await exchange.send_headers(unmarked, route=route)
    answer = await exchange.receive()
    assert error_of(answer)["error"]["code"] == -32603
    assert rig.counters.snapshot() == {"mcp.rejected{reason=internal}": 1}
    assert "request_unmarked" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("route", "shows"), [(f"{JUDGE_ROUTE}endpoint", "shown"), (f"{ACT_ROUTE}github", "forwarded")])
async def test_a_route_says_more_than_headers(rig: Rig[FakeUpstreams], route: str, shows: str) -> None:
    """Of the visits that are told by one, no other is made by a header that is not there."""
    exchange = rig.client.exchange()
    shown = {"x_mcp_server": "github", "mcp_method": "tools/call", "mcp_name": "issue_read"}
    await exchange.send_headers([field for field in rig.fields(**shown) if field[0] != EARLY_HIDES], route=route)
    if shows == "shown":
        assert await exchange.receive() == ASK_FOR_BODY
    await exchange.send_body(call())
    told = facts(await exchange.receive())
    assert told[shows]
    assert "early" not in told
