"""Messages that nobody ordered, in every order, and bytes that are no message: nothing gets through unprocessed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import product

import grpc
import pytest

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.legs import Done, Leg, Listed, ListLeg, Outcome
from tests.extproc.rig import Rig, call
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    Ended,
    body_message,
    error_of,
    facts,
    headers_message,
    kind,
    later_messages,
    request_fields,
    rpc,
)

EMPTY = pb.ProcessingRequest()
UNKNOWN = b"\xfa\x01\x02\x08\x01"
"""A message of a kind that some later Envoy may have: field 31."""

BROKEN = {
    "unknown wire type": b"\xff\xff\xff",
    "length beyond the end": b"\x12\xff\x01\x00",
    "name of a header that is no UTF-8": b"\x12\x07\x0a\x05\x0a\x03\x0a\x01\xff",
    "text": b"POST /mcp HTTP/1.1\r\n\r\n",
}


class TestBeforeTheHead:
    @pytest.mark.parametrize(
        "sent",
        [body_message(call()), body_message(b""), *later_messages().values(), EMPTY, UNKNOWN],
        ids=["body", "empty body", *later_messages(), "empty", "unknown"],
    )
    async def test_whatever_comes_is_refused(self, rig: Rig[FakeUpstreams], sent: pb.ProcessingRequest | bytes) -> None:
        exchange = rig.client.exchange()
        await exchange.send(sent)
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32603
        assert answer.immediate_response.status.code == 500
        assert facts(answer) == {"error_code": -32603, "error_reason": "internal", "answered": True}
        assert (await exchange.end()).name == "OK"
        await rig.serves()


class TestBeforeTheBody:
    @pytest.mark.parametrize(
        "sent",
        [headers_message(request_fields()), *later_messages().values(), EMPTY, UNKNOWN],
        ids=["head", *later_messages(), "empty", "unknown"],
    )
    async def test_anything_but_the_body_is_refused(
        self, rig: Rig[FakeUpstreams], sent: pb.ProcessingRequest | bytes
    ) -> None:
        exchange = await rig.asked()
        await exchange.send(sent)
        answer = await exchange.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 500
        assert (await exchange.end()).name == "OK"

    async def test_the_body_after_a_refusal_is_not_judged_again(self, rig: Rig[FakeUpstreams]) -> None:
        """Envoy may have sent it before it got the refusal, which it carries out."""
        exchange = await rig.asked()
        await exchange.send_trailers()
        error_of(await exchange.receive())
        await exchange.send_body(call())
        answers, code = await exchange.rest()
        assert answers == []
        assert code.name == "OK"
        assert rig.counters.value("mcp.forwarded", server="github") == 0


class TestAfterTheDecision:
    @pytest.mark.parametrize(
        "sent", [headers_message(request_fields()), EMPTY, UNKNOWN], ids=["head", "empty", "unknown"]
    )
    @pytest.mark.parametrize("body", [call(), rpc("ping")])
    async def test_a_message_without_a_meaning_ends_the_stream(
        self, rig: Rig[FakeUpstreams], sent: pb.ProcessingRequest | bytes, body: bytes
    ) -> None:
        exchange = await rig.posted(body)
        await exchange.receive()
        await exchange.send(sent)
        answers, code = await exchange.rest()
        assert answers == []
        assert code.name == "INTERNAL"
        await rig.serves()


class TestBrokenBytes:
    @pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
    @pytest.mark.parametrize("phase", ["first", "before the body", "after the decision"])
    async def test_end_this_stream_and_no_other(self, rig: Rig[FakeUpstreams], broken: bytes, phase: str) -> None:
        other = await rig.asked()
        exchange = rig.client.exchange() if phase == "first" else await rig.asked()
        if phase == "after the decision":
            await exchange.send_body(call())
            await exchange.receive()
        await exchange.send(broken)
        with pytest.raises(Ended) as ended:
            await exchange.receive()
        assert ended.value.code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
        await other.send_body(call())
        assert kind(await other.receive()) == "request_headers"

    async def test_end_a_stream_whose_servers_are_being_asked(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        await exchange.send(BROKEN["text"])
        work.outcome.set_result([Listed("github", ()), Listed("weather", ())])
        _, code = await exchange.rest()
        assert code.name != "OK"
        await rig.serves()


class TestEveryOrder:
    """All sequences of up to three messages: a stream ends with OK only if it was decided, and is decided once."""

    @staticmethod
    def alphabet(rig: Rig[FakeUpstreams]) -> Mapping[str, pb.ProcessingRequest | bytes]:
        return {
            "post": headers_message(rig.fields()),
            "delete": headers_message(request_fields("DELETE", mcp_session_id=rig.token()), end_of_stream=True),
            "call": body_message(call()),
            "list": body_message(rpc("tools/list")),
            "end": body_message(b""),
            "empty": EMPTY,
            "broken": BROKEN["text"],
            **later_messages(),
        }

    @staticmethod
    def outcomes(legs: tuple[Leg, ...]) -> Sequence[Outcome]:
        return [Listed(leg.server, ()) if isinstance(leg, ListLeg) else Done(leg.server) for leg in legs]

    async def test_is_decided_once_or_not_ok(self, rig: Rig[FakeUpstreams], monkeypatch: pytest.MonkeyPatch) -> None:
        # Otherwise the first DELETE ends the session of all.
        monkeypatch.setattr(rig.gateway.memory, "end", lambda session: None)
        messages = self.alphabet(rig)
        sequences = [names for length in range(4) for names in product(messages, repeat=length)]
        several = asyncio.Semaphore(64)

        async def run(names: Sequence[str]) -> str:
            async with several:
                return await self.verdict(rig, [messages[name] for name in names])

        async with rig.upstreams.answering(self.outcomes):
            verdicts = await asyncio.gather(*(run(names) for names in sequences))
        wrong = {names: verdict for names, verdict in zip(sequences, verdicts, strict=True) if verdict}
        assert wrong == {}
        await rig.serves()

    @staticmethod
    async def verdict(rig: Rig[FakeUpstreams], sent: Sequence[pb.ProcessingRequest | bytes]) -> str:
        """What is wrong with how the stream ended; empty for nothing."""
        exchange = rig.client.exchange()
        try:
            for message in sent:
                await exchange.send(message)
        except Ended:
            pass  # refused before all of it was sent
        answers, code = await exchange.rest()
        decisions = [answer for answer in answers if answer.HasField("dynamic_metadata")]
        if any(kind(answer) is None and not answer.HasField("override_message_timeout") for answer in answers):
            return "an answer that says nothing"
        if len(decisions) > 1:
            return "decided more than once"
        if code is grpc.StatusCode.OK and not decisions:
            return "OK without a decision"
        return "cancelled by itself" if code is grpc.StatusCode.CANCELLED else ""
