"""Rules put to what servers say: entries of lists, and resources that they name."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import replace
from typing import Final

from mcp_extproc.config.authorization import Authorization, Kind
from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, Item, hints_of
from mcp_extproc.gateway.authorization.rules import SHOWN, Access, CallerKind, Rules
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.mcp.jsontext import Members


class ListJudge:
    """Says which entries of one merged list its caller may see, and takes down what servers listed.

    Args:
        access: of the caller; ``None`` for one who may see everything.
        kind: of the entries.
        question: the caller's.
        untrusted: servers whose annotations count as absent.
        asks_hints: whether annotations are taken down, though no rule asks for them.
    """

    def __init__(
        self,
        access: Access | None,
        kind: Kind,
        question: Question,
        untrusted: Collection[str],
        *,
        asks_hints: bool = False,
    ) -> None:
        self._access = access
        self._asks_hints = kind == "tools" and (asks_hints or (access is not None and access.asks_hints))
        self._kind = kind
        self._question = question
        self._untrusted = untrusted
        self.listed: dict[str, dict[str, Hints]] = {}
        """Names by server, hidden ones included."""

    def may_see(self, server: str, name: str, entry: Members) -> bool:
        """Whether an entry is for this caller. Of several with one name, the first one's annotations count, as on a call."""
        names = self.listed.get(server)
        if names is None:
            names = self.listed[server] = {}
        hints = names.get(name)
        if hints is None:
            hints = names[name] = hints_of(entry) if self._asks_hints and server not in self._untrusted else DEFAULTS
        access = self._access
        if access is None:
            return True
        known = access.known((access, (self._kind, server, name), hints))
        if known is None:
            known = access.verdict(Item(self._kind, server, name), hints, self._question)
        return known.outcome in SHOWN

    @property
    def may_hide_resources(self) -> bool:
        """Whether entries may name resources that are not for this caller."""
        return self._access is not None and self._access.may_hide_resources

    def may_see_resource(self, server: str, uri: str) -> bool:
        """Whether a resource that an entry names is for this caller, by the server's own URI."""
        return self._access is None or self._access.verdict(Item("resources", server, uri), None, self._question).shows


class Sight:
    """Which resources a caller may see, for what servers send without having been asked for them.

    Args:
        access: of the caller.
        principal: the caller.
    """

    def __init__(self, access: Access, principal: Principal) -> None:
        self._access = access
        self._question = Question(principal)

    @property
    def kind(self) -> CallerKind:
        """All that another worker needs to know of the caller, but for conditions."""
        return self._access.kind

    @property
    def worth(self) -> Hashable:
        """Callers of whom it is the same may see the same."""
        principal = self._question.principal
        return self._access.kind, principal.worth, principal.scopes

    @property
    def is_limited(self) -> bool:
        """Whether there may be resources that it may not see."""
        return self._access.may_hide_resources

    def may_see(self, server: str, uri: str) -> bool:
        """Whether it may see a server's resource, by the server's own URI."""
        return self._access.verdict(Item("resources", server, uri), None, self._question).shows


def sight_of_kind(rules: Rules, kind: CallerKind) -> Sight:
    """What callers of a kind may see, where no more is known of them. A condition that asks for more can't be told."""
    return Sight(rules.of_kind(kind), replace(_SOMEBODY, scopes=kind.held))


_SOMEBODY: Final = Principal("unknown", "", "")

NOTHING_ALLOWED: Final = Rules(Authorization(default="deny"))
NOBODY: Final = CallerKind((), frozenset(), authenticated=False)
