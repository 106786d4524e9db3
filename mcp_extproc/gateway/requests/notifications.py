"""What clients send without wanting an answer: notifications, and answers to what servers asked."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_extproc.gateway import replies
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.decision import Decision, FanOut, in_one_slice, with_effects
from mcp_extproc.gateway.effects import AnswerQuestion, WithdrawCall
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.legs import NotifyLeg
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.identifiers import Owned, id_for_server, session_checksum
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.gateway.services import Services
from mcp_extproc.gateway.vetting import question
from mcp_extproc.mcp import envelope, methods
from mcp_extproc.mcp.envelope import Message, Notification, Response
from mcp_extproc.mcp.methods import Handling


def notification(
    services: Services, caller: Caller, head: RequestHead, message: Notification, facts: RequestFacts
) -> Decision:
    """Pass a notification on to the servers that it concerns, or to none."""
    method = methods.NOTIFICATIONS.get(message.method)
    if method is None or (method.client_flag is not None and method.client_flag not in caller.view.flags):
        return replies.accepted(facts)
    match method.handling:
        case Handling.BROADCAST:
            return _passed_on(caller, head, caller.catalog.entries, message.body, facts)
        case Handling.CANCEL:
            id = envelope.read_id(message.params.get("requestId"))
            if id is not None:
                body = _cancelled_at_servers(message, id)
                passed_on = _passed_on(caller, head, caller.catalog.entries, body, facts)
                return with_effects(passed_on, (WithdrawCall(caller.key, id),)) if caller.vetting else passed_on
        case Handling.BY_PROGRESS:
            owner = _progressing(services, caller, message)
            if owner is not None and preview.is_target_as_judged(head, owner.server):
                body = message.rewritten({"progressToken": owner.raw})
                return _passed_on(caller, head, [owner.server], body, facts.but(server=owner.server))
    return replies.accepted(facts)


def response(services: Services, caller: Caller, head: RequestHead, message: Response, facts: RequestFacts) -> Decision:
    """A client's answer to a request that some server sent: it goes to that server, and to no other. One to a question of the
    gateway's own goes to the worker that waits for it."""
    if caller.vetting is not None and (asked := services.identifiers.asked(caller.key, message.id)) is not None:
        return with_effects(replies.accepted(facts), (AnswerQuestion(asked, question.verdict(message)),))
    owner = _owner(services, "request", caller, message.id)
    if owner is None or not preview.is_target_as_judged(head, owner.server):
        return replies.accepted(facts)
    body = envelope.with_id(message.body, message.members, owner.raw)
    return _passed_on(caller, head, [owner.server], body, facts.but(server=owner.server))


def described(services: Services, caller: Caller, message: Message, facts: RequestFacts) -> RequestFacts:
    """The facts of a message that wants no answer, with the server that it is for, if it is for one."""
    owner = None
    if isinstance(message, Response):
        owner = _owner(services, "request", caller, message.id)
    elif isinstance(message, Notification):
        method = methods.NOTIFICATIONS.get(message.method)
        if method is not None and method.handling is Handling.BY_PROGRESS:
            owner = _progressing(services, caller, message)
    return facts if owner is None else facts.but(server=owner.server)


def _progressing(services: Services, caller: Caller, message: Notification) -> Owned | None:
    token = message.params.get("progressToken")
    return None if token is None else _owner(services, "progress", caller, bytes(token))


def _owner(services: Services, purpose: str, caller: Caller, raw: bytes) -> Owned | None:
    """Whose id or token it is; ``None`` also where the server, or its session that asked, is not there any more."""
    owner = services.identifiers.owner(purpose, caller.key, raw)
    if owner is None or owner.server not in caller.catalog.entries:
        return None
    current = services.memory.current(caller.upstream(owner.server))
    return owner if current is not None and session_checksum(current) == owner.session else None


def _passed_on(caller: Caller, head: RequestHead, servers: Iterable[str], body: bytes, facts: RequestFacts) -> FanOut:
    context = context_of(head, None, caller.carried, caller.catalog.subject(head))
    entries = caller.catalog.entries
    legs = tuple(
        NotifyLeg(
            name,
            caller.upstream(name),
            body,
            method=facts.method,
            deadline=entries[name].discovery_timeout,
            context=context,
        )
        for name in servers
    )
    return FanOut(
        legs,
        in_one_slice(lambda outcomes, _: replies.accepted(facts, replies.failure_notes(outcomes))),
        caller.key,
    )


def _cancelled_at_servers(message: Notification, id: bytes) -> bytes:
    """``notifications/cancelled`` with the request's id as the servers got it. Servers ignore ids that they do not know."""
    theirs = id_for_server(id)
    return message.body if theirs == id else message.rewritten({"requestId": theirs})
