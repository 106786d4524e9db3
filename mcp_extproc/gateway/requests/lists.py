"""Lists: every server with the capability is asked, and one page holds them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from mcp_extproc.gateway import merge, refusals, replies
from mcp_extproc.gateway.caller import ClientSession, Inquiry
from mcp_extproc.gateway.decision import Decision, FanOut, Listed, ListLeg, Outcome, Reply
from mcp_extproc.gateway.policy import preview
from mcp_extproc.mcp import jsontext, methods
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Entry, Method

OWNERS_SECONDS = 60.0
"""How long it is remembered who has what, for names and URIs without a prefix. A server that says its list changed ends it."""


def merged(ask: Inquiry, method: Method) -> FanOut:
    """Answer a list request.

    Raises:
        McpError: it names a cursor; none of ours exists.
    """
    if "cursor" in ask.request.params:
        raise refusals.invalid_cursor()
    context = ask.session.context

    def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
        if (refused := replies.nobody_answered(outcomes, ask.request.id, ask.facts)) is not None:
            return refused
        failed = merge.failures(outcomes)
        assert method.entry is not None
        assert method.items is not None
        visible = _visible(ask.session, method, outcomes)
        entries, more = merge.entries(
            outcomes, method.entry, visible, _adapt(ask.session), context.config.limits.list_items
        )
        facts = {**ask.facts, **replies.unavailable_fact(failed)}
        value = {method.items: entries, **merge.unavailable_meta(failed)}
        reply = replies.result(ask.request.id, value, facts, (*replies.failure_notes(outcomes), *more))
        # As the servers do, so that nothing changes for clients when a gateway is put in between.
        streamed = [outcome.streamed for outcome in outcomes if isinstance(outcome, Listed)]
        return replies.as_stream(reply) if streamed and all(streamed) else reply

    return FanOut(_legs(ask.session, method), answer, ask.facts)


def find_owner(ask: Inquiry, lists: Iterable[Method], name: str, then: Callable[[str | None], Decision]) -> Decision:
    """Find the one server that lists a name or URI, in this session's lists or in fresh ones.

    Args:
        ask: the request that needs it.
        lists: which lists to look in, one after the other.
        name: as the server knows it.
        then: goes on with the server's name, or ``None``.
    """
    pending = list(lists)
    if not pending:
        return then(None)
    method, rest = pending[0], pending[1:]
    memory, session_id = ask.session.context.memory, ask.session.opened.id
    assert method.entry is not None

    def look(owners: merge.Owners) -> Decision:
        server = owners.get(name) if method.entry is not Entry.TEMPLATE else _by_template(owners, name)
        try:
            return then(server) if server is not None else find_owner(ask, rest, name, then)
        except McpError as error:
            if ask.head.judging:
                return preview.show(ask.head, ask.facts)
            return replies.reject(error.about(ask.request.id), ask.facts)

    def fresh(outcomes: Sequence[Outcome], now: float) -> Decision:
        assert method.entry is not None
        owners = merge.owners(outcomes, method.entry, _offered(ask.session, method))
        if not merge.failures(outcomes):
            # With a server missing, a name may only seem to be one server's own: ask again next time.
            memory.remember_owners(session_id, method.name, owners, now + OWNERS_SECONDS)
        return look(owners)

    known = memory.owners(session_id, method.name, ask.now)
    return look(known) if known is not None else FanOut(_legs(ask.session, method), fresh, ask.facts)


def _legs(session: ClientSession, method: Method) -> tuple[ListLeg, ...]:
    assert method.items is not None
    assert method.capability is not None
    return tuple(
        ListLeg(name, session.ref(name), method.name, method.items, method.capability)
        for name in session.servers_with(method.capability)
    )


def _visible(session: ClientSession, method: Method, outcomes: Sequence[Outcome]) -> Callable[[str, str], str | None]:
    catalog = session.context.catalog
    capability = method.capability or ""
    if method.entry is Entry.NAME:
        return lambda server, name: catalog.visible(capability, server, name)
    if not (catalog.several and catalog.uris.untouched):
        return lambda server, uri: _readable(session, server, catalog.uris.visible(server, uri))
    # Unprefixed: what several servers list can only be told apart with its prefix, and so can what looks as if it had one.
    assert method.entry is not None
    times = Counter(
        uri
        for outcome in outcomes
        if isinstance(outcome, Listed)
        for uri in {jsontext.text_at(raw, method.entry.value) for raw in outcome.items}
    )

    def shown(server: str, uri: str) -> str | None:
        if times[uri] == 1 and catalog.uris.split(uri) is None:
            return uri
        return _readable(session, server, catalog.uris.prefixed(server, uri))

    return shown


def _readable(session: ClientSession, server: str, visible: str) -> str | None:
    """What reading would look for at another server is not listed: a URI of a server without prefix that has another's."""
    found = session.context.catalog.uris.split(visible)
    return visible if found is not None and found[0] == server else None


def _offered(session: ClientSession, method: Method) -> Callable[[str, str], bool]:
    entries = session.context.catalog.entries
    capability = method.capability or ""
    return lambda server, name: entries[server].offers(capability, name)


def _adapt(session: ClientSession) -> Callable[[str, bytes], bytes]:
    uris = session.context.catalog.uris

    def adapt(server: str, entry: bytes) -> bytes:
        if not uris.rewrites(server) or b"_meta" not in entry:
            return entry
        return jsontext.edit(entry, methods.LIST_ENTRY_URIS, lambda uri: uris.visible(server, uri)) or entry

    return adapt


def _by_template(owners: merge.Owners, uri: str) -> str | None:
    """The one server with a template that could have made this URI, judged by the text in front of the first expression."""
    best: dict[str, int] = {}
    for template, server in owners.items():
        start = template.partition("{")[0]
        if uri.startswith(start):
            best[server] = max(best.get(server, 0), len(start) + 1)
    longest = [server for server, length in best.items() if length == max(best.values())]
    return longest[0] if len(longest) == 1 else None
