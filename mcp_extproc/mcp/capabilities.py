"""Capabilities of clients and servers as flat sets of flags, such as ``resources.subscribe``.

Source: 2025-11-25 schema, ClientCapabilities and ServerCapabilities. Presence counts, not truth: ``{}`` means supported;
only the boolean sub-capabilities have to be true.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson

from mcp_extproc.mcp import jsontext, methods, versions
from mcp_extproc.mcp.jsontext import Members

SERVED: Final = ("completions", "logging", "prompts", "resources", "tools")
"""Server capabilities that are passed on to clients. No other: clients would ask for what the gateway does not carry."""

Flags = frozenset[str]

_MOST_SHARED: Final = 32
_MOST_SHARED_CHARS: Final = 1024


@lru_cache(maxsize=256)
def _first_of(flags: Flags) -> Flags:
    return flags


def shared(flags: Flags) -> Flags:
    """The same flags, held once by all sessions that have them. Servers choose their names: what is unusual is not kept."""
    usual = len(flags) <= _MOST_SHARED and sum(map(len, flags)) <= _MOST_SHARED_CHARS
    return _first_of(flags) if usual else flags


def server_flags(declared: Members) -> Flags:
    """What a server offers."""
    flags = set(declared)
    for name in methods.LIST_CHANGED:
        parts = jsontext.object_in(declared, name) or {}
        flags |= {f"{name}.{part}" for part in ("listChanged", "subscribe") if _is_true(parts, part)}
    return frozenset(flags)


def union(servers: list[Flags], *, missing: bool) -> dict[str, Any]:
    """The capabilities that are declared to clients.

    Nothing can be added after ``initialize``, so a server that was ``missing`` then counts as one that may offer anything.
    ``listChanged`` is always declared: the gateway announces servers that join or come back.
    """
    flags = {flag for server in servers for flag in server} | (set(SERVED) if missing else set())
    offered: dict[str, Any] = {name: {} for name in SERVED if name in flags}
    for name in methods.LIST_CHANGED:
        if name in offered:
            offered[name]["listChanged"] = True
    if "resources" in offered and (missing or "resources.subscribe" in flags):
        offered["resources"]["subscribe"] = True
    return offered


def client_flags(declared: Members, version: str) -> Flags:
    """What a client can be asked for, as far as the gateway carries it.

    ``sampling.context`` is left out: a server behind a gateway must not see what other servers sent to the client.
    """
    flags: set[str] = set()
    if (roots := jsontext.object_in(declared, "roots")) is not None:
        flags.add("roots")
        if _is_true(roots, "listChanged"):
            flags.add("roots.listChanged")
    if (sampling := jsontext.object_in(declared, "sampling")) is not None:
        flags.add("sampling")
        if jsontext.object_in(sampling, "tools") is not None and version >= versions.V_2025_11_25:
            flags.add("sampling.tools")
    if (elicitation := jsontext.object_in(declared, "elicitation")) is not None and version >= versions.V_2025_06_18:
        flags.add("elicitation")
        if "form" in elicitation or "url" not in elicitation:
            flags.add("elicitation.form")
        if "url" in elicitation and version >= versions.V_2025_11_25:
            flags.add("elicitation.url")
    return frozenset(flags)


def declared_to_servers(flags: Flags, version: str) -> bytes:
    """``capabilities`` of the gateway's own ``initialize``, as compact JSON text in ASCII.

    Args:
        flags: of the client.
        version: asked of the server. Before 2025-11-25 ``elicitation`` has no parts, and ``{}`` means forms.
    """
    offered: dict[str, Any] = {}
    if "elicitation.form" in flags or ("elicitation.url" in flags and version >= versions.V_2025_11_25):
        modes: dict[str, Any] = {mode: {} for mode in ("form", "url") if f"elicitation.{mode}" in flags}
        offered["elicitation"] = modes if version >= versions.V_2025_11_25 else {}
    if "roots" in flags:
        offered["roots"] = {"listChanged": True} if "roots.listChanged" in flags else {}
    if "sampling" in flags:
        offered["sampling"] = {"tools": {}} if "sampling.tools" in flags else {}
    return orjson.dumps(offered)


def _is_true(members: Members, name: str) -> bool:
    return name in members and bytes(members[name]) == b"true"
