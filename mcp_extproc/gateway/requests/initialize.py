"""``initialize``: every server is asked, and the sum of them answers. Source: 2025-11-25 basic/lifecycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp_extproc import __version__
from mcp_extproc.gateway import merge, refusals, replies
from mcp_extproc.gateway.caller import Context
from mcp_extproc.gateway.decision import FanOut, Opened, OpenLeg, Outcome, Reply
from mcp_extproc.mcp import capabilities, jsontext, versions
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.sessions import Session

SERVER_INFO = {"name": "mcp-extproc", "version": __version__}


def initialize(context: Context, request: Request, facts: dict[str, Any]) -> FanOut:
    """Open a session with every server.

    Raises:
        McpError: the parameters are missing or wrong.
    """
    requested = request.text("protocolVersion")
    if requested is None:
        raise refusals.invalid_params("initialize needs params.protocolVersion, a string such as 2025-11-25.")
    version = versions.negotiate(requested)
    flags = _client_flags(request, version)
    facts["protocol_version"] = version
    facts["client"] = _client_name(request)

    def answer(outcomes: Sequence[Outcome], now: float) -> Reply:
        try:
            return _opened(context, request.id, version, flags, facts, outcomes, now)
        except McpError as error:
            return replies.reject(error.about(request.id), facts, replies.failure_notes(outcomes))

    return FanOut(tuple(OpenLeg(name, version, flags) for name in context.catalog.entries), answer, facts)


def _opened(
    context: Context,
    id: bytes,
    version: str,
    flags: Flags,
    facts: dict[str, Any],
    outcomes: Sequence[Outcome],
    now: float,
) -> Reply:
    opened = [outcome for outcome in outcomes if isinstance(outcome, Opened)]
    failed = merge.failures(outcomes)
    if not opened:
        raise replies.all_failed(failed)
    token, session_id = context.sealer.seal(
        Session(
            audience=context.config.listen.path,
            principal="",
            version=version,
            expires=int(now + context.config.session.ttl),
            client=facts["client"],
            client_flags=flags,
            upstreams={o.server: o.session for o in opened},
            offer=context.catalog.checksum,
        )
    )
    value: dict[str, Any] = {
        "protocolVersion": version,
        "capabilities": capabilities.union([o.session.capabilities for o in opened], missing=bool(failed)),
        "serverInfo": SERVER_INFO,
        **merge.unavailable_meta(failed),
    }
    if text := merge.instructions(opened):
        value["instructions"] = text
    told = {**facts, "session": session_id, **replies.unavailable_fact(failed)}
    return replies.result(id, value, told, replies.failure_notes(outcomes), (("mcp-session-id", token),))


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
