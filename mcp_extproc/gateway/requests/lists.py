"""Lists: every server with the capability is asked, and one page holds them all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

import orjson

from mcp_extproc.config.authorization import Kind
from mcp_extproc.contract import MAX_MESSAGE_TIMEOUT
from mcp_extproc.gateway import merge, refusals, replies
from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import Hints, Item
from mcp_extproc.gateway.authorization.judging import ListJudge
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.decision import MARGIN, Decision, FanOut, with_effects
from mcp_extproc.gateway.effects import Effects, LearnNames, RememberListed, RememberOwners
from mcp_extproc.gateway.inquiry import Inquiry
from mcp_extproc.gateway.legs import Listed, ListLeg, Outcome
from mcp_extproc.gateway.merged_lists import ListKey, MergedList
from mcp_extproc.gateway.policy.followed import Followed
from mcp_extproc.gateway.relay.hidden import without_hidden_view
from mcp_extproc.mcp import jsontext, methods
from mcp_extproc.mcp.jsontext import TooManyMembers
from mcp_extproc.mcp.methods import Entry, Method
from mcp_extproc.mcp.uris import is_readable
from mcp_extproc.slices import Slices

OWNERS_SECONDS = 60.0
"""Seconds for which the owners of names and URIs without a prefix are remembered. A ``list_changed`` of a server ends it."""

MAX_EVENT_BYTES: Final = 1 << 19
"""Largest list that is an event. Clients read no event as large as they please, but JSON: python-sdk 2 up to 1 MiB."""

JUDGING_SECONDS: Final = 60.0
"""Seconds for which Envoy waits beyond what servers may take, where rules judge what they list: some have thousands of
tools, and some operators hundreds of rules. Others are answered in between."""


def merged(ask: Inquiry, method: Method) -> FanOut:
    """Answer a list request.

    Raises:
        McpError: it names a cursor; none of ours exists.
    """
    if "cursor" in ask.request.params:
        raise refusals.invalid_cursor()

    def answer(outcomes: Sequence[Outcome], now: float) -> Slices[Decision]:
        refused = replies.nobody_answered(outcomes, ask.request.id, ask.facts)
        if refused is not None and not replies.is_starting(outcomes):
            return refused
        failed = merge.failures(outcomes)
        assert method.items is not None
        made = yield from _like_before(ask, method, outcomes)
        facts = ask.facts.but(unavailable=replies.names_of(failed))
        value = {method.items: orjson.Fragment(made.text), **merge.unavailable_meta(failed)}
        reply = replies.result(ask.request.id, value, facts, (*replies.failure_notes(outcomes), *made.notes))
        # As the servers do, so that nothing changes for clients when a gateway is put in between.
        streamed = [outcome.streamed for outcome in outcomes if isinstance(outcome, Listed)]
        if streamed and all(streamed) and len(reply.body) <= MAX_EVENT_BYTES:
            reply = replies.as_stream(reply)
        effects: Effects = ()
        if method.entry is Entry.NAME and (ask.caller.access is not None or _asks_hints(ask.caller, method)):
            effects = (RememberListed(ask.caller.key, method.name, made.listed, now),)
        if ask.services.learns_names and method.entry is Entry.NAME and method.capability is not None:
            names = yield from merge.names(outcomes, method.entry)
            effects += (LearnNames(method.capability, names),)
        if _is_looked_in(ask.caller, method):
            owners = yield from _owners(ask, method, outcomes)
            effects += _remembering(ask.caller, method, outcomes, owners, now)
        return with_effects(reply, effects)

    is_judged = ask.caller.access is not None or ask.caller.follows is not None
    return FanOut(_legs(ask, method), answer, ask.caller.key, further=JUDGING_SECONDS if is_judged else 0.0)


def _like_before(ask: Inquiry, method: Method, outcomes: Sequence[Outcome]) -> Slices[MergedList]:
    """The merged list: the one that this caller got last where it would be the same, or a new one."""
    lists, caller = ask.services.lists, ask.caller
    if caller.access is not None and caller.access.has_conditions:
        # What it may see depends on the request.
        return (yield from _made(ask, method, outcomes))
    digest = yield from merge.digest(outcomes)
    key = ListKey(caller.catalog, caller.access, caller.follows, method.name, digest)
    made = lists.like_before(caller.key, key)
    if made is None:
        made = yield from _made(ask, method, outcomes)
        lists.remember(caller.key, key, made)
        yield
    return made


def _made(ask: Inquiry, method: Method, outcomes: Sequence[Outcome]) -> Slices[MergedList]:
    assert method.entry is not None
    judge = _judge(ask, method)
    may_see = merge.everything if judge is None else judge.may_see
    visible = yield from _visible(ask.caller, method, outcomes, may_see)
    adapt, offers = _adapt(ask.caller, judge), _following(ask.caller.follows, method, may_see)
    entries, notes = yield from merge.entries(
        outcomes,
        method.entry,
        visible,
        adapt,
        ask.services.limits.list_items,
        offers,
        _meeting(ask.caller, method, visible),
    )
    yield
    text, noted = orjson.dumps(entries), tuple(notes)
    return MergedList(text, noted) if judge is None else MergedList(text, noted, _listed(judge, outcomes))


def _following(follows: Followed | None, method: Method, may_see: merge.MaySee) -> merge.MaySee:
    """Nothing either that policies certainly deny. What rules say is asked first: it is taken down for calls."""
    if follows is None:
        return may_see
    kind, is_template = cast("Kind", method.capability), method.entry is Entry.TEMPLATE

    def both(server: str, name: str, entry: jsontext.Members) -> bool:
        is_seen = may_see(server, name, entry)
        return is_seen and not follows.verdict(Item(kind, server, name), is_template=is_template).denies

    return both


def _judge(ask: Inquiry, method: Method) -> ListJudge | None:
    access, asks_hints = ask.caller.access, _asks_hints(ask.caller, method)
    if access is None and not asks_hints:
        return None
    untrusted = frozenset(name for name, entry in ask.caller.catalog.entries.items() if entry.untrusted)
    question = Question(ask.head.principal, ask.head)
    return ListJudge(access, cast("Kind", method.capability), question, untrusted, asks_hints=asks_hints)


def _asks_hints(caller: Caller, method: Method) -> bool:
    """Whether annotations decide about which calls users are asked."""
    return method.capability == "tools" and caller.vetting is not None and caller.vetting.asks_hints


def _listed(judge: ListJudge, outcomes: Sequence[Outcome]) -> Mapping[str, Mapping[str, Hints]]:
    return {outcome.server: judge.listed.get(outcome.server, {}) for outcome in outcomes if isinstance(outcome, Listed)}


def listed(ask: Inquiry, method: Method, outcomes: Sequence[Outcome]) -> Slices[Mapping[str, Mapping[str, Hints]]]:
    """The names that servers list to a caller for whom they decide something, hidden ones included."""
    return (yield from _made(ask, method, outcomes)).listed


def find_owner(ask: Inquiry, found_in: Iterable[Method], name: str, then: Callable[[str | None], Decision]) -> Decision:
    """Find the one server that lists a name or URI, in lists that this caller had read lately or in fresh ones.

    Args:
        ask: the request that needs it.
        found_in: which lists to look in, one after the other.
        name: as the server knows it.
        then: goes on with the server's name, or ``None``.
    """
    pending = list(found_in)
    if not pending:
        return then(None)
    method, rest = pending[0], pending[1:]

    def look(owners: merge.Owners) -> Decision:
        server = _owner(owners, method, name)
        return then(server) if server is not None else find_owner(ask, rest, name, then)

    def fresh(outcomes: Sequence[Outcome], now: float) -> Slices[Decision]:
        owners = yield from _owners(ask, method, outcomes)
        return with_effects(look(owners), _remembering(ask.caller, method, outcomes, owners, now))

    known = ask.services.memory.owners(ask.caller.key, method.name, ask.now)
    if known is not None:
        return look(known)
    sharing = ask.caller.catalog.names.sharing if method.entry is Entry.NAME else frozenset[str]()
    asked = legs(ask, method, [one for one in _servers(ask, method) if not sharing or one in sharing])
    # Further lists may have to be read, and a session be opened with the server that is found.
    steps = len(rest) + 2
    further = steps * max((leg.deadline + MARGIN for leg in asked), default=0.0)
    # Or, where policies have to judge the request once more, all of it.
    return FanOut(asked, fresh, ask.caller.key, further=MAX_MESSAGE_TIMEOUT if ask.head.is_judged else further)


def last_owner(ask: Inquiry, found_in: Iterable[Method], name: str) -> str | None:
    """The server that had a name or URI when the lists were read last. Nobody is asked."""
    for method in found_in:
        owners = ask.services.memory.last_owners(ask.caller.key, method.name)
        if owners is None:
            return None
        server = _owner(owners, method, name)
        if server is not None:
            return server
    return None


def _owner(owners: merge.Owners, method: Method, name: str) -> str | None:
    return _by_template(owners, name) if method.entry is Entry.TEMPLATE else owners.get(name)


def _legs(ask: Inquiry, method: Method) -> tuple[ListLeg, ...]:
    return legs(ask, method, _servers(ask, method))


def _servers(ask: Inquiry, method: Method) -> Sequence[str]:
    assert method.capability is not None
    return ask.caller.servers_with(method.capability)


def legs(ask: Inquiry, method: Method, servers: Iterable[str]) -> tuple[ListLeg, ...]:
    """What it takes to read a list of these servers."""
    assert method.items is not None
    assert method.capability is not None
    caller, context = ask.caller, ask.context
    return tuple(
        ListLeg(
            name, caller.upstream(name), method.name, method.items, method.capability,
            deadline=caller.catalog.entries[name].discovery_timeout, context=context,
        )
        for name in servers
    )  # fmt: skip


def _visible(
    caller: Caller, method: Method, outcomes: Sequence[Outcome], may_see: merge.MaySee
) -> Slices[Callable[[str, str], str | None]]:
    catalog = caller.catalog
    capability = method.capability or ""
    if method.entry is Entry.NAME:
        if not catalog.names.sharing:
            return lambda server, name: catalog.visible(capability, server, name)
        # What several servers have under one name is called by nobody, so that it is not listed either.
        owners = yield from merge.owners(outcomes, method.entry, _offered(caller, method), may_see)
        return lambda server, name: (
            catalog.visible(capability, server, name)
            if server not in catalog.names.sharing or owners.get(name) == server
            else None
        )
    if not (catalog.several and catalog.uris.untouched):
        return lambda server, uri: _readable(catalog.uris.visible(server, uri))
    # Unprefixed: an entry of several servers is only unambiguous with its prefix.
    assert method.entry is not None
    listed_by: dict[str, set[str]] = {}
    for server, raw in merge.listed(outcomes):
        yield
        with contextlib.suppress(TooManyMembers):
            uri = jsontext.text_at(raw, method.entry.value)
            if uri is not None and may_see(server, uri, {}):
                listed_by.setdefault(uri, set()).add(server)

    def shown(server: str, uri: str) -> str | None:
        alone = len(listed_by.get(uri, ())) == 1
        return _readable((catalog.uris.visible if alone else catalog.uris.prefixed)(server, uri))

    return shown


def _meeting(caller: Caller, method: Method, visible: Callable[[str, str], str | None]) -> Callable[[str, str], bool]:
    """Whether a name is not shown because several servers without a prefix have it."""
    catalog, capability = caller.catalog, method.capability or ""
    sharing = catalog.names.sharing if method.entry is Entry.NAME else frozenset[str]()
    return lambda server, name: (
        server in sharing and visible(server, name) is None and catalog.visible(capability, server, name) is not None
    )


def _readable(visible: str) -> str | None:
    """What reading would not take is not listed."""
    return visible if is_readable(visible) else None


def _offered(caller: Caller, method: Method) -> Callable[[str, str], bool]:
    """What counts when a name or URI is looked for: no more than lists show."""
    if method.entry is not Entry.NAME:
        return lambda _, uri: is_readable(uri)
    catalog, capability = caller.catalog, method.capability or ""
    sharing = catalog.names.sharing
    return lambda server, name: (
        (not sharing or server in sharing)
        and catalog.visible(capability, server, name) is not None
        and not catalog.is_renamed(capability, server, name)
    )


def _adapt(caller: Caller, judge: ListJudge | None) -> Callable[[str, bytes], bytes]:
    uris = caller.catalog.uris
    sees_all = judge is None or not judge.may_hide_resources

    def adapt(server: str, entry: bytes) -> bytes:
        if judge is not None and not sees_all:
            entry = without_hidden_view(entry, lambda uri: judge.may_see_resource(server, uri)) or entry
        if not uris.may_change or b"_meta" not in entry:
            return entry
        return jsontext.edit(entry, methods.LIST_ENTRY_URIS, lambda uri: uris.visible(server, uri)) or entry

    return adapt


def _owners(ask: Inquiry, method: Method, outcomes: Sequence[Outcome]) -> Slices[dict[str, str]]:
    assert method.entry is not None
    judge = _judge(ask, method)
    may_see = merge.everything if judge is None else judge.may_see
    return (yield from merge.owners(outcomes, method.entry, _offered(ask.caller, method), may_see))


def _remembering(
    caller: Caller, method: Method, outcomes: Sequence[Outcome], owners: merge.Owners, now: float
) -> Effects:
    if merge.failures(outcomes):
        # With a server missing, a name may only seem to be one server's own: ask again next time.
        return ()
    return (RememberOwners(caller.key, method.name, owners, now + OWNERS_SECONDS),)


def _is_looked_in(caller: Caller, method: Method) -> bool:
    """Whether names or URIs of this list may be without a prefix."""
    if method.entry is Entry.NAME:
        return caller.catalog.bare_names or bool(caller.catalog.names.sharing)
    return caller.catalog.uris.untouched


def _by_template(owners: merge.Owners, uri: str) -> str | None:
    """The one server with a template that could have made this URI, judged by the text in front of the first expression."""
    best: dict[str, int] = {}
    for template, server in owners.items():
        start = template.partition("{")[0]
        if uri.startswith(start):
            best[server] = max(best.get(server, 0), len(start) + 1)
    longest = [server for server, length in best.items() if length == max(best.values())]
    return longest[0] if len(longest) == 1 else None
