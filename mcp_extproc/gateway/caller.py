"""Who sent a request, as far as the gateway's decisions depend on it.

Everything that differs between kinds of callers is behind :class:`Caller`; handlers never ask which kind they have.
"""

from __future__ import annotations

from typing import Protocol

from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.gateway.authorization.rules import Access
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.policy.followed import Followed
from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.gateway.relay.server_messages import Relay
from mcp_extproc.gateway.request import Carried
from mcp_extproc.gateway.vetting.entries import VettingEntries
from mcp_extproc.mcp.capabilities import Flags


class Caller(Protocol):
    """Who sent a request."""

    @property
    def key(self) -> str:
        """What may be remembered for this caller is stored under it, and nothing of it is shared more widely."""

    @property
    def carried(self) -> Carried:
        """What servers get of it. The key is another one where this is."""

    @property
    def principal(self) -> str:
        """Who it is, as Envoy proved it, as a key; empty for anonymous callers."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it came in."""

    @property
    def catalog(self) -> Catalog:
        """What it may see."""

    @property
    def access(self) -> Access | None:
        """What it may see and do of that; ``None`` where there are no rules."""

    @property
    def vetting(self) -> VettingEntries | None:
        """About which of its calls its user is asked; ``None`` for none."""

    @property
    def follows(self) -> Followed | None:
        """What the operator's policies certainly deny it, which its lists leave out; ``None`` where there are none."""

    @property
    def view(self) -> ClientView:
        """The protocol version that it speaks, and what it declared."""

    @property
    def relay(self) -> Relay:
        """The rules for servers' messages on their way to it."""

    @property
    def expires(self) -> float:
        """Unix time in seconds after which nothing that was opened for it may go on."""

    @property
    def stale_lists(self) -> frozenset[str]:
        """Kinds of lists (``tools``, …) that it may still hold as another configuration had them."""

    def described(self, facts: RequestFacts) -> RequestFacts:
        """The facts of a request of this caller, with what is known of the caller."""

    def upstream(self, server: str) -> SessionRef:
        """How to reach a server for it."""

    def offered(self, server: str) -> Flags | None:
        """What a server offers, or ``None`` where no session with it was ever opened."""

    def servers_with(self, capability: str) -> list[str]:
        """The servers that offer something, and those that may, because they were never reached."""
