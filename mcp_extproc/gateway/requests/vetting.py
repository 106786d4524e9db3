"""Whether a call has to wait for its user's consent. It comes last: what is hidden stays unknown, and nobody is asked about a
call that rules or policies deny.

The worker that decides can't ask: Envoy takes an event stream in answer to a request only where it sends no body, or all of
it as a stream. So the call goes on to another filter, behind the policies (:mod:`mcp_extproc.extproc.vetting_exchange`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from mcp_extproc.config.vetting import Vetting
from mcp_extproc.contract import CONSENT_HEADER, ONCE_CONSENTED, ONCE_MORE
from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, Item
from mcp_extproc.gateway.decision import Ask, Decision, Forward, ForwardPlan, with_effects
from mcp_extproc.gateway.effects import SpendConsent
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.identifiers import digest_of
from mcp_extproc.gateway.requests import batches, permission
from mcp_extproc.gateway.requests.target import Target, Wanted
from mcp_extproc.gateway.vetting import told
from mcp_extproc.gateway.vetting.entries import VettingEntries
from mcp_extproc.gateway.vetting.told import Told
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.methods import Method

_FORMS: Final = "elicitation.form"


def when_consented(
    ask: Inquiry, method: Method, what: Wanted, found: Target, hints: Hints | None, then: Callable[[Inquiry], Decision]
) -> Decision:
    """Go on with a call to which its user consents, or about which nobody has to be asked.

    Args:
        ask: the request. Its caller may use what it names.
        method: of it.
        what: it names.
        found: whose that is.
        hints: annotations of the tool, where they are known.
        then: goes on.
    """
    entries, item = ask.caller.vetting, permission.item_of(what, found)
    if entries is None or not entries.may_concern(item):
        return then(ask)
    consent = ask.head.headers.get(CONSENT_HEADER)
    if consent is not None:
        return _consented(ask, item, consent, then)
    if hints is not None or not entries.needs_hints(item):
        return _judged(ask, method, item, entries, DEFAULTS if hints is None else hints, then)

    def known(names: Mapping[str, Hints]) -> Decision:
        return _judged(ask, method, item, entries, names.get(item.name, DEFAULTS), then)

    return permission.with_names(ask, methods.NAMED_IN[item.kind], item, known)


def _consented(ask: Inquiry, item: Item, text: str, then: Callable[[Inquiry], Decision]) -> Decision:
    """The call passes once more, to run."""
    consent = ask.services.identifiers.consented(ask.caller.key, text)
    if (
        consent is None
        or consent.call != digest_of(ask.request.body)
        or (consent.server, consent.tool) != (item.server, item.name)
        or ask.services.memory.is_spent(ask.caller.key, consent.question)
    ):
        return replies.reject(refusals.consent_mismatch(item.server, item.name).about(ask.request.id), ask.facts)
    return with_effects(then(_described(ask, "given")), (SpendConsent(ask.caller.key, consent.question),))


def _judged(
    ask: Inquiry,
    method: Method,
    item: Item,
    entries: VettingEntries,
    hints: Hints,
    then: Callable[[Inquiry], Decision],
) -> Decision:
    entry = entries.of(item, hints, permission.question_of(ask.head, ask.request, ask.services))
    if entry is None:
        return then(ask)
    if entry.remember == "session" and ask.services.memory.has_consent(ask.caller.key, item.server, item.name):
        return then(_described(ask, "remembered"))
    if _FORMS in ask.caller.view.flags:
        return _asked(ask, method, item, entry)
    if entry.without_elicitation == "pass":
        return then(_described(ask, "passed"))
    error = refusals.consent_unavailable(item.server, item.name).about(ask.request.id)
    return replies.reject(error, ask.facts.but(consent="unavailable"))


def _asked(ask: Inquiry, method: Method, item: Item, entry: Vetting) -> Ask:
    about = Told(
        ask.caller.key,
        item.server,
        item.name,
        bytes(ask.request.params["name"]),
        entry.timeout,
        entry.remember == "session",
        endpoint=ask.caller.endpoint.name,
        holder=ask.head.principal.key,
        identity=batches.identity(ask.head),
    )
    return _passed_on(ask, method, about)


def once_more(ask: Inquiry, method: Method, found: Target, mark: tuple[str, str]) -> Ask:
    """Send a call that may have to wait through the front door again, for policies to judge it by what is known now. Its user
    is asked on its own stream.

    Args:
        ask: the call.
        method: of it.
        found: whose it is.
        mark: a header that says what is known.
    """
    about = Told(
        ask.caller.key,
        found.server,
        found.own,
        bytes(ask.request.params["name"]),
        0.0,
        asks=False,
        mark=mark,
        endpoint=ask.caller.endpoint.name,
        holder=ask.head.principal.key,
        identity=batches.identity(ask.head),
    )
    return _passed_on(ask, method, about)


def _passed_on(ask: Inquiry, method: Method, about: Told) -> Ask:
    """The call as policies are shown it: with the body that the server would get, but not with what it alone may see."""
    withheld = {member: None for member in method.withheld if member in ask.request.params}
    body = ask.request.rewritten({**withheld, "name": orjson.dumps(about.tool)})
    passed_on = ONCE_CONSENTED if about.asks else ONCE_MORE
    shown = preview.show(ask.head, ask.facts.but(id=None, passed_on=passed_on), about.tool)
    plan = ForwardPlan(about.server, shown.set_headers, (*shown.remove_headers, *ask.head.hidden), shown.facts)
    forward = Forward(plan, body, (("content-length", str(len(body))),), ask.request.id)
    return Ask(forward, told.written(ask.services.identifiers, about))


def _described(ask: Inquiry, consent: str) -> Inquiry:
    return ask.knowing(ask.facts.but(consent=consent))
