"""DELETE: the client's session ends, and with it those with the servers (2025-11-25 basic/transports, Session Management)."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.gateway import replies
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.decision import FanOut, Reply, in_one_slice
from mcp_extproc.gateway.effects import EndSession, EndStreams
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.legs import CloseLeg, Outcome
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.gateway.services import Services


def close(services: Services, caller: Caller, head: RequestHead, facts: RequestFacts, now: float) -> FanOut:
    """End a session. Its streams end with the answer."""
    facts = facts.but(session_seconds=max(0.0, now - (caller.expires - services.session_seconds)))
    context = context_of(head, None, caller.carried, caller.catalog.subject(head))
    legs = tuple(
        CloseLeg(name, caller.upstream(name), deadline=entry.discovery_timeout, context=context)
        for name, entry in caller.catalog.entries.items()
    )

    def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
        return Reply(204, b"", facts=facts, notes=replies.failure_notes(outcomes), effects=(EndStreams(caller.key),))

    return FanOut(
        legs, in_one_slice(answer), caller.key, effects=(EndSession(caller.key, tuple(leg.session for leg in legs)),)
    )
