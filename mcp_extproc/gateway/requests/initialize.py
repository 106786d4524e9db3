"""``initialize``: every server is asked, and the sum of them answers. Source: 2025-11-25 basic/lifecycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcp_extproc import __version__
from mcp_extproc.gateway import merge, refusals, replies
from mcp_extproc.gateway.credentials import digest
from mcp_extproc.gateway.decision import FanOut, Reply, in_one_slice
from mcp_extproc.gateway.effects import BeginSession
from mcp_extproc.gateway.endpoints import ServedEndpoint
from mcp_extproc.gateway.facts import Note, RequestFacts
from mcp_extproc.gateway.legs import Opened, OpenLeg, Outcome, ref_to
from mcp_extproc.gateway.request import Carried, RequestHead, context_of
from mcp_extproc.gateway.services import Services
from mcp_extproc.mcp import capabilities, jsontext, versions
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.sessions import Session, of_a_size

SERVER_INFO = {"name": "mcp-extproc", "version": __version__}


def initialize(
    services: Services, served: ServedEndpoint, head: RequestHead, request: Request, facts: RequestFacts
) -> FanOut:
    """Open a session with every server of the endpoint.

    Raises:
        McpError: the parameters are missing or wrong.
    """
    requested = request.text("protocolVersion")
    if requested is None:
        raise refusals.invalid_params("initialize needs params.protocolVersion, a string such as 2025-11-25.")
    version = versions.negotiate(requested)
    flags = _client_flags(request, version)
    facts = facts.but(protocol_version=version, client=_client_name(request))

    def answer(outcomes: Sequence[Outcome], now: float) -> Reply:
        try:
            session = _session(services, served, head.principal.key, version, flags, facts, outcomes, now)
            return _opened(services, served, session, request.id, facts, outcomes, context.carried)
        except McpError as error:
            return replies.reject(error.about(request.id), facts, replies.failure_notes(outcomes))

    catalog = served.catalog
    context = context_of(head, request.id, catalog.carried(head), catalog.subject(head))
    legs = tuple(
        OpenLeg(name, version, flags, deadline=entry.discovery_timeout, context=context)
        for name, entry in served.catalog.entries.items()
    )
    return FanOut(legs, in_one_slice(answer))


def _session(
    services: Services,
    served: ServedEndpoint,
    principal: str,
    version: str,
    flags: Flags,
    facts: RequestFacts,
    outcomes: Sequence[Outcome],
    now: float,
) -> Session:
    """The client's session, with those servers that could be opened.

    Raises:
        McpError: there are some, but none could, and none is starting.
    """
    upstreams = {o.server: o.session for o in outcomes if isinstance(o, Opened)}
    if outcomes and not upstreams and not replies.is_starting(outcomes):
        raise replies.all_failed(merge.failures(outcomes))
    return Session(
        audience=served.audience,
        principal=principal,
        version=version,
        expires=int(now + services.session_seconds),
        client=facts.client or "",
        client_flags=flags,
        upstreams=upstreams,
        offer=served.catalog.checksum,
    )


def _opened(
    services: Services,
    served: ServedEndpoint,
    session: Session,
    id: bytes,
    facts: RequestFacts,
    outcomes: Sequence[Outcome],
    carried: Carried,
) -> Reply:
    failed = merge.failures(outcomes)
    # Servers for which there is no room join later, as those do that were down.
    session, later = of_a_size(session)
    token, session_id = services.sealer.seal(session, in_events=_is_answered_in_events(outcomes))
    offered = [
        frozenset(flag for flag in server.capabilities if served.catalog.may_offer(flag.partition(".")[0], name))
        for name, server in session.upstreams.items()
    ]
    value: dict[str, Any] = {
        "protocolVersion": session.version,
        "capabilities": capabilities.union(offered, missing=bool(failed or later)),
        "serverInfo": SERVER_INFO,
        **merge.unavailable_meta(failed),
    }
    own = served.endpoint.instructions
    text = merge.instructions([outcome for outcome in outcomes if isinstance(outcome, Opened)]) if own is None else own
    if text:
        value["instructions"] = text
    facts = facts.but(session=session_id, unavailable=replies.names_of(failed))
    reply = replies.result(
        id, value, facts, (*replies.failure_notes(outcomes), *_notes(later)), (("mcp-session-id", token),)
    )
    refs = tuple(ref_to(name, session_id, session, digest(carried.get(name, ()))) for name in served.catalog.entries)
    return replace(reply, effects=(BeginSession(session_id, session.expires, refs),))


def _notes(later: Sequence[str]) -> tuple[Note, ...]:
    """What the operator is told of servers for which a session has no room."""
    return (Note("session_without_room", {"servers": len(later), "first": later[0]}),) if later else ()


def _is_answered_in_events(outcomes: Sequence[Outcome]) -> bool:
    """Whether servers will answer calls with event streams, as far as it shows in how they answered
    this. A server whose session comes later, or that answers otherwise then, is read all the same."""
    return any(isinstance(outcome, Opened) and outcome.streamed for outcome in outcomes)


def _client_flags(request: Request, version: str) -> Flags:
    raw = request.params.get("capabilities")
    if raw is None:
        return frozenset()
    try:
        return capabilities.client_flags(jsontext.split(raw), version)
    except TypeError:
        raise refusals.invalid_params("params.capabilities has to be an object.") from None


def _client_name(request: Request) -> str:
    raw = request.params.get("clientInfo")
    if raw is None:
        return ""
    return "/".join(part for part in (jsontext.text_at(raw, name) for name in ("name", "version")) if part)[:128]
