"""Whether a caller may use what a request names. What it may not see is unknown to it, whatever a server would say.

A name that the server has not listed is unknown as well: a server's own words for it would tell apart what it does not have
and what is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from mcp_extproc.config.authorization import Kind
from mcp_extproc.contract import MAX_MESSAGE_TIMEOUT
from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.authorization.conditions import Params, Question
from mcp_extproc.gateway.authorization.items import Hints, Item
from mcp_extproc.gateway.authorization.rules import Access, Outcome, Verdict
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.decision import MARGIN, Decision, FanOut, with_effects
from mcp_extproc.gateway.effects import RememberListed
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.legs import Outcome as LegOutcome
from mcp_extproc.gateway.memory import Listing, SessionMemory
from mcp_extproc.gateway.plans import CallPlan
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests import lists
from mcp_extproc.gateway.requests.target import Target, Wanted
from mcp_extproc.gateway.services import Services
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Method
from mcp_extproc.slices import Slices

LISTED_SECONDS: Final = 5.0
"""Seconds after which a list is read again before something is called unknown. Another worker may have been told that it
changed."""


def when_permitted(
    ask: Inquiry, what: Wanted, found: Target, then: Callable[[Inquiry, Hints | None], Decision]
) -> Decision:
    """Go on with a request whose target its caller may use, or refuse it.

    Args:
        ask: the request.
        what: it names.
        found: whose that is.
        then: goes on, with what is known by then, and the annotations of a tool where they were looked at.
    """
    access = ask.caller.access
    if access is None:
        return then(ask, None)
    item = item_of(what, found)
    asked = question_of(ask.head, ask.request, ask.services)

    def judged(hints: Hints | None) -> Decision:
        seen = access.verdict(item, hints, asked.before_use)
        if not seen.shows:
            return _unknown(ask.knowing(ask.facts.but(rule=seen.rule)), what)
        verdict = _of_use(access, item, hints, asked, seen)
        about = ask.knowing(ask.facts.but(rule=verdict.rule))
        match verdict.outcome:
            case Outcome.ALLOWED:
                return then(about, hints)
            case Outcome.NEEDS_SCOPE:
                return replies.reject(_needs_scope(ask, access, verdict).about(ask.request.id), about.facts)
            case Outcome.DENIED:
                return replies.reject(refusals.denied().about(ask.request.id), about.facts)
        return _unknown(about, what)

    method = methods.NAMED_IN.get(item.kind)
    if method is None:
        return judged(None)

    def known(names: Mapping[str, Hints]) -> Decision:
        hints = names.get(item.name)
        return _unknown(ask, what) if hints is None else judged(hints)

    return with_names(ask, method, item, known, lambda names: _is_seen(access, item, names, asked))


def with_names(
    ask: Inquiry,
    method: Method,
    item: Item,
    known: Callable[[Mapping[str, Hints]], Decision],
    is_seen: Callable[[Mapping[str, Hints]], bool] | None = None,
) -> Decision:
    """Go on with what a server lists to the caller, as it was read last or is read now.

    Args:
        ask: the request that needs it.
        method: of the list.
        item: what is looked for in it.
        known: goes on.
        is_seen: whether the caller may see it; by default whatever is listed.
    """
    # What is not there is looked for once more: it may be new. So is what is hidden, which would be told by its time.
    found_before = ask.services.memory.listed(ask.caller.key, method.name, item.server)
    if found_before is None or (
        ask.now - found_before.at > LISTED_SECONDS
        and not (item.name in found_before.names if is_seen is None else is_seen(found_before.names))
    ):
        return _after_list(ask, method, item.server, known)
    return known(found_before.names)


def is_shown(ask: Inquiry, what: Wanted, found: Target) -> bool:
    """Whether a caller may see what a request names, as far as that is known without asking anybody."""
    access = ask.caller.access
    if access is None:
        return True
    item = item_of(what, found)
    listing = _listing(ask.services.memory, ask.caller, item)
    hints = None if listing is None else listing.names.get(item.name)
    if listing is not None and hints is None:
        return False
    return (
        access.verdict(item, hints, question_of(ask.head, ask.request, ask.services).before_use).outcome
        is not Outcome.DENIED
    )


def is_still_permitted(caller: Caller, services: Services, head: RequestHead, request: Request, plan: CallPlan) -> bool:
    """Whether a call of a tool or prompt is permitted by the same rule as before, as far as that is known without asking
    anybody.

    Args:
        caller: the client; what rules leave to it is the same as when the plan was made.
        services: of this worker.
        head: the request's.
        request: the call.
        plan: of one like it, which was permitted.
    """
    access = caller.access
    if access is None:
        return True
    item = plan.item
    listing = _listing(services.memory, caller, item)
    if listing is None:
        return False
    if listing.edition == plan.edition:
        return True
    hints = listing.names.get(item.name)
    if hints is None:
        return False
    question = question_of(head, request, services)
    seen = access.verdict(item, hints, question.before_use)
    if not seen.shows:
        return False
    verdict = _of_use(access, item, hints, question, seen)
    return verdict.outcome is Outcome.ALLOWED and verdict.rule == plan.forward.facts.rule


def edition_permitting(ask: Inquiry, item: Item) -> int | None:
    """Which list of its server has the rule that decided permit an item in any request, as long as it is the last one."""
    access = ask.caller.access
    if access is None or access.has_conditions:
        return None
    listing = _listing(ask.services.memory, ask.caller, item)
    hints = None if listing is None else listing.names.get(item.name)
    if listing is None or hints is None:
        return None
    verdict = access.verdict(item, hints, question_of(ask.head, ask.request, ask.services))
    is_same = verdict.outcome is Outcome.ALLOWED and verdict.rule == ask.facts.rule
    return listing.edition if is_same else None


def item_of(what: Wanted, found: Target) -> Item:
    """What rules are asked about."""
    return Item(cast("Kind", what.kind), found.server, found.own)


def _listing(memory: SessionMemory, caller: Caller, item: Item) -> Listing | None:
    """What its server listed to a caller; ``None`` where that is not known, or lists do not say all that there is."""
    method = methods.NAMED_IN.get(item.kind)
    return None if method is None else memory.listed(caller.key, method.name, item.server)


def question_of(head: RequestHead, request: Request, services: Services) -> Question:
    """What conditions are asked about a use."""
    params = Params(request.body, services.limits.cel_bytes)
    return Question(head.principal, head, request.method, params)


def _of_use(access: Access, item: Item, hints: Hints | None, question: Question, seen: Verdict) -> Verdict:
    """What holds of the use of an item that may be seen."""
    return access.verdict(item, hints, question) if access.has_conditions else seen


def _is_seen(access: Access, item: Item, names: Mapping[str, Hints], question: Question) -> bool:
    hints = names.get(item.name)
    return hints is not None and access.verdict(item, hints, question.before_use).shows


def unknown(caller: Caller, what: Wanted) -> McpError:
    """The error of what is not there for a caller. Where it may not see all resources, servers' own words for one that they
    do not have are replaced by the same, which can't name it (:func:`mcp_extproc.gateway.relay.hidden.is_not_found`)."""
    if what.kind == "resources" and caller.access is not None and caller.access.may_hide_resources:
        return refusals.unknown_resource(None)
    return what.unknown()


def _unknown(ask: Inquiry, what: Wanted) -> Decision:
    return replies.reject(unknown(ask.caller, what).about(ask.request.id), ask.facts.but(server=None, named=None))


def _needs_scope(ask: Inquiry, access: Access, verdict: Verdict) -> McpError:
    endpoint = ask.caller.endpoint
    base = endpoint.public_url or f"{ask.head.scheme}://{ask.head.headers.get('host', '')}"
    held = access.useful_scopes(ask.head.principal)
    return refusals.insufficient_scope(verdict.scopes, held, base + endpoint.metadata_path)


def _after_list(ask: Inquiry, method: Method, server: str, then: Callable[[Mapping[str, Hints]], Decision]) -> Decision:
    """Read what a server lists, and go on."""
    legs = lists.legs(ask, method, [server])

    def fresh(outcomes: Sequence[LegOutcome], now: float) -> Slices[Decision]:
        refused = replies.nobody_answered(outcomes, ask.request.id, ask.facts)
        if refused is not None:
            return refused
        listed = yield from lists.listed(ask, method, outcomes)
        return with_effects(then(listed.get(server, {})), (RememberListed(ask.caller.key, method.name, listed, now),))

    further = 2 * max(leg.deadline + MARGIN for leg in legs)
    return FanOut(legs, fresh, ask.caller.key, further=MAX_MESSAGE_TIMEOUT if ask.head.is_judged else further)
