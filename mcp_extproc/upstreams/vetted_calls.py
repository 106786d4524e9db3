"""Calls that wait for their user's consent, each on its own event stream, and run with it."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from mcp_extproc.gateway.effects import AnswerQuestion, VettingEffect
from mcp_extproc.gateway.legs import Outcome
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import Asked
from mcp_extproc.gateway.relay.outcomes import failure
from mcp_extproc.gateway.requests.vetted import VettedCall
from mcp_extproc.gateway.vetting import question
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp import errors
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.sse import COMMENT, SseEvent, render
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.handover import Handover
from mcp_extproc.upstreams.merged_stream import HEARTBEAT_SECONDS
from mcp_extproc.upstreams.unread import Given, Unread

MAX_WAITING: Final = 16
"""Calls of a session that wait at a time: nobody answers more questions."""

_CALL_BYTES: Final = 80 * 1024
"""About what a call that waits holds besides its body: the question, and above all its two exchanges with Envoy. Measured with
2,000 of them."""

_QUESTION_BYTES: Final = 16


@dataclass(eq=False, slots=True)
class _Waiting:
    """A call whose user was asked."""

    call: VettedCall
    verdict: asyncio.Future[Verdict]

    def decide(self, verdict: Verdict) -> None:
        """The first word counts."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


@dataclass(slots=True)
class VettedStream:
    """The event stream of a call."""

    chunks: AsyncIterator[bytes]
    facts: dict[str, Any]
    """What came of it, as the access log has it; complete once the stream is over."""


class VettedCalls:
    """All of a worker.

    Args:
        batches: runs calls.
        memory: of sessions.
        held: what this worker holds.
        unread: what Envoy may have of streams that nobody reads.
        most: bytes of the stream of one call.
        handover: takes answers that other workers got, and gives them theirs.
    """

    def __init__(
        self,
        batches: BatchClient,
        memory: SessionMemory,
        held: HeldBytes,
        unread: Unread,
        most: int,
        handover: Handover,
    ) -> None:
        self._batches = batches
        self._memory = memory
        self._held = held
        self._unread = unread
        self._most = most
        self._handover = handover
        self._waiting: dict[bytes, _Waiting] = {}
        self._of_session: Counter[str] = Counter()
        self._is_closing = False
        handover.on_answer = self._answer

    def apply(self, effect: VettingEffect) -> None:
        """Have a call wait no more: its user has answered, or its client wants no answer."""
        if isinstance(effect, AnswerQuestion):
            if effect.asked.question in self._waiting:
                self._answer(effect.asked.question, effect.verdict)
            else:
                self._handover.give(effect.asked, effect.verdict)
            return
        for waiting in self._waiting.values():
            if waiting.call.told.caller == effect.caller and waiting.call.request.id == effect.id:
                waiting.decide(Verdict.WITHDRAWN)

    def end(self, caller: str) -> None:
        """The client ended its session: nobody answers any more."""
        for waiting in self._waiting.values():
            if waiting.call.told.caller == caller:
                waiting.decide(Verdict.WITHDRAWN)

    def close(self) -> None:
        """Have no call wait any more. Those that run go on."""
        self._is_closing = True
        for waiting in self._waiting.values():
            waiting.decide(Verdict.CLOSED)

    @asynccontextmanager
    async def open(self, call: VettedCall) -> AsyncIterator[VettedStream]:
        """Ask, and run the call where the user consents."""
        facts: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            given = stack.enter_context(self._unread.stream(call.told.caller))
            holding = stack.enter_context(self._held.holding(call.holder))
            pieces = await stack.enter_async_context(aclosing(self._pieces(call, given, holding, facts)))
            kept_alive = await stack.enter_async_context(aclosing(_kept_alive(pieces)))
            yield VettedStream(given.counted(kept_alive), facts)

    def _answer(self, question: bytes, verdict: Verdict) -> None:
        # Taken out, so that a second answer finds nothing.
        waiting = self._waiting.pop(question, None)
        if waiting is not None:
            waiting.decide(verdict)

    async def _pieces(
        self, call: VettedCall, given: Given, holding: Holding, facts: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        has_room = given.has_room and holding.part().keep(len(call.request.body) + _CALL_BYTES)
        asked = None
        if call.told.asks or not has_room:
            asked = Asked(secrets.token_bytes(_QUESTION_BYTES), self._handover.name)
            refused = self._refused(call) if has_room else Verdict.BUSY
            if refused is None:
                id, asking = call.question(asked)
                with self._waits(call, asked) as waiting:  # before the client can answer
                    yield render(SseEvent(asking))
                    verdict = await _verdict(waiting)
                if verdict in _UNANSWERED:
                    yield render(SseEvent(question.withdrawal(id, _UNANSWERED[verdict])))
            else:
                verdict = refused
            facts["consent"] = verdict.value
            if verdict is not Verdict.GIVEN:
                yield _error(call.refusal(verdict), facts)
                return
            if call.told.remembers:
                self._memory.remember_consent(call.told.caller, call.told.server, call.told.tool)
        async for piece in self._run(call, asked, given, holding, facts):
            yield piece

    def _refused(self, call: VettedCall) -> Verdict | None:
        """Why the user is not even asked."""
        if self._is_closing:
            return Verdict.CLOSED
        return Verdict.BUSY if self._of_session[call.told.caller] >= MAX_WAITING else None

    @contextmanager
    def _waits(self, call: VettedCall, asked: Asked) -> Iterator[_Waiting]:
        waiting = self._waiting[asked.question] = _Waiting(call, asyncio.get_running_loop().create_future())
        self._of_session[call.told.caller] += 1
        try:
            yield waiting
        finally:
            self._waiting.pop(asked.question, None)
            self._of_session[call.told.caller] -= 1
            if not self._of_session[call.told.caller]:
                del self._of_session[call.told.caller]

    async def _run(
        self, call: VettedCall, asked: Asked | None, given: Given, holding: Holding, facts: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        try:
            leg = call.run(asked)
        except McpError as error:
            yield _error(error.about(call.request.id), facts)
            return
        async with self._batches.opened(leg, holding) as answer:
            if isinstance(answer, Outcome):
                yield render(SseEvent(call.answer(answer)))
                return
            async for piece in answer:
                if given.bytes + len(piece) > self._most:
                    # Envoy takes whatever it is given, and does not say what the client has read.
                    yield b"\n\n" + _error(call.too_large(self._most), facts)
                    return
                yield piece


_UNANSWERED: Final = {
    Verdict.TIMEOUT: "the time to answer is over",
    Verdict.WITHDRAWN: "the call was cancelled",
    Verdict.CLOSED: "the gateway's worker ends",
}
"""The client may still show the question."""


async def _verdict(waiting: _Waiting) -> Verdict:
    try:
        async with asyncio.timeout(waiting.call.told.seconds):
            return await waiting.verdict
    except TimeoutError:
        return Verdict.TIMEOUT


def _error(error: McpError, facts: dict[str, Any]) -> bytes:
    facts |= failure(error)
    return render(SseEvent(errors.render(error)))


async def _kept_alive(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The pieces of an event stream, and comments between events where there is nothing for a while."""
    is_between = True
    following = asyncio.ensure_future(anext(pieces))
    try:
        while True:
            await asyncio.wait({following}, timeout=HEARTBEAT_SECONDS)
            if not following.done():
                if is_between:
                    yield COMMENT
                continue
            try:
                piece = following.result()
            except StopAsyncIteration:
                return
            yield piece
            is_between = piece.endswith(b"\n\n")
            following = asyncio.ensure_future(anext(pieces))
    finally:
        following.cancel()
        await asyncio.wait({following})
        if not following.cancelled():
            following.exception()
