"""One table of MCP's methods: what the gateway does with each. Everything that depends on the method reads it.

Source: schema.ts of 2025-03-26, 2025-06-18 and 2025-11-25.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcp_extproc.mcp.jsontext import Places, places


class Handling(enum.Enum):
    """How the gateway serves what a client sends."""

    INITIALIZE = "fan out to every server, answer with the sum of them"
    ANSWER = "answer here, no server is asked"
    LIST = "fan out to the servers with the capability, merge"
    BY_NAME = "route by `params.name`"
    BY_URI = "route by `params.uri`"
    BY_REF = "route by `params.ref`, a prompt's name or a resource's URI"
    TELL_ALL = "ask every server with the capability, answer with `{}`"
    BROADCAST = "tell every server of the session"
    BY_PROGRESS = "route by `params.progressToken`, which the gateway sealed"
    DROP = "accept and end here"


class Entry(enum.Enum):
    """What an entry of a list is known by: the member that is rewritten."""

    NAME = "name"
    URI = "uri"
    TEMPLATE = "uriTemplate"


@dataclass(frozen=True, slots=True)
class Method:
    """One row: a request or notification of clients.

    Attributes:
        name: the JSON-RPC method.
        handling: what the gateway does.
        capability: flag of a server without which it is not asked (:mod:`mcp_extproc.mcp.capabilities`).
        items: member of the result that holds a list's entries.
        entry: what a list's entries are known by.
        uris: where in the result URIs of resources stand.
        client_flag: flag of the client without which a server was never told to expect this.
    """

    name: str
    handling: Handling
    capability: str | None = None
    items: str | None = None
    entry: Entry | None = None
    uris: Places = None
    client_flag: str | None = None


_APP = "_meta.ui.resourceUri", "_meta.ui/resourceUri", "_meta.openai/outputTemplate"
"""MCP Apps: the view that shows a tool's results, in its present and its older spellings."""

LIST_ENTRY_URIS = places(*_APP)
"""Where URIs stand in a list's entry, apart from its own."""

_CONTENT = "resource.uri", "uri"
"""In a content block: an embedded resource, and (2025-06-18) a ``resource_link``."""

_REQUESTS = (
    Method("initialize", Handling.INITIALIZE),
    Method("ping", Handling.ANSWER),
    Method("tools/list", Handling.LIST, "tools", items="tools", entry=Entry.NAME),
    Method("tools/call", Handling.BY_NAME, "tools", uris=places(*(f"content[].{c}" for c in _CONTENT), *_APP)),
    Method("prompts/list", Handling.LIST, "prompts", items="prompts", entry=Entry.NAME),
    Method("prompts/get", Handling.BY_NAME, "prompts", uris=places(*(f"messages[].content.{c}" for c in _CONTENT))),
    Method("resources/list", Handling.LIST, "resources", items="resources", entry=Entry.URI),
    Method(
        "resources/templates/list", Handling.LIST, "resources", items="resourceTemplates", entry=Entry.TEMPLATE
    ),
    Method("resources/read", Handling.BY_URI, "resources", uris=places("contents[].uri")),
    Method("resources/subscribe", Handling.BY_URI, "resources.subscribe"),
    Method("resources/unsubscribe", Handling.BY_URI, "resources.subscribe"),
    Method("completion/complete", Handling.BY_REF, "completions"),
    Method("logging/setLevel", Handling.TELL_ALL, "logging"),
)  # fmt: skip

_NOTIFICATIONS = (
    # Every server got its own `initialized` when its session was opened.
    Method("notifications/initialized", Handling.DROP),
    Method("notifications/cancelled", Handling.BROADCAST),
    Method("notifications/progress", Handling.BY_PROGRESS),
    Method("notifications/roots/list_changed", Handling.BROADCAST, client_flag="roots"),
)

REQUESTS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _REQUESTS})
NOTIFICATIONS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _NOTIFICATIONS})

ERROR_URIS = places("data.uri")
"""Where URIs stand in a JSON-RPC error (-32002, resource not found)."""


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """One row: a request that servers send to clients.

    Attributes:
        client_flag: flag of a client without which it is not asked.
        uris: where in ``params`` URIs of resources stand.
    """

    name: str
    client_flag: str
    uris: Places = None


SERVER_REQUESTS: Mapping[str, ServerRequest] = MappingProxyType({
    row.name: row
    for row in (
        ServerRequest(
            "sampling/createMessage",
            "sampling",
            uris=places(*(f"messages[].content[].content[].{c}" for c in _CONTENT)),
        ),
        ServerRequest("elicitation/create", "elicitation"),
        ServerRequest("roots/list", "roots"),
    )
})  # fmt: skip

LIST_CHANGED: Mapping[str, str] = MappingProxyType({
    f"notifications/{kind}/list_changed": kind for kind in ("tools", "prompts", "resources")
})  # fmt: skip
"""Notifications that a list changed, and the capability whose lists they are about."""

MODERN_ONLY: frozenset[str] = frozenset({"server/discover", "subscriptions/listen"})
"""Requests that exist only from 2026-07-28 on."""

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Least severe first (RFC 5424 section 6.2.1, the other way round)."""
