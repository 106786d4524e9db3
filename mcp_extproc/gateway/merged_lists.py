"""Merged lists, kept for the next request that would make the same ones.

Servers are asked each time. What is kept is only what was made of their answers: a client asks for a list whenever it has
reason to, and mostly finds the one that it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from mcp_extproc.bounded import MIB, Bounded, Lookups
from mcp_extproc.gateway.authorization.items import Hints
from mcp_extproc.gateway.authorization.rules import Access
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.facts import Note
from mcp_extproc.gateway.policy.followed import Followed

_MAX_LISTS = 1024
_MAX_BYTES = 32 * MIB
"""Of a worker."""

_MAX_CALLERS = 16_384
_MAX_CALLERS_BYTES = 8 * MIB

_ENTRY_BYTES: Final = 512
"""About what an entry holds besides the list."""


class ListKey(NamedTuple):
    """All that a merged list is made of, for one configuration."""

    catalog: Catalog
    """What the caller may see, and under which names."""
    access: Access | None
    """What it may see and do of that, by rules."""
    follows: Followed | None
    """What of it policies deny."""
    method: str
    """Of the list."""
    digest: bytes
    """Of the servers' answers (:func:`mcp_extproc.gateway.merge.digest`)."""


class MergedList(NamedTuple):
    """Entries of several servers, and what was left out of them."""

    text: bytes
    """A JSON array."""
    notes: tuple[Note, ...]
    """For the operator, each time: what is left out is missing each time."""
    listed: Mapping[str, Mapping[str, Hints]] = MappingProxyType({})
    """Where there are rules: by server, the names that it listed, hidden ones included."""

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        names = sum(128 * len(names) + len("".join(names)) for names in self.listed.values())
        return _ENTRY_BYTES * (1 + len(self.notes)) + len(self.text) + names


class MergedLists:
    """The lists that callers got last. A caller gets one again where its servers answered as they did before; others' lists
    are none of its business. Callers whose servers answered alike share the text, so that it counts once."""

    def __init__(self) -> None:
        self.lookups = Lookups()
        """Whether callers get the list that they had."""
        self._last: Bounded[tuple[str, str], ListKey] = Bounded(_MAX_CALLERS, _MAX_CALLERS_BYTES)
        """By the key of the caller and the method."""
        self._lists: Bounded[ListKey, MergedList] = Bounded(_MAX_LISTS, _MAX_BYTES)

    def like_before(self, caller: str, key: ListKey) -> MergedList | None:
        """The list that a caller got last, if it is the one to be made now and still there."""
        found = self._lists.get(key) if self._last.get((caller, key.method)) == key else None
        if found is None:
            self.lookups.misses += 1
        else:
            self.lookups.hits += 1
        return found

    def remember(self, caller: str, key: ListKey, made: MergedList) -> None:
        """Keep a list that a caller gets."""
        self._last.keep((caller, key.method), key, _ENTRY_BYTES + len(caller))
        self._lists.keep(key, made, made.size)
