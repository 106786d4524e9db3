"""What every decision may look at: the gateway's constants, and one request with its session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.decision import RequestHead, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay import Relay
from mcp_extproc.gateway.view import ClientView, Identifiers
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.sessions import OpenedSession, Sealer


@dataclass(frozen=True, slots=True)
class Context:
    """The same for all requests of a worker."""

    config: GatewayConfig
    catalog: Catalog
    sealer: Sealer
    identifiers: Identifiers
    memory: SessionMemory


@dataclass(frozen=True, slots=True)
class ClientSession:
    """A client's session at one request."""

    context: Context
    opened: OpenedSession

    @property
    def view(self) -> ClientView:
        session = self.opened.session
        return ClientView(self.opened.id, session.version, session.client_flags)

    @property
    def relay(self) -> Relay:
        """What becomes of servers' messages in this session."""
        return Relay(self.view, self.context.catalog, self.context.identifiers, self.context.memory)

    def ref(self, server: str) -> SessionRef:
        """How to reach a server."""
        session = self.opened.session
        known = session.upstreams.get(server)
        anchor = known.id if known is not None and known.id is not None else f"token {self.opened.id}"
        return SessionRef(server, anchor, known, session.version, session.client_flags, self.opened.id)

    def offered(self, server: str) -> Flags | None:
        """What a server offers, or ``None`` where no session with it was ever opened."""
        session = self.context.memory.current(self.ref(server))
        return None if session is None else session.capabilities

    def servers_with(self, capability: str) -> list[str]:
        """The servers that offer something, and those that may, because they were never reached."""
        names = self.context.catalog.entries
        return [name for name in names if (offered := self.offered(name)) is None or capability in offered]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One request with all that is known of it."""

    head: RequestHead
    request: Request
    session: ClientSession
    facts: dict[str, Any]
    now: float
    """Unix time in seconds."""
