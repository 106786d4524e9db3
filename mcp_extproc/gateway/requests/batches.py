"""JSON-RPC batches, for sessions at 2025-03-26: each message goes through the front door as a request of its own.

So whatever Envoy does with a request (authentication, policies, rate limits, routing) it does with each message of a batch.
Source: 2025-03-26 basic/index (Batching), basic/transports (Sending Messages to the Server).
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.contract import CERTIFICATE_HEADER, MAX_MESSAGE_TIMEOUT, ONCE_MORE
from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.decision import Decision, FanOut, Reply, in_one_slice
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.legs import NO_ROOM, Answered, BatchLeg, Failed, Outcome
from mcp_extproc.gateway.principal import BY_CERTIFICATE
from mcp_extproc.gateway.request import Headers, RequestHead, context_of
from mcp_extproc.mcp import envelope, errors, jsontext, methods
from mcp_extproc.mcp.envelope import Message, Request, Response
from mcp_extproc.mcp.errors import McpError

_NOT_COPIED = frozenset({
    "connection", "content-length", "expect", "te", "transfer-encoding", "upgrade", "x-envoy-expected-rq-timeout-ms",
    "x-request-id",
})  # fmt: skip


def split(head: RequestHead, bodies: Sequence[bytes], facts: RequestFacts) -> FanOut:
    """Send each message on by itself, and collect the answers.

    Raises:
        McpError: 400, for a batch that may not be.
    """
    read = [_read(body) for body in bodies]
    messages = [message for message in read if not isinstance(message, McpError)]
    if any(not isinstance(message, Response) and methods.opens_session(message.method) for message in messages):
        raise refusals.batch("initialize is not a part of one")
    if any(isinstance(m, Response) for m in messages) and any(isinstance(m, Request) for m in messages):
        raise refusals.batch("requests and responses are not mixed in one")
    facts = facts.but(batch=len(bodies))
    headers, target = _headers(head), _target(head)
    legs = tuple(_leg(head, target, headers, message.body) for message in messages)

    def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
        return _collected(read, outcomes, facts)

    return FanOut(legs, in_one_slice(answer), facts.session or "")


def leg(head: RequestHead, body: bytes, marks: Headers) -> BatchLeg:
    """What sends a request through the front door again.

    Args:
        head: of the request.
        body: of what is sent.
        marks: headers that say what is known of it.

    Raises:
        McpError: it can't be sent.
    """
    return _leg(head, _target(head), (*_headers(head), *marks), body)


def once_more(ask: Inquiry, mark: tuple[str, str]) -> Decision:
    """Send a request through the front door again, for policies to judge it by what is known now. The answer is that of the
    request that was sent.

    Args:
        ask: the request.
        mark: a header that says what is known.
    """
    try:
        again = leg(ask.head, ask.request.body, (mark,))
    except McpError:
        return replies.reject(refusals.not_as_judged().about(ask.request.id), ask.facts)

    def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
        facts = ask.facts.but(passed_on=ONCE_MORE) if isinstance(outcomes[0], Answered) else ask.facts
        return Reply(200, answer_to(ask.request, outcomes[0]), replies.JSON_TYPE, facts)

    return FanOut((again,), in_one_slice(answer), ask.caller.key)


def _leg(head: RequestHead, target: str, headers: Headers, body: bytes) -> BatchLeg:
    # Such a call may last as long as any other; Envoy's routes bound it.
    return BatchLeg("", target, headers, body, deadline=MAX_MESSAGE_TIMEOUT, context=context_of(head))


def _target(head: RequestHead) -> str:
    """The path, with the client's query: with the same headers they lead to the same endpoint.

    Raises:
        McpError: the query can't be sent.
    """
    if not head.path.isascii():
        raise refusals.batch("its query is not percent-encoded")
    return head.path


def _read(body: bytes) -> Message | McpError:
    try:
        return envelope.read(body)
    except McpError as error:
        return error


def _collected(read: Sequence[Message | McpError], outcomes: Sequence[Outcome], facts: RequestFacts) -> Reply:
    remaining = iter(outcomes)
    answers: list[bytes] = []
    for message in read:
        if isinstance(message, McpError):
            answers.append(errors.render(message))
            continue
        text = answer_to(message, next(remaining))
        if text:
            answers.append(text)
    if not answers:
        return replies.accepted(facts)
    reply = Reply(200, b"[%b]" % b",".join(answers), replies.JSON_TYPE, facts)
    # An array of answers has no place for notifications; the other form of a response has (basic/transports, Sending
    # Messages to the Server).
    told = [message for outcome in outcomes if isinstance(outcome, Answered) for message in outcome.told]
    return replies.as_stream(reply, told) if told else reply


def answer_to(message: Message, outcome: Outcome) -> bytes:
    """The response to a message that was sent on, or the error in its place; nothing for one that wants no answer."""
    if not isinstance(message, Request):
        return b""
    if isinstance(outcome, Answered):
        found = _response(message, outcome.message)
        if found is not None:
            return found
        why = f"HTTP {outcome.status}, and no response to the request"
    else:
        why = outcome.message if isinstance(outcome, Failed) else "the gateway gave none"
        if isinstance(outcome, Failed) and outcome.reason == NO_ROOM:
            return errors.render(refusals.busy("the answer was not read").about(message.id))
    return errors.render(refusals.no_answer(why).about(message.id))


def _response(request: Request, text: bytes) -> bytes | None:
    """The response in an answer; a refusal for reasons of transport or policy has no id, and gets the request's.

    ``None`` where there is none: filters of Envoy's answer with plain text, too.
    """
    try:
        text.decode("utf-8")
        members = jsontext.split(text)
    except (UnicodeDecodeError, TypeError, jsontext.NotJson):
        return None
    if "method" in members or ("result" in members) == envelope.is_error(members) or envelope.has_variants(members):
        return None
    return envelope.as_answer(text, members, request.id, request.id)


def _headers(head: RequestHead) -> Headers:
    """What each message is sent with: what the batch had, byte for byte and as often, as policies judge each value."""
    copied = tuple(
        (name, value)
        for name, joined in head.headers.items()
        if name not in _NOT_COPIED
        for value in head.repeated.get(name, (joined,))
    )
    for name, value in copied:
        try:
            value.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            # The client for sub-requests writes text, which it encodes as UTF-8.
            raise refusals.batch(f"its header {name} is not UTF-8") from None
    return (*copied, *identity(head))


def identity(head: RequestHead) -> Headers:
    """What the client's certificate says, which none of the requests that are sent for it has."""
    if head.principal.proven != BY_CERTIFICATE:
        return ()
    # Like the other headers, whose bytes are characters here.
    return ((CERTIFICATE_HEADER, head.principal.subject.encode().decode("latin-1")),)
