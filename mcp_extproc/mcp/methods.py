"""One table of MCP's methods: what the gateway does with each. Everything that depends on the method reads it.

Each difference between two methods is a column. A method's name stands here and nowhere else; other modules look a row up by
the name in a message, and branch on its columns.

Source: schema.ts of 2025-03-26, 2025-06-18, 2025-11-25 and 2026-07-28.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mcp_extproc.mcp.jsontext import Places, places
from mcp_extproc.mcp.versions import Era


class Handling(enum.Enum):
    """How the gateway serves what a client sends. For requests this is also what they are routed by."""

    INITIALIZE = "fan out to every server, answer with the sum of them"
    ANSWER = "answer in the gateway, without a server"
    LIST = "fan out to the servers with the capability, merge"
    BY_NAME = "route by `params.name`"
    BY_URI = "route by `params.uri`"
    BY_REF = "route by `params.ref`, a prompt's name or a resource's URI"
    SET_LEVEL = "ask every server with the capability, answer with `{}`"
    BROADCAST = "pass on to every server of the session"
    CANCEL = "pass on to every server of the session, with the request's id as servers know it"
    BY_PROGRESS = "route by `params.progressToken`, which the gateway sealed"
    DROP = "accept and drop"
    NOT_SERVED = "refuse: the method belongs to a version that is not served"


class Entry(enum.Enum):
    """What an entry of a list is known by: the member that is rewritten."""

    NAME = "name"
    URI = "uri"
    TEMPLATE = "uriTemplate"


class Subscription(enum.Enum):
    """What a request does to a subscription, which outlives it: a server that loses the session is asked again."""

    BEGINS = "the client gets notifications of changes from now on"
    ENDS = "the client gets no more of them"


Path = tuple[str, ...]
"""Names of members, from the outside in."""

HANDSHAKE: Final = frozenset({Era.HANDSHAKE})
MODERN: Final = frozenset({Era.MODERN})
BOTH: Final = HANDSHAKE | MODERN


@dataclass(frozen=True, slots=True)
class Method:
    """One row: a request or notification of clients.

    Attributes:
        name: the JSON-RPC method.
        handling: what the gateway does, and what a request is routed by.
        eras: in which it exists.
        capability: flag of a server without which it is not asked (:mod:`mcp_extproc.mcp.capabilities`).
        guarded: members of ``params`` that are read here or by policies, so that no second spelling of them may pass.
        policy_params: members of ``params`` that policies see. Of other methods they see none.
        fact: the key of the metadata that holds the server's own name of what is asked for.
        found_in: lists that say which server has a name or URI without a prefix, in the order in which they are read.
        items: member of the result that holds a list's entries.
        entry: what a list's entries are known by.
        uris: where in the result URIs of resources stand.
        has_content: whether the result holds content blocks, some of which older clients do not know.
        withheld: members of ``params`` that no server gets.
        subscription: what it does to a subscription.
        client_flag: flag of the client without which it is not passed on: servers do not expect it.
    """

    name: str
    handling: Handling
    eras: frozenset[Era] = BOTH
    capability: str | None = None
    guarded: tuple[str, ...] = ()
    policy_params: tuple[Path, ...] = ()
    fact: str | None = None
    found_in: tuple[str, ...] = ()
    items: str | None = None
    entry: Entry | None = None
    uris: Places = None
    has_content: bool = False
    withheld: tuple[str, ...] = ()
    subscription: Subscription | None = None
    client_flag: str | None = None

    @property
    def returns_uris(self) -> bool:
        """Whether a result may hold URIs of resources, or an error one."""
        return self.uris is not None or self.handling in (Handling.BY_URI, Handling.BY_REF)

    @property
    def is_for_one_server(self) -> bool:
        """Whether it is routed to the one server that has what it names."""
        return self.handling in (Handling.BY_NAME, Handling.BY_URI, Handling.BY_REF)


VIEWS: Final[tuple[Path, ...]] = (("ui", "resourceUri"), ("ui/resourceUri",), ("openai/outputTemplate",))
"""MCP Apps: where in ``_meta`` the view stands that shows a tool's results, in its present and its older spellings."""

_APP = tuple(".".join(("_meta", *path)) for path in VIEWS)

LIST_ENTRY_URIS = places(*_APP)
"""Where URIs stand in a list's entry, apart from its own."""

_CONTENT = ("resource.uri", "uri", *_APP, *(f"resource.{path}" for path in _APP))
"""In a content block: an embedded resource, and (2025-06-18) a ``resource_link``; each may name a view, too."""

_ALWAYS_GUARDED: Final = ("_meta", "type")
"""Members that are read whatever the method is: ``type`` stands in references."""

_NAME: Final = (("name",),)
_URI: Final = (("uri",),)

_TASK: Final = ("task",)
"""A task would outlive its call, and tasks (2025-11-25) are not offered: the server is asked for the plain result."""

INITIALIZE: Final = Method(
    "initialize", Handling.INITIALIZE, HANDSHAKE,
    guarded=("protocolVersion", "capabilities", "clientInfo"),
    policy_params=(("protocolVersion",), ("clientInfo", "name")),
)  # fmt: skip
PING: Final = Method("ping", Handling.ANSWER, HANDSHAKE)
SET_LEVEL: Final = Method(
    "logging/setLevel", Handling.SET_LEVEL, HANDSHAKE, "logging", guarded=("level",), policy_params=(("level",),)
)
SUBSCRIBE: Final = Method(
    "resources/subscribe", Handling.BY_URI, HANDSHAKE, "resources.subscribe",
    guarded=("uri",), policy_params=_URI, subscription=Subscription.BEGINS,
    found_in=("resources/list", "resources/templates/list"),
)  # fmt: skip

_REQUESTS: Final = (
    INITIALIZE,
    PING,
    Method("tools/list", Handling.LIST, BOTH, "tools", guarded=("cursor",), items="tools", entry=Entry.NAME),
    Method(
        "tools/call", Handling.BY_NAME, BOTH, "tools",
        guarded=("name", "arguments", "task"), policy_params=_NAME, fact="tool", found_in=("tools/list",),
        uris=places(*(f"content[].{c}" for c in _CONTENT), *_APP), has_content=True, withheld=_TASK,
    ),
    Method("prompts/list", Handling.LIST, BOTH, "prompts", guarded=("cursor",), items="prompts", entry=Entry.NAME),
    Method(
        "prompts/get", Handling.BY_NAME, BOTH, "prompts",
        guarded=("name", "arguments"), policy_params=_NAME, fact="prompt", found_in=("prompts/list",),
        uris=places(*(f"messages[].content.{c}" for c in _CONTENT), *_APP), has_content=True, withheld=_TASK,
    ),
    Method(
        "resources/list", Handling.LIST, BOTH, "resources",
        guarded=("cursor",), items="resources", entry=Entry.URI,
    ),
    Method(
        "resources/templates/list", Handling.LIST, BOTH, "resources",
        guarded=("cursor",), items="resourceTemplates", entry=Entry.TEMPLATE,
    ),
    Method(
        "resources/read", Handling.BY_URI, BOTH, "resources",
        guarded=("uri",), policy_params=_URI, found_in=("resources/list", "resources/templates/list"),
        uris=places("contents[].uri", *(f"contents[].{path}" for path in _APP), *_APP),
    ),
    SUBSCRIBE,
    Method(
        "resources/unsubscribe", Handling.BY_URI, HANDSHAKE, "resources.subscribe",
        guarded=("uri",), policy_params=_URI, subscription=Subscription.ENDS,
        found_in=("resources/list", "resources/templates/list"),
    ),
    Method(
        "completion/complete", Handling.BY_REF, BOTH, "completions",
        guarded=("ref",), policy_params=(("ref", "type"), ("ref", "name"), ("ref", "uri")),
    ),
    SET_LEVEL,
    Method("server/discover", Handling.NOT_SERVED, MODERN),
    Method("subscriptions/listen", Handling.NOT_SERVED, MODERN),
)  # fmt: skip

# Every server got its own `initialized` when its session was opened.
INITIALIZED: Final = Method("notifications/initialized", Handling.DROP, HANDSHAKE)
CANCELLED: Final = Method(
    "notifications/cancelled", Handling.CANCEL, guarded=("requestId",), policy_params=(("requestId",),)
)

_NOTIFICATIONS: Final = (
    INITIALIZED,
    CANCELLED,
    Method(
        "notifications/progress", Handling.BY_PROGRESS, HANDSHAKE,
        guarded=("progressToken",), policy_params=(("progressToken",), ("progress",)),
    ),
    Method("notifications/roots/list_changed", Handling.BROADCAST, HANDSHAKE, client_flag="roots"),
)  # fmt: skip

# Only servers send these; what a client sends under their names is shown to policies, and ends here like any unknown one.
_MISDIRECTED: Final = (
    Method("notifications/message", Handling.DROP, HANDSHAKE, policy_params=(("level",),)),
    Method("notifications/resources/updated", Handling.DROP, HANDSHAKE, policy_params=_URI),
)


def _by_name(rows: Iterable[Method]) -> Mapping[str, Method]:
    return MappingProxyType({row.name: row for row in rows})


REQUESTS: Final = _by_name(row for row in _REQUESTS if Era.HANDSHAKE in row.eras)
"""Requests of clients that open a session."""

TOOLS_LIST: Final = REQUESTS["tools/list"]
TOOLS_CALL: Final = REQUESTS["tools/call"]

NAMED_IN: Final[Mapping[str, Method]] = MappingProxyType(
    {row.capability: row for row in REQUESTS.values() if row.entry is Entry.NAME and row.capability is not None}
)
"""By capability: the list in which each name stands. Resources need not be listed."""

USED_BY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "resources" if row.handling is Handling.BY_URI else str(row.capability): row.name
        for row in REQUESTS.values()
        if row.handling in (Handling.BY_NAME, Handling.BY_URI) and row.subscription is None
    }
)
"""By capability: the method that uses what is listed."""

NOTIFICATIONS: Final = _by_name(_NOTIFICATIONS)

FROM_CLIENTS: Final = _by_name((*_REQUESTS, *_NOTIFICATIONS, *_MISDIRECTED))
"""All that clients send, of every era."""

GUARDED_PARAMS: Final = frozenset(_ALWAYS_GUARDED).union(*(row.guarded for row in FROM_CLIENTS.values()))
"""Members of ``params`` that must stand there once and in one spelling. Of all methods together: which one a message means is
only known once it was read."""

WITHHELD: Final = frozenset().union(*(row.withheld for row in FROM_CLIENTS.values()))
"""Members of ``params`` that some method does not pass on."""

ERROR_URIS: Final = places("data.uri")
"""Where URIs stand in a JSON-RPC error (-32002, resource not found)."""


def only_modern(name: str) -> bool:
    """Whether a method exists only in versions without a handshake."""
    row = FROM_CLIENTS.get(name)
    return row is not None and row.eras == MODERN


def opens_session(name: str) -> bool:
    """Whether a request of this method opens a session."""
    row = REQUESTS.get(name)
    return row is not None and row.handling is Handling.INITIALIZE


def owners_of(reference: str) -> tuple[Method, ...]:
    """The rows of the lists in which a name (``name``) of a prompt, or a URI (``uri``), of a reference is found."""
    return tuple(REQUESTS[name] for name in _FOUND_BY_REFERENCE[reference])


_FOUND_BY_REFERENCE: Final = {"name": ("prompts/list",), "uri": ("resources/list", "resources/templates/list")}


# -- From servers ---------------------------------------------------------------------------------------------------------


class Relaying(enum.Enum):
    """How the gateway serves what a server sends."""

    ANSWER = "answer in the gateway, without the client"
    ASK_CLIENT = "seal the id and ask the client, if it declared the flag"
    LIST_CHANGED = "pass on, several within a moment as one"
    BY_LEVEL = "pass on, unless it is below the level that the client set"
    BY_PROGRESS = "pass on where the client expects this progress token"
    CANCEL = "pass on with the id as the client knows it"
    PASS = "pass on"  # noqa: S105 - no password
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Variant:
    """A form of a request that only some clients support.

    Attributes:
        member: the member of ``params`` that asks for the form.
        flag: of the client, with the member's text in place of ``{}``.
        default: what the member means where it is absent; ``None`` where an absent one asks for nothing.
        refused: the sentence for the server.
    """

    member: str
    flag: str
    default: str | None
    refused: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text that has to show which of several servers it comes from.

    Attributes:
        member: of ``params``.
        separator: between the server's name and the text.
        always: whether the server's name alone stands there where the text is absent.
    """

    member: str
    separator: str
    always: bool = False


@dataclass(frozen=True, slots=True)
class ServerMethod:
    """One row: a request or notification of servers.

    Attributes:
        relaying: what the gateway does.
        capability: whose lists changed.
        client_flag: flag of a client without which it does not get this.
        uris: where in ``params`` URIs of resources stand.
        variants: forms that need more of the client.
        replaced: members of ``params`` that get another text if they are there, with the text.
        labels: texts that show their server where there are several.
        about_resource: whether ``params.uri`` names a resource that it is about.
    """

    name: str
    relaying: Relaying
    capability: str | None = None
    client_flag: str | None = None
    uris: Places = None
    variants: tuple[Variant, ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    labels: tuple[Label, ...] = ()
    about_resource: bool = False


_ELICITATION_ID: Final = Label("elicitationId", ":")
ELICITATION_LABEL: Final = _ELICITATION_ID
"""For ids of elicitations wherever they stand: in a request, a notification, or an error."""

ERROR_ELICITATIONS: Final = places("data.elicitations[].elicitationId")
"""Where ids of elicitations stand in a JSON-RPC error (-32042, URL elicitation required)."""

ELICITATION: Final = ServerMethod(
    "elicitation/create", Relaying.ASK_CLIENT,
    client_flag="elicitation",
    variants=(
        Variant("mode", "elicitation.{}", "form", "The client does not offer this mode of elicitation."),
    ),
    # People have to know who asks.
    labels=(Label("message", ": "), _ELICITATION_ID),
)  # fmt: skip

_SERVER_REQUESTS: Final = (
    ServerMethod("ping", Relaying.ANSWER),
    ServerMethod(
        "sampling/createMessage", Relaying.ASK_CLIENT,
        client_flag="sampling",
        uris=places(*(f"messages[].content[].content[].{c}" for c in _CONTENT)),
        # Clients that do not know of tools would answer without them.
        variants=(Variant("tools", "sampling.tools", None, "The client does not offer sampling with tools."),),
        # Context of one server, or of all, is not this server's to have.
        replaced=(("includeContext", "none"),),
    ),
    ELICITATION,
    ServerMethod("roots/list", Relaying.ASK_CLIENT, client_flag="roots"),
)  # fmt: skip

_SERVER_NOTIFICATIONS: Final = (
    *(
        ServerMethod(f"notifications/{kind}/list_changed", Relaying.LIST_CHANGED, capability=kind)
        for kind in ("tools", "prompts", "resources")
    ),
    ServerMethod("notifications/message", Relaying.BY_LEVEL, labels=(Label("logger", "/", always=True),)),
    ServerMethod("notifications/progress", Relaying.BY_PROGRESS),
    ServerMethod("notifications/resources/updated", Relaying.PASS, uris=places("uri"), about_resource=True),
    ServerMethod("notifications/cancelled", Relaying.CANCEL),
    ServerMethod(
        "notifications/elicitation/complete", Relaying.PASS,
        client_flag="elicitation.url", labels=(_ELICITATION_ID,),
    ),
    ServerMethod("notifications/tasks/status", Relaying.DROP),  # tasks are not offered
)  # fmt: skip

SERVER_REQUESTS: Final[Mapping[str, ServerMethod]] = MappingProxyType({row.name: row for row in _SERVER_REQUESTS})
SERVER_NOTIFICATIONS: Final[Mapping[str, ServerMethod]] = MappingProxyType(
    {row.name: row for row in _SERVER_NOTIFICATIONS}
)

LIST_CHANGED: Final[Mapping[str, str]] = MappingProxyType(
    {row.capability: row.name for row in _SERVER_NOTIFICATIONS if row.capability is not None}
)
"""By capability: the notification that its lists changed."""

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Least severe first (RFC 5424 section 6.2.1, the other way round)."""
