"""Bodies of every size, and in ways that no filter behind a `buffer` sends them: each is judged whole or not let through."""

from __future__ import annotations

import json

import msgspec
import pytest

from mcp_extproc.gateway.legs import Listed
from tests.extproc import rig as rigs
from tests.extproc.rig import REQUEST_BYTES, Rig, Transport, call
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import Ended, common, error_of, facts, kind, request_fields, rpc


def sized(size: int) -> bytes:
    """A call of exactly this many bytes."""
    return call(text="x" * (size - len(call(text=""))))


class TestSize:
    @pytest.mark.parametrize("size", [1000, 16 * 1024 - 5, 16 * 1024, REQUEST_BYTES])
    async def test_up_to_the_limit_passes(self, rig: Rig[FakeUpstreams], size: int) -> None:
        body = sized(size)
        exchange = await rig.posted(body)
        answer = await exchange.receive()
        assert len(body) == size
        assert common(answer).body_mutation.body == body.replace(b"gh__", b"")
        assert (await exchange.end()).name == "OK"

    async def test_over_the_limit_is_refused(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(sized(REQUEST_BYTES + 1))
        answer = await exchange.receive()
        error = error_of(answer)
        assert answer.immediate_response.status.code == 413
        assert error["error"] == {
            "code": -32600,
            "message": f"The body is larger than the {REQUEST_BYTES} bytes allowed (limits.request_bytes).",
        }
        assert "id" not in error
        assert facts(answer) == {"error_code": -32600, "error_reason": "too_large", "answered": True}
        assert (await exchange.end()).name == "OK"

    async def test_said_to_be_over_the_limit_is_refused_before_it_is_sent(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields(content_length=str(REQUEST_BYTES + 1)))
        answer = await exchange.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 413

    async def test_over_what_one_message_may_hold_ends_this_stream_only(self, rig: Rig[FakeUpstreams]) -> None:
        """Envoy's buffer limit is the gateway's own: such a message comes from nobody who would take an answer."""
        other = await rig.asked()
        exchange = await rig.asked()
        with pytest.raises(Ended) as ended:  # noqa: PT012 - the stream may end while it is still being sent
            await exchange.send_body(b"x" * (REQUEST_BYTES + 1_000_000))
            await exchange.receive()
        assert ended.value.code.name == "RESOURCE_EXHAUSTED"
        await other.send_body(call())
        assert kind(await other.receive()) == "request_headers"

    async def test_a_large_answer_arrives_whole(self, rig: Rig[FakeUpstreams]) -> None:
        """Larger than the 4 MiB at which gRPC stops by default: merged lists have a limit of their own."""
        exchange = await rig.waiting(rpc("tools/list"))
        entries = [msgspec.Raw(b'{"name":"t%d","d":"%s"}' % (n, b"x" * 50_000)) for n in range(100)]
        (await rig.upstreams.next_run()).outcome.set_result([Listed("github", entries), Listed("weather", ())])
        answer = await exchange.receive()
        tools = json.loads(answer.immediate_response.body)["result"]["tools"]
        assert [tool["name"] for tool in tools] == [f"gh__t{n}" for n in range(100)]
        assert len(answer.immediate_response.body) > 5_000_000
        assert (await exchange.end()).name == "OK"

    async def test_the_configured_limit_is_the_one_that_counts(self, transport: Transport) -> None:
        """A body above gRPC's own default of 4 MiB passes where the operator allows it."""
        config = rigs.configuration(limits={"request_bytes": 6 << 20})
        async with rigs.rig(transport, rigs.fakes, config) as rig:
            exchange = await rig.posted(sized(6 << 20))
            assert kind(await exchange.receive()) == "request_headers"


class TestEmpty:
    @pytest.mark.parametrize("end_of_stream", [True, False])
    async def test_body(self, rig: Rig[FakeUpstreams], end_of_stream: bool) -> None:
        exchange = await rig.asked()
        await exchange.send_body(b"", end_of_stream=end_of_stream)
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32700
        assert answer.immediate_response.status.code == 400
        assert (await exchange.end()).name == "OK"

    async def test_post_that_ends_with_its_head(self, rig: Rig[FakeUpstreams]) -> None:
        """Nothing is ordered that would never come."""
        exchange = rig.client.exchange()
        await exchange.send_headers(rig.fields(), end_of_stream=True)
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32700
        assert answer.immediate_response.status.code == 400
        assert (await exchange.end()).name == "OK"


class TestEndOfStream:
    async def test_that_is_not_told_because_trailers_follow(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.asked()
        await exchange.send_body(call(), end_of_stream=False)
        assert kind(await exchange.receive()) == "request_headers"
        await exchange.send_trailers()
        assert kind(await exchange.receive()) == "request_trailers"
        assert (await exchange.end()).name == "OK"

    @pytest.mark.parametrize("body", [call(), rpc("ping"), b"junk"])
    @pytest.mark.parametrize("times", [1, 3])
    async def test_that_is_told_again_is_not_answered_again(
        self, rig: Rig[FakeUpstreams], body: bytes, times: int
    ) -> None:
        exchange = await rig.posted(body)
        await exchange.receive()
        for _ in range(times):
            await exchange.send_body(b"")
        assert (await exchange.end()).name == "OK"

    async def test_that_is_told_again_while_servers_are_asked_is_not_answered_twice(
        self, rig: Rig[FakeUpstreams]
    ) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        await exchange.send_body(b"")
        (await rig.upstreams.next_run()).outcome.set_result([Listed("github", ()), Listed("weather", ())])
        answers, code = await exchange.rest()
        assert [kind(answer) for answer in answers] == ["immediate_response"]
        assert answers[0].immediate_response.status.code == 200
        assert code.name == "OK"


class TestPieces:
    """A `buffer` in front gives one message. What comes in pieces all the same must not be judged by the first one."""

    @pytest.mark.parametrize("cut", [1, 20, -1])
    async def test_an_incomplete_first_piece_is_refused(self, rig: Rig[FakeUpstreams], cut: int) -> None:
        exchange = await rig.asked()
        await exchange.send_body(call()[:cut], end_of_stream=False)
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32700
        assert answer.immediate_response.status.code == 400

    @pytest.mark.parametrize("tail", [b" ", call("weather__sun")])
    @pytest.mark.parametrize("end_of_stream", [True, False])
    async def test_what_follows_a_complete_first_piece_is_not_let_through(
        self, rig: Rig[FakeUpstreams], tail: bytes, end_of_stream: bool
    ) -> None:
        exchange = await rig.asked()
        await exchange.send_body(call(), end_of_stream=False)
        assert kind(await exchange.receive()) == "request_headers"
        await exchange.send_body(tail, end_of_stream=end_of_stream)
        answers, code = await exchange.rest()
        assert answers == []
        assert code.name == "INTERNAL"
        await rig.serves()

    async def test_a_piece_that_comes_while_servers_are_asked_is_not_let_through(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(
            call(), rig.fields(mcp_session_id=rig.token(weather=rigs.WEATHER)), rigs.FOR_A_SESSION
        )
        await exchange.send_body(b"tail")
        (await rig.upstreams.next_session()).outcome.set_result(rigs.GITHUB)
        answers, code = await exchange.rest()
        assert [kind(answer) for answer in answers] == ["request_headers"]
        assert code.name == "INTERNAL"


async def test_get_and_delete_with_a_body_are_decided_without_it(rig: Rig[FakeUpstreams]) -> None:
    for method in ("GET", "DELETE"):
        exchange = rig.client.exchange()
        await exchange.send_headers(request_fields(method, content_type="application/json"), end_of_stream=False)
        error_of(await exchange.receive())
        await exchange.send_body(b"")
        assert (await exchange.end()).name == "OK"
