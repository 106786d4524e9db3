"""What policies get to know of a request before anything is done about it.

They are Envoy's filters between our two visits (docs/envoy.md, "Policies"). The keys and values are those that Envoy's own MCP
filter writes (Envoy 1.40, ``envoy.filters.http.mcp``), so that what was written for it judges the same; ours are added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from mcp_extproc.contract import RESPONSE_METHOD as RESPONSE_METHOD
from mcp_extproc.contract import SERVER_HEADER, SERVERS_HEADERS
from mcp_extproc.gateway.decision import Preview
from mcp_extproc.gateway.facts import NOTHING, RequestFacts
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import jsontext, methods
from mcp_extproc.mcp.envelope import Message, Request, Response
from mcp_extproc.mcp.names import MAX_NAME_CHARS, header_value

_METHOD: Final = "mcp-method"
_MCP_HEADERS: Final = ("mcp-session-id", "mcp-protocol-version")

_scalar = msgspec.json.Decoder(str | int | float | bool).decode


def native_facts(message: Message, known: RequestFacts = NOTHING) -> RequestFacts:
    """What Envoy's own filter would write about a message, and what is known of who sent it."""
    id = message.id if isinstance(message, Request | Response) else None
    if isinstance(message, Response):
        return known.but(id=id, method=RESPONSE_METHOD, native=True)
    row = methods.FROM_CLIENTS.get(message.method)
    params: dict[str, Any] = {}
    for path in () if row is None else row.policy_params:
        value = _value_at(message.params, path)
        if value is not None:
            inner = params
            for member in path[:-1]:
                inner = inner.setdefault(member, {})
            inner[path[-1]] = value
    return known.but(id=id, method=message.method, params=params or None, native=True)


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


def show(head: RequestHead, facts: RequestFacts, own: str | None = None, kept: Collection[str] = ()) -> Preview:
    """Let policies see the request.

    The headers that policies may match on are true from here on, whatever the client sent in them; all other headers are
    still the client's. Those that Envoy has written for the worker stay for the second visit.

    Args:
        head: the request's.
        facts: what is known of it.
        own: name or URI of what it asks for, as its server knows it.
        kept: headers of ours that the second visit needs, too.
    """
    fields = {_METHOD: None if facts.method == RESPONSE_METHOD else facts.method, **_target(facts.server, own)}
    present = tuple((name, value) for name, value in fields.items() if value is not None)
    names = {*kept, *head.hidden, *(name for name, _ in present)}
    gone = tuple(
        name
        for name in head.names
        if name.startswith(("x-mcp-", "mcp-"))
        and name not in _MCP_HEADERS
        and name not in SERVERS_HEADERS
        and name not in names
    )
    return Preview(facts, present, gone)


def is_as_judged(head: RequestHead, method: str | None) -> bool:
    """Whether the policies that judged a request, if any did, were shown this method; ``None`` for a response.

    Both visits look at the same bytes, but not at the same moment: servers' lists change, workers and configurations are
    replaced, and filters in between may write another body.
    """
    return not head.is_judged or head.headers.get(_METHOD) == method


def is_target_as_judged(head: RequestHead, server: str | None, own: str | None = None) -> bool:
    """The same of the server that is to get a request, and of what it asks for there."""
    return not head.is_judged or all(head.headers.get(name) == value for name, value in _target(server, own).items())


def _target(server: str | None, own: str | None) -> dict[str, str | None]:
    return {"mcp-name": None if own is None else header_value(own), SERVER_HEADER: server}
