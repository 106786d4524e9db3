"""Requests for one server: found by a name, a URI or a reference, and handed to Envoy to forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mcp_extproc.contract import CONSENT_HEADER, ONWARD_PATH, OWNER_HEADER, SERVER_HEADER
from mcp_extproc.gateway import headers, refusals, replies
from mcp_extproc.gateway.advice import NO_SUBJECT
from mcp_extproc.gateway.authorization.items import Hints, Item
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import Decision, Forward, ForwardPlan, NeedSession, NeedToken, Preview
from mcp_extproc.gateway.effects import Effects, Subscribe, Unsubscribe
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.legs import Failed, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.plans import CallPlan, Changes, Kind
from mcp_extproc.gateway.policy import preview as policy_preview
from mcp_extproc.gateway.relay import reading
from mcp_extproc.gateway.relay.identifiers import ClientView, id_for_server
from mcp_extproc.gateway.relay.outcomes import CREDENTIALS_UNAVAILABLE
from mcp_extproc.gateway.relay.responses import Expected
from mcp_extproc.gateway.relay.server_messages import Call
from mcp_extproc.gateway.request import Headers, RequestHead
from mcp_extproc.gateway.requests import batches, lists, permission, target, vetting
from mcp_extproc.gateway.requests.target import Finding, NeedsLists, Target, Unknown, Wanted
from mcp_extproc.gateway.services import Services
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.mcp import capabilities, methods, transport
from mcp_extproc.mcp.envelope import MAX_ID_BYTES, Request
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Handling, Method, Subscription
from mcp_extproc.mcp.names import header_value
from mcp_extproc.mcp.sessions import UpstreamSession

_DIFFERENT = methods.WITHHELD | {"uri"}
"""Members of ``params`` by which two requests of one kind differ: those that no server gets, and one that is written to the
metadata."""


def forward(ask: Inquiry, method: Method) -> Decision:
    """Hand a request to the server that has what it names, or refuse it.

    Raises:
        McpError: it names nothing.
    """
    what = target.wanted(ask.request, method)
    if what.params is not None and not ask.head.awaits_policies:
        ask = ask.knowing(ask.facts.but(params=what.params))

    def go_on(finding: Target | Unknown) -> Decision:
        match finding:
            case Target():
                about = ask.knowing(target.described(ask.facts, what, finding))
                return permission.when_permitted(about, what, finding, partial(permitted, finding))
            case Unknown(server=server):
                error = permission.unknown(ask.caller, what)
                return replies.reject(error.about(ask.request.id), ask.facts.but(server=server))

    def permitted(found: Target, about: Inquiry, hints: Hints | None) -> Decision:
        if not policy_preview.is_target_as_judged(ask.head, found.server, found.own):
            return _not_as_judged(about, method, what, found)
        return vetting.when_consented(
            about, method, what, found, hints, lambda consented: _to(consented, method, what, found)
        )

    finding = _found(ask, what)
    if isinstance(finding, NeedsLists):
        return lists.find_owner(ask, what.found_in, what.name, lambda server: go_on(target.listed(what, server)))
    return go_on(finding)


def preview(ask: Inquiry, method: Method) -> Preview:
    """What a request is, for policies. What can't be found is shown without a server: policies judge it all the same. Nobody
    is asked for it before they have.

    Raises:
        McpError: it names nothing.
    """
    what = target.wanted(ask.request, method)
    finding = _found(ask, what)
    if isinstance(finding, NeedsLists):
        finding = target.listed(what, lists.last_owner(ask, what.found_in, what.name))
    match finding:
        case Target() if permission.is_shown(ask, what, finding):
            facts = target.described(ask.facts, what, finding)
            return policy_preview.show(ask.head, facts, finding.own, _kept(ask, what))
        case Unknown(server=server):
            return policy_preview.show(ask.head, ask.facts.but(server=server), kept=_kept(ask, what))
    return policy_preview.show(ask.head, ask.facts, kept=_kept(ask, what))


def _kept(ask: Inquiry, what: Wanted) -> list[str]:
    """The headers of ours that the second visit needs, too. Those that a client made up go."""
    consent = ask.head.headers.get(CONSENT_HEADER)
    is_consented = consent is not None and ask.services.identifiers.consented(ask.caller.key, consent) is not None
    return [*([OWNER_HEADER] if _is_told(ask, what) else []), *([CONSENT_HEADER] if is_consented else [])]


def _found(ask: Inquiry, what: Wanted) -> Finding:
    finding = target.find(ask.caller, what)
    if isinstance(finding, NeedsLists) and (server := _told(ask, what)) is not None:
        return target.listed(what, server)
    return finding


# -- What policies have to judge once more --------------------------------------------------------------------------------


def _not_as_judged(ask: Inquiry, method: Method, what: Wanted, found: Target) -> Decision:
    """The request's server is not the one that policies were shown.

    Where they were shown none, or one that does not have it any more, they judge it once more: it passes Envoy again like a
    message of a batch, and says itself whose it is.
    """
    if _is_told(ask, what) or not isinstance(target.find(ask.caller, what), NeedsLists):
        return replies.reject(refusals.not_as_judged().about(ask.request.id), ask.facts)
    sealed = ask.services.identifiers.told_owner(ask.caller.key, what.kind, what.name, found.server)
    mark = (OWNER_HEADER, sealed)
    if ask.caller.vetting is not None and ask.caller.vetting.may_concern(permission.item_of(what, found)):
        return vetting.once_more(ask, method, found, mark)
    return batches.once_more(ask, mark)


def _told(ask: Inquiry, what: Wanted) -> str | None:
    sealed = ask.head.headers.get(OWNER_HEADER)
    if sealed is None:
        return None
    server = ask.services.identifiers.owner_told(ask.caller.key, what.kind, what.name, sealed)
    return server if server in ask.caller.catalog.entries else None


def _is_told(ask: Inquiry, what: Wanted) -> bool:
    return _told(ask, what) is not None


# -- Forwarding ---------------------------------------------------------------------------------------------------------


def _to(ask: Inquiry, method: Method, what: Wanted, found: Target) -> Decision:
    """Forward the request to a server, once a session with it is there."""
    entry = ask.caller.catalog.entries[found.server]
    ref = ask.caller.upstream(found.server)
    withheld = {member: None for member in method.withheld if member in ask.request.params}
    changes = {**withheld, **what.changes(found.own)}
    effects = _subscription(method, ref, found.own)
    try:
        token = progress_token(ask.request)
    except McpError as error:
        return replies.reject(error.about(ask.request.id), ask.facts)
    undoing = _undone(ask.services.memory, effects)

    def resume(session: UpstreamSession | Failed) -> Decision:
        if isinstance(session, Failed):
            error = replies.all_failed([session]).about(ask.request.id)
            return replies.reject(error, ask.facts, replies.failure_notes([session]))
        if method.capability is not None and method.capability not in session.capabilities:
            return replies.reject(refusals.not_offered(method.name, entry.name).about(ask.request.id), ask.facts)
        return _with_token(ask, entry, partial(forwarded, session))

    def forwarded(session: UpstreamSession, granted: Granted | None) -> Decision:
        plan = _plan(ask, method, entry, permission.item_of(what, found), session, changes, granted)
        return _forwarded(ask.caller, ask.services, plan, ask.request, changes, token, effects, undoing)

    session = ask.services.memory.current(ref)
    if session is not None:
        return resume(session)
    return NeedSession(ref, None, resume, entry.discovery_timeout, ask.context)


def _with_token(ask: Inquiry, entry: CatalogEntry, then: Callable[[Granted | None], Decision]) -> Decision:
    """Go on with the token that the server gets for the caller's, if it does."""
    if entry.exchanging is None:
        return then(None)
    subject = ask.subject
    granted = ask.services.tokens.current(subject, entry.name, ask.now)
    if granted is not None:
        return then(granted)

    def resume(granted: Granted | Failed) -> Decision:
        if not isinstance(granted, Failed):
            return then(granted)
        error = replies.all_failed([granted]).about(ask.request.id)
        return replies.reject(error, ask.facts, replies.failure_notes([granted]))

    if subject is None:
        return resume(Failed(entry.name, CREDENTIALS_UNAVAILABLE, NO_SUBJECT))
    return NeedToken(entry.name, subject, resume, entry.discovery_timeout, ask.context.span)


def _subscription(method: Method, ref: SessionRef, uri: str) -> Effects:
    match method.subscription:
        case Subscription.BEGINS:
            return (Subscribe(ref, uri),)
        case Subscription.ENDS:
            return (Unsubscribe(ref, uri),)
    return ()


def _undone(memory: SessionMemory, effects: Effects) -> Effects:
    """A subscription that the server refuses ends again, unless it was there before."""
    return tuple(
        Unsubscribe(effect.session, effect.uri)
        for effect in effects
        if isinstance(effect, Subscribe) and not memory.is_subscribed(effect.session, effect.uri)
    )


def is_ordinary(head: RequestHead, forward: Forward) -> bool:
    """Whether a request may be decided before policies have judged it: nothing has happened if they deny it, and all that its
    server alone may see can be put into it behind them.

    Args:
        head: the request's.
        forward: what is to be done with it.
    """
    if forward.effects or forward.undoing or forward.progress is not None or OWNER_HEADER in head.headers:
        return False
    # Envoy would add the client's query to the server's path. It has a header of its own if its id changes.
    return "?" not in head.path and bool(forward.plan.onward) and not forward.own_headers


def like_before(
    caller: Caller, services: Services, head: RequestHead, request: Request, owed: bytes | None, now: float
) -> Forward | None:
    """Forward a call as the one before with the same method, name and headers was, if there was one.

    What :func:`forward` looks at is the same then, but for the server's session, the id, and the members of ``params``.

    Args:
        caller: the client, its session still valid.
        services: of this worker.
        head: the request's.
        request: it passed the checks that do not depend on the method.
        owed: its progress token.
        now: Unix time in seconds.
    """
    plan = services.plans.get(_kind_of(caller, head, request))
    if plan is None or not request.params.keys().isdisjoint(_DIFFERENT):
        return None
    if services.memory.current(plan.ref) is not plan.session or not _is_as_judged(head, plan.forward):
        return None
    if plan.granted is not None:
        subject = caller.catalog.subject(head)
        if services.tokens.current(subject, plan.forward.server, now) is not plan.granted:
            return None
    if not permission.is_still_permitted(caller, services, head, request, plan):
        return None
    return _forwarded(caller, services, plan, request, plan.changes, owed)


def _is_as_judged(head: RequestHead, plan: ForwardPlan) -> bool:
    if not head.is_judged:
        return True
    named = dict(plan.headers)
    return all(head.headers.get(name) == named.get(name) for name in ("mcp-method", "mcp-name", SERVER_HEADER))


def _plan(
    ask: Inquiry,
    method: Method,
    entry: CatalogEntry,
    item: Item,
    session: UpstreamSession,
    changes: Changes,
    granted: Granted | None,
) -> CallPlan:
    plan = _new_plan(ask, method, entry, item, session, changes, granted)
    waits = ask.caller.vetting is not None and ask.caller.vetting.may_concern(item)
    if not waits and _is_found_by_itself(ask, method):
        ask.services.plans.remember(_kind_of(ask.caller, ask.head, ask.request), plan)
    return plan


def _is_found_by_itself(ask: Inquiry, method: Method) -> bool:
    """Whether the same name leads to the same server, and to the same facts, whatever else is in the request, and whatever
    servers list."""
    name = ask.request.text("name")
    if method.handling is not Handling.BY_NAME or method.capability is None or name is None:
        return False
    if not ask.request.params.keys().isdisjoint(_DIFFERENT):
        return False
    return ask.caller.catalog.resolve(method.capability, name) is not None


def _kind_of(caller: Caller, head: RequestHead, request: Request) -> Kind:
    return (caller.key, request.method, request.text("name"), head.form, head.awaits_policies, caller.access)


def _forwarded(
    caller: Caller,
    services: Services,
    plan: CallPlan,
    request: Request,
    changes: Changes,
    token: bytes | None,
    effects: Effects = (),
    undoing: Effects = (),
) -> Forward:
    id = id_for_server(request.id)
    mapped = id != request.id
    body = request.rewritten(changes, id if mapped else None) if changes or mapped else request.body
    response = Expected(
        caller.relay,
        services.identifiers,
        plan.forward.server,
        plan.session,
        Call(request.method, token, request.id),
        plan.reads_json or mapped or bool(undoing),
        services.limits.response_bytes,
        services.limits.event_bytes,
        services.limits.json_members,
    )
    progress = None if token is None else (caller.key, token)
    own: Headers = (("accept-encoding", "identity"),) if mapped and not plan.wants_plain_text else ()
    return Forward(plan.forward, body, own, request.id, response, progress, effects, undoing)


def _new_plan(
    ask: Inquiry,
    method: Method,
    entry: CatalogEntry,
    item: Item,
    upstream: UpstreamSession,
    changes: Changes,
    granted: Granted | None,
) -> CallPlan:
    caller, own = ask.caller, item.name
    view, catalog = caller.view, caller.catalog
    reads_json = reading.reads_json(
        method,
        view,
        catalog,
        entry.name,
        upstream,
        has_resources=bool(caller.servers_with("resources")),
        hides_resources=caller.access is not None and caller.access.may_hide_resources,
        reads_all=ask.services.reads_all_answers,
    )
    plain = reading.is_asked_for_plain_text(view, upstream, reads_json=reads_json)
    carried = (*caller.carried.get(entry.name, ()), *(granted.headers if granted is not None else ()))
    set_headers = (*_call_headers(view, method, entry, own, upstream, plain=plain), *carried)
    facts = ask.facts.but(id=None)
    if ask.head.awaits_policies:
        shown = policy_preview.show(ask.head, facts, own)
        onward = _onward(ask.head, set_headers)
        gone = (*shown.remove_headers, *ask.head.hidden)
        plan = ForwardPlan(entry.name, shown.set_headers, gone, facts, onward, carried)
    else:
        gone = headers.removed(ask.head.names, tuple(name for name, _ in set_headers), entry.left_to_route)
        # Each header that is set costs Envoy more than the worker takes to see that it is there.
        changed = tuple(each for each in set_headers if not ask.head.says(*each))
        plan = ForwardPlan(entry.name, changed, gone, facts, (), carried, entry.left_to_route)
    edition = permission.edition_permitting(ask, item)
    return CallPlan(plan, caller.upstream(entry.name), upstream, changes, reads_json, plain, item, granted, edition)


def _call_headers(
    view: ClientView, method: Method, entry: CatalogEntry, own: str, upstream: UpstreamSession, *, plain: bool
) -> Headers:
    declared = capabilities.declared_to_servers(view.flags, upstream.version)
    fields, _ = headers.of_session(upstream)
    return (
        (":path", entry.path),
        ("accept", transport.JSON_OR_SSE),
        ("mcp-method", method.name),
        ("mcp-name", header_value(own)),
        (SERVER_HEADER, entry.name),
        *fields,
        *((("accept-encoding", "identity"),) if plain else ()),
        *(((headers.CAPABILITIES, declared.decode()),) if view.flags else ()),
        *entry.headers,
    )


def _onward(head: RequestHead, set_headers: Headers) -> Headers:
    """Those of a call's headers that Envoy sets behind policies, out of metadata. What it sets itself is not among them.

    None where that is not to be had: metadata is UTF-8 and headers are not, for Envoy no text is no header, and there are
    headers of clients that it would let pass.
    """
    if any(map(headers.passes_envoy, head.names)):
        return ()
    onward = tuple((_KEYS.get(name, name), value) for name, value in set_headers if name not in _SET_BY_ENVOY)
    return onward if all(value and value.isascii() for _, value in onward) else ()


_KEYS = {":path": ONWARD_PATH}
_SET_BY_ENVOY = ("accept", SERVER_HEADER)
"""Of a call's headers: it is the same for all calls, or belongs to a route."""


def progress_token(request: Request) -> bytes | None:
    """JSON text of the token with which the client asks for progress notifications.

    Raises:
        McpError: it is longer than an id may be. A part of it would be another token.
    """
    meta = request.object("_meta")
    token = None if meta is None else meta.get("progressToken")
    if token is not None and len(bytes(token)) > MAX_ID_BYTES:
        raise refusals.invalid_params(f"params._meta.progressToken is longer than {MAX_ID_BYTES} bytes.")
    return None if token is None else bytes(token)
