"""What policies get to know of a request before anything is done about it.

They are Envoy's filters between our two visits (docs/envoy.md, "Policies"). The keys and values are those that Envoy's own MCP
filter writes (Envoy 1.40, ``envoy.filters.http.mcp``), so that what was written for it judges the same; ours are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mcp_extproc.contract import SERVER_HEADER
from mcp_extproc.gateway.decision import Facts, RequestHead, Show
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.envelope import Message, Response
from mcp_extproc.mcp.names import MAX_NAME_CHARS, header_value

RESPONSE_METHOD: Final = "__jsonrpc_response"
"""What stands for the method of a client's answer to a server."""

NATIVE: Final[Facts] = {"jsonrpc": "2.0", "is_mcp_request": True, "status": "mcp_ok"}
"""What Envoy's filter says of every message that is valid."""

_PARAMS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "initialize": (("protocolVersion",), ("clientInfo", "name")),
    "tools/call": (("name",),),
    "prompts/get": (("name",),),
    "resources/read": (("uri",),),
    "resources/subscribe": (("uri",),),
    "resources/unsubscribe": (("uri",),),
    "completion/complete": (("ref", "type"), ("ref", "name"), ("ref", "uri")),
    "logging/setLevel": (("level",),),
    "notifications/cancelled": (("requestId",),),
    "notifications/progress": (("progressToken",), ("progress",)),
    "notifications/message": (("level",),),
    "notifications/resources/updated": (("uri",),),
}
"""Members of ``params`` that are told, by method. Of other methods none are: a policy on ``params.name`` is about calls."""

_MCP_HEADERS: Final = ("mcp-session-id", "mcp-protocol-version")

_scalar = msgspec.json.Decoder(str | int | float | bool).decode


def native_facts(message: Message) -> dict[str, Any]:
    """What Envoy's own filter would write, but for the id."""
    if isinstance(message, Response):
        return {**NATIVE, "method": RESPONSE_METHOD}
    params: dict[str, Any] = {}
    for path in _PARAMS.get(message.method, ()):
        value = _value_at(message.params, path)
        if value is not None:
            inner = params
            for member in path[:-1]:
                inner = inner.setdefault(member, {})
            inner[path[-1]] = value
    return {**NATIVE, "method": message.method, **({"params": params} if params else {})}


def _value_at(members: Mapping[str, msgspec.Raw], path: tuple[str, ...]) -> str | float | bool | None:
    for member in path[:-1]:
        found = members.get(member)
        inner = None if found is None else jsontext.object_of(bytes(found))
        if inner is None:
            return None
        members = inner
    raw = members.get(path[-1])
    if raw is None:
        return None
    try:
        value = _scalar(raw)
        if isinstance(value, str):
            return value[: MAX_NAME_CHARS + 1]
        # Numbers of metadata are doubles.
        return value if isinstance(value, bool) else float(value)
    except (msgspec.MsgspecError, OverflowError):
        return None


def show(head: RequestHead, facts: Facts, own: str | None = None) -> Show:
    """Let policies see the request.

    The headers that policies may match on tell the truth from here on, whatever the client sent in them; all other headers are
    still the client's.

    Args:
        head: the request's.
        facts: what is told.
        own: name or URI of what it asks for, as its server knows it.
    """
    method, server = facts.get("method"), facts.get("server")
    fields = {
        "mcp-method": method if isinstance(method, str) and method != RESPONSE_METHOD else None,
        "mcp-name": None if own is None else header_value(own),
        SERVER_HEADER: server if isinstance(server, str) else None,
    }
    told = tuple((name, value) for name, value in fields.items() if value is not None)
    names = {name for name, _ in told}
    gone = tuple(
        name
        for name in head.names
        if name.startswith(("x-mcp-", "mcp-")) and name not in _MCP_HEADERS and name not in names
    )
    return Show({**facts, "shown": True}, told, gone)
