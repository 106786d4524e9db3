"""One table of MCP's methods: what the gateway does with each. Everything that depends on the method reads it.

Source: schema.ts of 2025-03-26, 2025-06-18 and 2025-11-25.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Handling(enum.Enum):
    """How the gateway serves a method."""

    INITIALIZE = "fan out to every server, answer with the sum of them"
    ANSWER = "answer here, no server is asked"
    LIST = "fan out to the servers with the capability, merge"
    BY_NAME = "route by `params.name`"
    BROADCAST = "tell every server of the session"
    DROP = "accept and end here"


@dataclass(frozen=True, slots=True)
class Method:
    """One row.

    Attributes:
        name: the JSON-RPC method.
        handling: what the gateway does.
        capability: server capability without which a server is not asked.
        items: member of the result that holds a list's entries.
    """

    name: str
    handling: Handling
    capability: str | None = None
    items: str | None = None


_REQUESTS = (
    Method("initialize", Handling.INITIALIZE),
    Method("ping", Handling.ANSWER),
    Method("tools/list", Handling.LIST, capability="tools", items="tools"),
    Method("tools/call", Handling.BY_NAME, capability="tools"),
)

_NOTIFICATIONS = (
    # Every server got its own `initialized` when its session was opened.
    Method("notifications/initialized", Handling.DROP),
    Method("notifications/cancelled", Handling.BROADCAST),
)

REQUESTS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _REQUESTS})
NOTIFICATIONS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _NOTIFICATIONS})

SERVED_CAPABILITIES: frozenset[str] = frozenset(method.capability for method in _REQUESTS if method.capability)
"""Server capabilities of which the gateway serves the methods; no other is passed on to clients."""

RELAYED_CLIENT_CAPABILITIES: frozenset[str] = frozenset()
"""Client capabilities whose requests the gateway carries from a server to the client; no other is declared to servers."""

MODERN_ONLY: frozenset[str] = frozenset({"server/discover", "subscriptions/listen"})
"""Requests that exist only from 2026-07-28 on."""
