"""The configured entries, compiled: which calls wait for consent. Pure: the same question has the same answer."""

from __future__ import annotations

from functools import cached_property

from mcp_extproc.config.authorization import selected_by
from mcp_extproc.config.expressions import ConditionError
from mcp_extproc.config.vetting import Vetting
from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import Hints, Item


class _Entry:
    """One entry."""

    def __init__(self, config: Vetting) -> None:
        self.config = config
        self.hints = () if config.annotations is None else tuple(config.annotations.asked.items())
        self.condition = config.condition
        self._servers = selected_by(config.servers or None)
        self._tools = selected_by(config.tools or None)

    def concerns(self, item: Item) -> bool:
        """Whether it is about a tool, as far as servers and names go."""
        return self._tools(item.name) and self._servers(item.server)

    def holds(self, item: Item, question: Question) -> bool:
        """Whether its condition is true. What can't be told is asked about."""
        if self.condition is None:
            return True
        try:
            return question.holds(self.condition, item, question.principal.scopes)
        except ConditionError:
            return True


class VettingEntries:
    """Those of an endpoint.

    Args:
        entries: as they are written.
    """

    def __init__(self, entries: tuple[Vetting, ...]) -> None:
        self._entries = tuple(map(_Entry, entries))

    @cached_property
    def asks_hints(self) -> bool:
        """Whether annotations of tools may decide anything."""
        return any(entry.hints for entry in self._entries)

    def may_concern(self, item: Item) -> bool:
        """Whether a use of an item may have to wait, as far as is known before its annotations and its arguments are."""
        return item.kind == "tools" and any(entry.concerns(item) for entry in self._entries)

    def needs_hints(self, item: Item) -> bool:
        """Whether it may depend on a tool's annotations."""
        for entry in self._entries:
            if entry.concerns(item):
                if entry.hints:
                    return True
                if entry.condition is None:
                    return False  # it matches, whatever the tool is like
        return False

    def of(self, item: Item, hints: Hints, question: Question) -> Vetting | None:
        """The first entry that is about a call; ``None`` where there is none, and it runs unasked.

        Args:
            item: the tool.
            hints: its annotations.
            question: who calls it, and how.
        """
        for entry in self._entries:
            if entry.concerns(item) and hints.fit(entry.hints) and entry.holds(item, question):
                return entry.config
        return None
