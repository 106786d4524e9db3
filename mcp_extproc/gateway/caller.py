"""What every decision may look at: the gateway's constants, and one request with its session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.decision import ForwardPlan, RequestHead, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import ClientView, Identifiers
from mcp_extproc.gateway.relay.server_messages import Relay
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.sessions import OpenedSession, Sealer, UpstreamSession


class CallPlan(msgspec.Struct, frozen=True, eq=False):
    """How one kind of request is forwarded to a server: all that does not depend on the request itself."""

    forward: ForwardPlan
    ref: SessionRef
    session: UpstreamSession
    """With the server."""
    changes: Mapping[str, bytes | None]
    """Members of ``params`` and their new JSON text; ``None`` takes one out."""
    reads: bool
    """Whether the response has to be read if it is an event stream."""
    reads_json: bool
    """Whether it has to be read if it is JSON."""


Kind = tuple[str, str, str | None, tuple[str, ...], str | None, bool]
"""Requests of a kind are forwarded alike. Session, method, the client's name for what is called, the names of the client's
headers, its version header, and whether policies have judged it already."""

_MAX_PLANS = 4096
_MAX_KIND_CHARS = 4096


class Plans(dict[Kind, CallPlan]):
    """The plans of calls that were forwarded, for the next ones like them. One too many, and all are made again as they
    come."""

    def remember(self, kind: Kind, plan: CallPlan) -> None:
        """Keep a plan, if it is not as large as only somebody would make it who wants us to keep it."""
        _, _, name, headers, _, _ = kind
        if len(name or "") + sum(map(len, headers)) <= _MAX_KIND_CHARS:
            if len(self) >= _MAX_PLANS:
                self.clear()
            self[kind] = plan


@dataclass(frozen=True, slots=True)
class Context:
    """The same for all requests of a worker."""

    config: GatewayConfig
    catalog: Catalog
    sealer: Sealer
    identifiers: Identifiers
    memory: SessionMemory
    plans: Plans = field(default_factory=Plans)


class ClientSession:
    """A client's session. Kept between its requests, for what is the same in all of them."""

    def __init__(self, context: Context, opened: OpenedSession) -> None:
        self.context = context
        self.opened = opened
        self.view = ClientView(opened.id, opened.session.version, opened.session.client_flags)
        self.relay = Relay(self.view, context.catalog, context.identifiers, context.memory)
        """What becomes of servers' messages in this session."""
        self.facts = {
            "session": opened.id,
            "protocol_version": opened.session.version,
            "client": opened.session.client,
        }
        self._refs: dict[str, SessionRef] = {}

    def ref(self, server: str) -> SessionRef:
        """How to reach a server."""
        ref = self._refs.get(server)
        if ref is None:
            session = self.opened.session
            known = session.upstreams.get(server)
            anchor = known.id if known is not None and known.id is not None else f"token {self.opened.id}"
            ref = SessionRef(server, anchor, known, session.version, session.client_flags, self.opened.id)
            self._refs[server] = ref
        return ref

    def offered(self, server: str) -> Flags | None:
        """What a server offers, or ``None`` where no session with it was ever opened."""
        session = self.context.memory.current(self.ref(server))
        return None if session is None else session.capabilities

    def servers_with(self, capability: str) -> list[str]:
        """The servers that offer something, and those that may, because they were never reached."""
        names = self.context.catalog.entries
        return [name for name in names if (offered := self.offered(name)) is None or capability in offered]


class Inquiry(msgspec.Struct, frozen=True):
    """One request with all that is known of it."""

    head: RequestHead
    request: Request
    session: ClientSession
    facts: dict[str, Any]
    now: float
    """Unix time in seconds."""
