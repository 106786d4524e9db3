"""Requests for one server: found by a name, a URI or a reference, and handed to Envoy to forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from mcp_extproc.contract import SERVER_HEADER
from mcp_extproc.gateway import headers, refusals, replies
from mcp_extproc.gateway.caller import CallPlan, ClientSession, Inquiry, Kind
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import Decision, Failed, Forward, ForwardPlan, Headers, NeedSession, RequestHead
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.identifiers import ClientView, id_for_server
from mcp_extproc.gateway.relay.responses import Expected
from mcp_extproc.gateway.relay.server_messages import Call
from mcp_extproc.gateway.requests import lists
from mcp_extproc.mcp import capabilities, jsontext, methods, transport, versions
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.methods import Handling, Method
from mcp_extproc.mcp.names import MAX_NAME_CHARS, header_value
from mcp_extproc.mcp.sessions import UpstreamSession

_VERSION_HEADER = "mcp-protocol-version"

MAX_URI_CHARS = 8 * 1024
"""Longest URI that is served. It travels in a header."""

_Go = Callable[[str, str], Decision]
"""Goes on with the server and its own name or URI."""

Changes = Mapping[str, bytes | None]
"""Members of ``params`` and their new JSON text; ``None`` takes one out."""


def by_name(ask: Inquiry, method: Method) -> Decision:
    """Route by ``params.name``.

    Raises:
        McpError: there is no such name.
    """
    name = ask.request.text("name")
    if name is None:
        raise refusals.invalid_params(f"{method.name} needs params.name, a string.")
    # A task would outlive its call, and tasks are not offered: the server is asked for the plain result.
    changes: Changes = {"task": None} if "task" in ask.request.params else {}

    def go(server: str, own: str) -> Decision:
        ask.facts[_kind(method)] = own
        named = {} if own == name else {"name": orjson.dumps(own)}
        return _to(ask, method, server, own, {**changes, **named})

    return _find_name(ask, method, name, go)


def by_uri(ask: Inquiry, method: Method) -> Decision:
    """Route by ``params.uri``.

    Raises:
        McpError: the URI belongs to no server.
    """
    uri = ask.request.text("uri")
    if uri is None:
        raise refusals.invalid_params(f"{method.name} needs params.uri, a string.")

    def go(server: str, own: str) -> Decision:
        return _to(ask, method, server, own, {} if own == uri else {"uri": orjson.dumps(own)})

    return _find_uri(ask, uri, go)


def by_ref(ask: Inquiry, method: Method) -> Decision:
    """Route by ``params.ref``: a prompt's name, or a resource's URI or template.

    Raises:
        McpError: the reference is none, or leads nowhere.
    """
    ref = ask.request.object("ref") or {}
    member = {"ref/prompt": "name", "ref/resource": "uri"}.get(jsontext.text_in(ref, "type") or "")
    named = None if member is None else jsontext.text_in(ref, member)
    if member is None or named is None:
        raise refusals.invalid_params(
            f"{method.name} needs params.ref, a ref/prompt with name or a ref/resource with uri."
        )
    if not ask.head.judging:
        ask.facts["params"] = {member: named[: MAX_NAME_CHARS + 1]}

    def go(server: str, own: str) -> Decision:
        text = jsontext.replace(bytes(ask.request.params["ref"]), ref, member, orjson.dumps(own))
        return _to(ask, method, server, own, {} if own == named else {"ref": text})

    if member == "name":
        return _find_name(ask, methods.REQUESTS["prompts/get"], named, go)
    return _find_uri(ask, named, go)


def _find_name(ask: Inquiry, method: Method, name: str, go: _Go) -> Decision:
    context = ask.session.context
    capability = method.capability or ""
    unknown = refusals.unknown_tool if capability == "tools" else refusals.unknown_prompt
    if len(name) > MAX_NAME_CHARS:
        raise unknown(name)
    found = context.catalog.resolve(capability, name)
    if found is not None:
        entry, own = found
        ask.facts["server"] = entry.name
        if not _may_offer(ask, entry.name, capability):
            raise unknown(name)
        return go(entry.name, own)
    if not context.config.bare_names:
        raise unknown(name)

    def then(server: str | None) -> Decision:
        if server is None:
            raise unknown(name)
        return go(server, name)

    return lists.find_owner(ask, [methods.REQUESTS[f"{capability}/list"]], name, then)


def _find_uri(ask: Inquiry, uri: str, go: _Go) -> Decision:
    catalog = ask.session.context.catalog
    if len(uri) > MAX_URI_CHARS:
        raise refusals.unknown_resource(uri)
    found = catalog.uris.split(uri)
    if found is not None:
        return go(*found)
    if not catalog.uris.untouched:
        raise refusals.unknown_resource(uri)

    def then(server: str | None) -> Decision:
        if server is None:
            raise refusals.unknown_resource(uri)
        return go(server, uri)

    return lists.find_owner(
        ask, [methods.REQUESTS["resources/list"], methods.REQUESTS["resources/templates/list"]], uri, then
    )


def _may_offer(ask: Inquiry, server: str, capability: str) -> bool:
    offered = ask.session.offered(server)
    return offered is None or capability in offered


# -- Forwarding ---------------------------------------------------------------------------------------------------------


def _to(ask: Inquiry, method: Method, server: str, own: str, changes: Changes) -> Decision:
    """Forward the request to a server, once a session with it is there."""
    context = ask.session.context
    entry = context.catalog.entries[server]
    ref = ask.session.ref(server)
    ask.facts["server"] = server
    if ask.head.judging:
        return preview.show(ask.head, ask.facts, own)
    token = progress_token(ask.request)

    def resume(session: UpstreamSession | Failed) -> Decision:
        if isinstance(session, Failed):
            error = replies.all_failed([session]).about(ask.request.id)
            return replies.reject(error, ask.facts, replies.failure_notes([session]))
        if method.capability is not None and method.capability not in session.capabilities:
            return replies.reject(refusals.not_offered(method.name, server).about(ask.request.id), ask.facts)
        if method.name == "resources/subscribe":
            context.memory.subscribe(ref, own)
        elif method.name == "resources/unsubscribe":
            context.memory.unsubscribe(ref, own)
        return _forward(ask, method, entry, own, session, changes, token)

    session = context.memory.current(ref)
    return NeedSession(ref, None, resume) if session is None else resume(session)


def like_before(session: ClientSession, head: RequestHead, request: Request, owed: bytes | None) -> Forward | None:
    """Forward a call as the one before with the same method, name and headers was, if there was one.

    What :func:`by_name` looks at is the same then, but for the server's session, the id, and the members of ``params``.

    Args:
        session: the client's, still valid.
        head: the request's.
        request: it passed the checks that do not depend on the method.
        owed: its progress token.
    """
    plan = session.context.plans.get(_kind_of(session, head, request))
    if plan is None or "task" in request.params or session.context.memory.current(plan.ref) is not plan.session:
        return None
    return _forwarded(session, plan, request, plan.changes, owed)


def _forward(
    ask: Inquiry,
    method: Method,
    entry: CatalogEntry,
    own: str,
    session: UpstreamSession,
    changes: Changes,
    token: bytes | None,
) -> Forward:
    plan = _new_plan(ask, method, entry, own, session, changes)
    if _is_found_by_itself(ask, method):
        ask.session.context.plans.remember(_kind_of(ask.session, ask.head, ask.request), plan)
    return _forwarded(ask.session, plan, ask.request, changes, token)


def _is_found_by_itself(ask: Inquiry, method: Method) -> bool:
    """Whether the same name leads to the same server whatever else is in the request, and whatever servers list."""
    name = ask.request.text("name")
    if method.handling is not Handling.BY_NAME or method.capability is None or name is None:
        return False
    return "task" not in ask.request.params and ask.session.context.catalog.resolve(method.capability, name) is not None


def _kind_of(session: ClientSession, head: RequestHead, request: Request) -> Kind:
    version = head.headers.get(_VERSION_HEADER)
    return (session.opened.id, request.method, request.text("name"), head.names, version, head.judged)


def _forwarded(
    session: ClientSession, plan: CallPlan, request: Request, changes: Changes, token: bytes | None
) -> Forward:
    id = id_at_servers(session, request.id)
    mapped = id != request.id
    body = request.rewritten(changes, id) if changes or mapped else request.body
    response = None
    if plan.reads or mapped:
        limits = session.context.config.limits
        response = Expected(
            session.relay,
            session.context.identifiers,
            plan.forward.server,
            plan.session,
            Call(request.method, token),
            request.id,
            plan.reads_json or mapped,
            limits.response_bytes,
            limits.event_bytes,
        )
    progress = None if token is None else (session.view.session_id, token)
    length = (("content-length", str(len(body))),)
    return Forward(plan.forward, body, length, request.id, response, progress)


def _new_plan(
    ask: Inquiry, method: Method, entry: CatalogEntry, own: str, upstream: UpstreamSession, changes: Changes
) -> CallPlan:
    session = ask.session
    view, catalog = session.view, session.context.catalog
    has_uris = method.uris is not None or method.handling in (Handling.BY_URI, Handling.BY_REF)
    reads_json = (
        # A server without resources has none to read: what looks like a URI in its results is only text to clients.
        (has_uris and catalog.uris.rewrites(entry.name) and "resources" in upstream.capabilities)
        or (catalog.several and "elicitation.url" in view.flags)
        or view.version == versions.V_2025_03_26 < upstream.version
    )
    # A server without sessions has no streams that could be resumed, nor can it ask the client for anything.
    reads = upstream.id is not None or reads_json or bool(view.flags)
    set_headers = _call_headers(view, method, entry, own, upstream, reads=reads)
    gone = headers.removed(ask.head.names, (*(name for name, _ in set_headers), "content-length"))
    facts = {name: fact for name, fact in ask.facts.items() if name not in ("id", "id_json")}
    if ask.head.judged:
        facts["forwarded"] = True
    return CallPlan(
        ForwardPlan(entry.name, set_headers, gone, facts), session.ref(entry.name), upstream, changes, reads, reads_json
    )


def _call_headers(
    view: ClientView, method: Method, entry: CatalogEntry, own: str, upstream: UpstreamSession, *, reads: bool
) -> Headers:
    declared = capabilities.declared_to_servers(view.flags, upstream.version)
    fields, _ = session_headers(upstream)
    return (
        (":path", entry.path),
        ("accept", transport.JSON_OR_SSE),
        ("mcp-method", method.name),
        ("mcp-name", header_value(own)),
        (SERVER_HEADER, entry.name),
        *fields,
        *((("accept-encoding", "identity"),) if reads else ()),
        *(((headers.CAPABILITIES, declared.decode()),) if view.flags else ()),
        *entry.headers,
    )


def may_read_response(session: ClientSession) -> bool:
    """Whether some response may have to be read, as :class:`CallPlan` says, before the request is known."""
    opened, catalog = session.opened.session, session.context.catalog
    known = {name: upstream for name, upstream in opened.upstreams.items() if name in catalog.entries}
    return (
        bool(opened.client_flags)
        or len(known) < len(catalog.entries)  # who knows what the others are like
        or any(
            upstream.id is not None
            or upstream.version > opened.version
            or ("resources" in upstream.capabilities and catalog.uris.rewrites(name))
            for name, upstream in known.items()
        )
    )


def id_at_servers(session: ClientSession, id: bytes) -> bytes:
    """A client's id as servers get it. Where no response is read an id could not be turned back; nor has any server there a
    session in which it could take one id for another."""
    theirs = id_for_server(id)
    return theirs if theirs == id or may_read_response(session) else id


def session_headers(session: UpstreamSession) -> tuple[Headers, tuple[str, ...]]:
    """Headers that carry the gateway's session with a server, and those that must not be there."""
    has_version = versions.defines_version_header(session.version)
    fields = {
        "mcp-session-id": session.id,
        "mcp-protocol-version": session.version if has_version else None,
    }
    return (
        tuple((name, value) for name, value in fields.items() if value is not None),
        tuple(name for name, value in fields.items() if value is None),
    )


def progress_token(request: Request) -> bytes | None:
    """JSON text of the token with which the client wants to hear of progress."""
    meta = request.object("_meta")
    token = None if meta is None else meta.get("progressToken")
    return None if token is None else bytes(token)[:1024]


def _kind(method: Method) -> str:
    return "tool" if method.capability == "tools" else "prompt"
