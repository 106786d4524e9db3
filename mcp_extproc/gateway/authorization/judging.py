"""Rules put to what servers say: entries of lists, and resources that they name."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mcp_extproc.config.authorization import Kind
from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, Item, hints_of
from mcp_extproc.gateway.authorization.rules import Access, Outcome
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.mcp.jsontext import Members


class ListJudge:
    """Says which entries of one merged list its caller may see, and takes down what servers listed.

    Args:
        access: of the caller.
        kind: of the entries.
        question: the caller's.
        untrusted: servers whose annotations count as absent.
    """

    def __init__(self, access: Access, kind: Kind, question: Question, untrusted: Collection[str]) -> None:
        self._access = access
        self._kind = kind
        self._question = question
        self._untrusted = untrusted
        self.listed: dict[str, dict[str, Hints]] = {}
        """Names by server, hidden ones included."""

    def may_see(self, server: str, name: str, entry: Members) -> bool:
        """Whether an entry is for this caller. Of several with one name, the first one's annotations count, as on a call."""
        names = self.listed.setdefault(server, {})
        hints = names.get(name)
        if hints is None:
            says = self._kind == "tools" and server not in self._untrusted
            hints = names[name] = hints_of(entry) if says else DEFAULTS
        item = Item(self._kind, server, name)
        found = self._access.verdict(item, None, self._question)
        if found.outcome is Outcome.NEEDS_HINTS:
            found = self._access.verdict(item, hints, self._question)
        return found.shows


def resources_of(access: Access, principal: Principal) -> Callable[[str, str], bool]:
    """A function that says whether a caller may see a server's resource, for what servers send without being asked."""
    question = Question(principal)

    def may_see(server: str, uri: str) -> bool:
        return access.verdict(Item("resources", server, uri), None, question).shows

    return may_see
