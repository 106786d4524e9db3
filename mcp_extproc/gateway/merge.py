"""Several servers' answers made one. Pure: the same outcomes give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson

from mcp_extproc.gateway.decision import Failed, Listed, Note, Opened, Outcome
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.methods import SERVED_CAPABILITIES

UNAVAILABLE_KEY = "mcp-extproc/unavailable"
"""Member of ``_meta`` that names the servers missing from a merged answer, and why."""

MAX_INSTRUCTIONS_CHARS = 8 * 1024
"""Most text taken over from one server's ``instructions``; models read all of it at every start."""


def result(id: bytes, value: object) -> bytes:
    """A JSON-RPC response. ``value`` may hold ``orjson.Fragment`` for parts taken over verbatim."""
    return orjson.dumps({"jsonrpc": "2.0", "id": orjson.Fragment(id), "result": value})


def failures(outcomes: Sequence[Outcome]) -> list[Failed]:
    """The legs that did not work out, cut lists included."""
    failed: list[Failed] = []
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            failed.append(outcome)
        elif isinstance(outcome, Listed) and outcome.truncated:
            failed.append(Failed(outcome.server, "truncated", outcome.truncated))
    return failed


def unavailable_meta(failed: Sequence[Failed]) -> dict[str, Any]:
    """``_meta`` of a partial answer; empty where nothing is missing."""
    if not failed:
        return {}
    return {
        "_meta": {UNAVAILABLE_KEY: [{"server": f.server, "reason": f.reason, "message": f.message} for f in failed]}
    }


def summary(failed: Sequence[Failed]) -> str:
    """All failures in one clause, for the message of an error."""
    return "; ".join(f"server '{f.server}' {f.message}" for f in failed)


def capabilities(opened: Sequence[Opened]) -> dict[str, Any]:
    """The union of what the servers offer, cut to what the gateway serves.

    Sub-capabilities (``listChanged``, ``subscribe``) stand for messages that the gateway does not carry yet: left out.
    """
    return {name: {} for name in sorted(SERVED_CAPABILITIES) if any(name in o.capabilities for o in opened)}


def instructions(opened: Sequence[Opened]) -> str | None:
    """The servers' instructions under their names, or ``None`` where no server gave any."""
    parts = [f"# {o.server}\n\n{_cut(o.instructions.strip())}" for o in opened if o.instructions]
    return "\n\n".join(parts) or None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_INSTRUCTIONS_CHARS else text[:MAX_INSTRUCTIONS_CHARS] + " [cut]"


def named_items(
    outcomes: Sequence[Outcome], visible_name: Callable[[str, str], str | None], limit: int
) -> tuple[list[orjson.Fragment], list[Note]]:
    """The entries of all lists under their client-visible names, in the order of the legs, verbatim but for the name.

    Args:
        outcomes: of list legs.
        visible_name: maps server and name to what clients see, or ``None`` for what they must not see.
        limit: most entries.
    """
    merged: list[orjson.Fragment] = []
    notes: list[Note] = []
    seen: set[str] = set()
    for outcome in outcomes:
        if not isinstance(outcome, Listed):
            continue
        for raw in outcome.items:
            entry = _named(raw)
            if entry is None:
                notes.append(Note("entry_without_name", {"server": outcome.server}))
                continue
            text, members, name = entry
            visible = visible_name(outcome.server, name)
            if visible is None:
                continue
            if visible in seen:
                notes.append(Note("name_conflict", {"server": outcome.server, "name": name, "visible_name": visible}))
                continue
            if len(merged) >= limit:
                notes.append(Note("list_too_long", {"limit": limit, "server": outcome.server}))
                return merged, notes
            seen.add(visible)
            merged.append(orjson.Fragment(text if visible == name else _renamed(text, members, visible)))
    return merged, notes


def _named(raw: msgspec.Raw) -> tuple[bytes, jsontext.Members, str] | None:
    try:
        members = jsontext.split(raw)
    except (TypeError, jsontext.NotJson):
        return None
    name = jsontext.text_of(members["name"]) if "name" in members else None
    return (bytes(raw), members, name) if name else None


def _renamed(text: bytes, members: jsontext.Members, name: str) -> bytes:
    try:
        return jsontext.replace(text, members, "name", orjson.dumps(name))
    except jsontext.DuplicateMember:
        # A server's own doubled member: keep the meaning that our reading gave it.
        return jsontext.join({**members, "name": msgspec.Raw(orjson.dumps(name))})
