"""Several servers' answers made one. Pure: the same outcomes give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from mcp_extproc.contract import UNAVAILABLE_KEY
from mcp_extproc.gateway.facts import Note
from mcp_extproc.gateway.legs import Failed, Listed, Opened, Outcome
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.jsontext import TooManyMembers
from mcp_extproc.mcp.methods import Entry
from mcp_extproc.mcp.names import is_plain
from mcp_extproc.slices import Slices

MAX_INSTRUCTIONS_CHARS = 8 * 1024
"""Most text taken over from one server's ``instructions``; models read all of it at every start."""

MAX_NOTED_CHARS = 128
"""How much of a server's name for something the log repeats."""

Owners = Mapping[str, str]
"""Server by name or URI."""

MaySee = Callable[[str, str, jsontext.Members], bool]
"""Whether a caller may see an entry of a list, given the server, its name for it, and the entry."""


def everything(_server: str, _name: str, _entry: jsontext.Members) -> bool:
    """For callers that no rule limits."""
    return True


def _nothing_meets(_server: str, _name: str) -> bool:
    return False


_DIGESTED = 4 * 1024 * 1024
"""Bytes of a slice where they are only digested."""


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


def instructions(opened: Sequence[Opened]) -> str | None:
    """The servers' instructions under their names, or ``None`` where no server gave any."""
    parts = [f"# {o.server}\n\n{_cut(o.instructions.strip())}" for o in opened if o.instructions]
    return "\n\n".join(parts) or None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_INSTRUCTIONS_CHARS else text[:MAX_INSTRUCTIONS_CHARS] + " [cut]"


def entries(
    outcomes: Sequence[Outcome],
    entry: Entry,
    visible: Callable[[str, str], str | None],
    adapt: Callable[[str, bytes], bytes],
    limit: int,
    may_see: MaySee = everything,
    meets: Callable[[str, str], bool] = _nothing_meets,
) -> Slices[tuple[list[orjson.Fragment], list[Note]]]:
    """The entries of all lists under their client-visible names or URIs, in the order of the legs, verbatim but for these.

    Args:
        outcomes: of list legs.
        entry: what an entry is known by.
        visible: maps server and name to what clients see, or ``None`` for what they must not see.
        adapt: changes whatever else reads differently for clients, given the server and the entry.
        limit: most entries.
        may_see: whether an entry is for the caller.
        meets: whether it has no name for clients because another server has the same.
    """
    merged: list[orjson.Fragment] = []
    left_out = _LeftOut()
    sight = _Sight(entry, visible, may_see, meets, left_out)
    seen: set[str] = set()
    for server, raw in listed(outcomes):
        yield
        known = sight.known(server, raw)
        if known is None:
            continue
        members, name, shown = known
        if shown in seen:
            left_out.count("name_conflict", server, shown)
            continue
        if len(merged) >= limit:
            return merged, [*left_out.notes(), Note("list_too_long", {"limit": limit, "server": server})]
        text = bytes(raw) if shown == name else _renamed(bytes(raw), members, entry, shown)
        try:
            merged.append(orjson.Fragment(adapt(server, text)))
        except TooManyMembers:
            left_out.count("entry_too_large", server)
            continue
        seen.add(shown)
    return merged, left_out.notes()


class _Sight:
    """What clients see of servers' entries: what :func:`entries` is given."""

    def __init__(
        self,
        entry: Entry,
        visible: Callable[[str, str], str | None],
        may_see: MaySee,
        meets: Callable[[str, str], bool],
        left_out: _LeftOut,
    ) -> None:
        self._entry = entry
        self._visible = visible
        self._may_see = may_see
        self._meets = meets
        self._left_out = left_out

    def known(self, server: str, raw: msgspec.Raw) -> tuple[jsontext.Members, str, str] | None:
        """An entry, its name, and the one that clients see; ``None`` where they don't see it."""
        known = self._served(server, raw)
        if known is None:
            return None
        members, name = known
        shown = self._visible(server, name)
        if shown is None:
            if self._meets(server, name) and self._may_see(server, name, members):
                self._left_out.count("name_conflict", server, name)
            return None
        if self._entry is Entry.NAME and _only_as_task(members):
            return None
        return (members, name, shown) if self._may_see(server, name, members) else None

    def _served(self, server: str, raw: msgspec.Raw) -> tuple[jsontext.Members, str] | None:
        """An entry and its name; ``None`` where it has none that can be served."""
        known = _known_by(raw, self._entry)
        if known is None:
            self._left_out.count("entry_without_name", server)
        elif not is_plain(known[1]):
            self._left_out.count("name_not_served", server)
            return None
        return known


class _LeftOut:
    """What the operator is told of entries that are not listed: a note for each server and reason, however many they are."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], str] = {}

    def count(self, event: str, server: str, visible_name: str | None = None) -> None:
        """Count an entry; the first one's name is told as an example."""
        key = event, server
        self._counts[key] = self._counts.get(key, 0) + 1
        if visible_name is not None:
            self._first.setdefault(key, visible_name[:MAX_NOTED_CHARS])

    def notes(self) -> list[Note]:
        """In the order in which the reasons came up."""
        return [
            Note(event, {"server": server, "entries": count} | self._example(event, server))
            for (event, server), count in self._counts.items()
        ]

    def _example(self, event: str, server: str) -> dict[str, object]:
        name = self._first.get((event, server))
        return {} if name is None else {"visible_name": name}


def digest(outcomes: Sequence[Outcome]) -> Slices[bytes]:
    """Of all that :func:`entries` reads of outcomes: equal ones give equal entries, and no server can make different ones
    look equal. Computed in slices, as these."""
    found = hashlib.sha256()
    for outcome in outcomes:
        if isinstance(outcome, Listed):
            # No JSON text has a NUL in it: nothing else tells where an entry ends.
            text = b"\0".join(outcome.items)
            found.update(repr((outcome.server, len(outcome.items), len(text))).encode())
            for start in range(0, len(text), _DIGESTED):
                if start:
                    yield
                found.update(memoryview(text)[start : start + _DIGESTED])
    return found.digest()


def owners(
    outcomes: Sequence[Outcome], entry: Entry, offered: Callable[[str, str], bool], may_see: MaySee = everything
) -> Slices[dict[str, str]]:
    """The names or URIs that exactly one server lists, each with that server. Found in slices, as :func:`entries`.

    Args:
        outcomes: of list legs.
        entry: what an entry is known by.
        offered: whether a server's name may be seen at all.
        may_see: whether an entry is for the caller.
    """
    found: dict[str, set[str]] = {}
    for server, raw in listed(outcomes):
        yield
        known = _known_by(raw, entry)
        if known is not None and offered(server, known[1]) and may_see(server, known[1], known[0]):
            found.setdefault(known[1], set()).add(server)
    return {name: next(iter(servers)) for name, servers in found.items() if len(servers) == 1}


def names(outcomes: Sequence[Outcome], entry: Entry) -> Slices[frozenset[tuple[str, str]]]:
    """Servers and their own names."""
    found = set()
    for server, raw in listed(outcomes):
        yield
        known = _known_by(raw, entry)
        if known is not None:
            found.add((server, known[1]))
    return frozenset(found)


def listed(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, msgspec.Raw]]:
    """All entries, each with its server."""
    for outcome in outcomes:
        if isinstance(outcome, Listed):
            for raw in outcome.items:
                yield outcome.server, raw


def _known_by(raw: msgspec.Raw, entry: Entry) -> tuple[jsontext.Members, str] | None:
    try:
        members = jsontext.object_of(raw)
    except TooManyMembers:
        return None
    name = None if members is None else jsontext.text_in(members, entry.value)
    return (members, name) if members is not None and name else None


def _only_as_task(tool: jsontext.Members) -> bool:
    """A tool that can be called as a task only (2025-11-25 basic/utilities/tasks), which the gateway does not offer."""
    execution = tool.get("execution")
    return execution is not None and jsontext.text_at(execution, "taskSupport") == "required"


def _renamed(text: bytes, members: jsontext.Members, entry: Entry, name: str) -> bytes:
    try:
        return jsontext.replace(text, members, entry.value, orjson.dumps(name))
    except jsontext.DuplicateMember:
        # A server's own doubled member: keep the meaning that our reading gave it.
        return jsontext.join({**members, entry.value: msgspec.Raw(orjson.dumps(name))})
