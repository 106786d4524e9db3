"""``logging/setLevel``: one level for all servers of the session (2025-11-25 server/utilities/logging)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from mcp_extproc.gateway import merge, refusals, replies
from mcp_extproc.gateway.decision import FanOut, Reply, in_one_slice
from mcp_extproc.gateway.effects import SetLevel
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.legs import AskLeg, Outcome
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.methods import Method


def set_level(ask: Inquiry, method: Method) -> FanOut:
    """Set the level at every server that logs.

    Raises:
        McpError: there is no such level.
    """
    level = ask.request.text("level")
    if level not in methods.LOG_LEVELS:
        raise refusals.invalid_params(f"{method.name} needs params.level, one of {', '.join(methods.LOG_LEVELS)}.")
    caller, context, params = ask.caller, ask.context, orjson.dumps({"level": level})
    assert method.capability is not None
    legs = tuple(
        AskLeg(
            name, caller.upstream(name), method.name, params, method.capability,
            deadline=caller.catalog.entries[name].discovery_timeout, context=context,
        )
        for name in caller.servers_with(method.capability)
    )  # fmt: skip

    def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
        if (refused := replies.nobody_answered(outcomes, ask.request.id, ask.facts)) is not None:
            return refused
        facts = ask.facts.but(unavailable=replies.names_of(merge.failures(outcomes)))
        return replies.result(ask.request.id, {}, facts, replies.failure_notes(outcomes))

    return FanOut(
        legs,
        in_one_slice(answer),
        caller.key,
        effects=(SetLevel(caller.key, level, tuple(leg.session for leg in legs)),),
    )
