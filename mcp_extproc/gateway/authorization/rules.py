"""Rules, compiled: what holds of an item for a caller. Pure: the same question has the same verdict."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config.authorization import KINDS, Authorization, Kind, Rule, selected_by
from mcp_extproc.config.expressions import ConditionError
from mcp_extproc.config.virtual_servers import Offered
from mcp_extproc.gateway.authorization.conditions import Question
from mcp_extproc.gateway.authorization.items import Hints, Item
from mcp_extproc.gateway.authorization.principals import Fit, PrincipalTest
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.mcp import uris

DEFAULT: Final = "default"
"""Stands for the rule that decided where none did."""

NOT_OFFERED: Final = "not offered"
"""Stands for the rule where a virtual server leaves something out, whatever rules say."""

_MAX_TRIALS: Final = 256
"""Sets of scopes that are tried for one item."""

_MAX_PRINCIPALS: Final = 4096
_MAX_KINDS: Final = 1024
_MAX_BYTES: Final = 8 * MIB
_MAX_VERDICTS: Final = 131_072
_MAX_VERDICTS_BYTES: Final = 32 * MIB
"""Of a worker: strangers choose the URIs that they ask for."""
_ENTRY_BYTES: Final = 256


class Outcome(enum.Enum):
    """What holds of an item."""

    ALLOWED = "it may be seen and used"
    DENIED = "it may be neither seen nor used"
    NEEDS_SCOPE = "it may be seen, and used with more scopes"
    OPEN = "it may be seen; whether it may be used depends on the arguments"
    NEEDS_HINTS = "it depends on the tool's annotations, which were not given"


class Verdict(NamedTuple):
    """An outcome, and where it comes from."""

    outcome: Outcome
    rule: str
    """Name of the rule that decided, or its number from 1."""
    scopes: tuple[str, ...] = ()
    """What is missing, where that is all that is missing."""

    @property
    def shows(self) -> bool:
        """Whether the item may be seen."""
        return self.outcome in SHOWN


SHOWN: Final = (Outcome.ALLOWED, Outcome.NEEDS_SCOPE, Outcome.OPEN)
"""Outcomes of items that may be seen."""
_LEFT_OUT: Final = Verdict(Outcome.DENIED, NOT_OFFERED)


class CallerKind(NamedTuple):
    """All that rules without conditions ask of a caller. Callers of one kind may see and do the same, but for conditions."""

    fits: tuple[Fit, ...]
    """For each rule that is about principals."""
    held: frozenset[str]
    """Scopes, of those that rules name."""
    authenticated: bool


_Names = Callable[[str], bool]
_Judged: TypeAlias = "tuple[Access, tuple[Kind, str, str], Hints | None]"


class Resolved:
    """What is resolved, for callers of all kinds at all endpoints of a worker: there may be many endpoints."""

    def __init__(self) -> None:
        self.verdicts: Bounded[_Judged, Verdict] = Bounded(_MAX_VERDICTS, _MAX_VERDICTS_BYTES)
        self.kinds: Bounded[tuple[Rules, CallerKind], Access] = Bounded(_MAX_KINDS, _MAX_BYTES)
        self.principals: Bounded[tuple[Rules, int], tuple[Principal, Access]] = Bounded(_MAX_PRINCIPALS, _MAX_BYTES)


class _Rule:
    """One rule."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.outcome = Outcome.ALLOWED if rule.action == "allow" else Outcome.DENIED
        self.principals = None if rule.principals is None else PrincipalTest(rule.principals)
        self.condition = rule.condition
        self.hints = () if rule.annotations is None else tuple(rule.annotations.asked.items())
        self._servers = selected_by(rule.servers or None)
        self._is_about_all_servers = not rule.servers
        self._selectors = {kind: rule.selectors(kind) for kind in KINDS}
        self._kinds: Mapping[Kind, _Names] = {kind: selected_by(found) for kind, found in self._selectors.items()}

    @property
    def scopes(self) -> Iterator[frozenset[str]]:
        """Sets of scopes that change whether a caller is meant, by being held as a whole."""
        if self.principals is not None:
            yield from filter(None, (self.principals.scopes, self.principals.excluded_scopes))

    def concerns(self, item: Item) -> bool:
        """Whether it is about an item, as far as servers and names go. Servers read a URI in their own ways: to be denied one
        reading is enough, and to be allowed it may not lead elsewhere."""
        if not self._servers(item.server):
            return False
        selects = self._kinds[item.kind]
        if item.kind != "resources" or self._selectors[item.kind] is None:
            return selects(item.name)
        if self.outcome is Outcome.DENIED:
            return any(map(selects, uris.readings(item.name)))
        return _selects_uri(selects, item.name)

    def may_concern(self, kind: Kind) -> bool:
        """Whether it is about any item of a kind."""
        return self._selectors[kind] != ()

    def is_about_all(self, kind: Kind) -> bool:
        """Whether it is about every item of a kind."""
        return self._selectors[kind] is None and self._is_about_all_servers


def _selects_uri(selects: Callable[[str], bool], uri: str) -> bool:
    """Whether a URI is among what is allowed, and where it leads as well."""
    return selects(uri) and ((place := uris.resolved(uri)) == uri or selects(place))


class _Offer:
    """What there is at all, before rules."""

    def __init__(self, offered: Mapping[str, Offered]) -> None:
        self._names = {(kind, server): one.allowing(kind) for server, one in offered.items() for kind in KINDS}
        self.has_all_resources = all(one.is_whole("resources") for one in offered.values())

    def includes(self, item: Item) -> bool:
        names = self._names.get((item.kind, item.server))
        if names is None:
            return False
        return _selects_uri(names, item.name) if item.kind == "resources" else names(item.name)


class Rules:
    """The rules of an endpoint.

    Args:
        config: as they are written.
        supported: scopes that clients are told of; nothing where they are told of none, and any may be asked for.
        offered: what there is at all, by server; ``None`` for everything.
        resolved: where it is kept what holds until the configuration changes; ``None`` for stores of its own.
    """

    def __init__(
        self,
        config: Authorization,
        supported: Collection[str] = (),
        offered: Mapping[str, Offered] | None = None,
        resolved: Resolved | None = None,
    ) -> None:
        self.offer = None if offered is None else _Offer(offered)
        self.default = Outcome.ALLOWED if config.default == "allow" else Outcome.DENIED
        self.step_up = config.step_up
        self.supported = frozenset(supported)
        self.rules = tuple(_Rule(rule.name or str(number), rule) for number, rule in enumerate(config.rules, 1))
        self._tests = tuple(rule.principals for rule in self.rules if rule.principals is not None)
        self._named = frozenset[str]().union(*(scopes for rule in self.rules for scopes in rule.scopes))
        resolved = resolved or Resolved()
        self._of_kind, self._known, self.verdicts = resolved.kinds, resolved.principals, resolved.verdicts

    def of(self, principal: Principal) -> Access:
        """What a caller may see and do; the same value for callers of one kind."""
        # By identity: two that are equal may have different scopes.
        known = self._known.get((self, id(principal)))
        if known is not None and known[0] is principal:
            return known[1]
        kind = CallerKind(
            tuple(test.fit(principal) for test in self._tests), principal.scopes & self._named, principal != ANONYMOUS
        )
        access = self.of_kind(kind)
        self._known.keep((self, id(principal)), (principal, access), _ENTRY_BYTES + 4 * len(str(principal.claims)))
        return access

    def of_kind(self, kind: CallerKind) -> Access:
        """What callers of a kind may see and do.

        Raises:
            ValueError: it is none of these rules.
        """
        access = self._of_kind.get((self, kind))
        if access is None:
            access = Access(self, kind)
            self._of_kind.keep((self, kind), access, _ENTRY_BYTES * (1 + len(kind.fits) + len(kind.held)))
        return access


class Access:
    """What callers of one kind may see and do.

    Args:
        rules: all of them.
        kind: of the callers.
    """

    def __init__(self, rules: Rules, kind: CallerKind) -> None:
        self._rules = rules
        self.kind = kind
        about = (rule for rule in rules.rules if rule.principals is not None)
        self._fits: Mapping[_Rule, Fit] = dict(zip(about, kind.fits, strict=True))
        self._mine = self._meant(kind.held)
        self.known: Callable[[_Judged], Verdict | None] = rules.verdicts.get
        """The verdict of before on an item, for this value as part of the key; none where verdicts depend on conditions. A
        tuple with what an :class:`Item` has stands for it: making one costs more than finding the verdict."""

    @cached_property
    def has_conditions(self) -> bool:
        """Whether a verdict may depend on more than the kind of the caller and the item."""
        rules = self._rules.rules if self._rules.step_up else self._mine
        return any(rule.condition is not None for rule in rules)

    def useful_scopes(self, principal: Principal) -> frozenset[str]:
        """Scopes of one of these callers that are of use here: those that rules name, and those that clients are told of."""
        return self.kind.held | (principal.scopes & self._rules.supported)

    @cached_property
    def asks_hints(self) -> bool:
        """Whether annotations of tools may decide anything."""
        return any(rule.hints for rule in self._rules.rules)

    @cached_property
    def may_hide_resources(self) -> bool:
        """Whether there may be a resource that these callers may not see."""
        if self._rules.offer is not None and not self._rules.offer.has_all_resources:
            return True
        for rule in self._mine:
            if rule.may_concern("resources"):
                is_for_all = (
                    rule.outcome is Outcome.ALLOWED and rule.condition is None and rule.is_about_all("resources")
                )
                return not is_for_all
        return self._rules.default is not Outcome.ALLOWED

    def verdict(self, item: Item, hints: Hints | None, question: Question) -> Verdict:
        """What holds of an item.

        Args:
            item: the item.
            hints: annotations of a tool, where they are known.
            question: who asks, and about which use. Without arguments, what holds before it is used.
        """
        if self._rules.offer is not None and not self._rules.offer.includes(item):
            return _LEFT_OUT
        key = (self, item, hints)
        known = self.known(key)
        if known is None:
            known = self._judge(item, hints, question)
            if not self.has_conditions:
                self._rules.verdicts.keep(key, known, _ENTRY_BYTES + len(item.name))
        return known

    def _judge(self, item: Item, hints: Hints | None, question: Question) -> Verdict:
        found = self._walk(self._mine, self.kind.held, item, hints, question)
        if found.outcome is not Outcome.DENIED or not (self._rules.step_up and self.kind.authenticated):
            return found
        return self._with_more_scopes(found, item, hints, question)

    def _walk(
        self, rules: tuple[_Rule, ...], held: frozenset[str], item: Item, hints: Hints | None, question: Question
    ) -> Verdict:
        """The first rule that matches decides."""
        may_be_denied = False
        for rule in rules:
            if not rule.concerns(item):
                continue
            if rule.hints:
                if hints is None:
                    return Verdict(Outcome.NEEDS_HINTS, rule.name)
                if not hints.fit(rule.hints):
                    continue
            if rule.condition is not None:
                if rule.condition.names_params and question.params is None:
                    if rule.outcome is Outcome.ALLOWED:
                        return Verdict(Outcome.OPEN, rule.name)
                    may_be_denied = True
                    continue
                try:
                    if not question.holds(rule.condition, item, question.principal.scopes | held):
                        continue
                except ConditionError:
                    return Verdict(Outcome.DENIED, rule.name)
            return _decided(rule.outcome, rule.name, may_be_denied=may_be_denied)
        return _decided(self._rules.default, DEFAULT, may_be_denied=may_be_denied)

    def _meant(self, held: frozenset[str]) -> tuple[_Rule, ...]:
        """The rules that are about these callers, with these scopes."""
        return tuple(
            rule
            for rule in self._rules.rules
            if rule.principals is None or rule.principals.matches(self._fits[rule], held)
        )

    # -- Step-up ----------------------------------------------------------------------------------------------------------

    def _with_more_scopes(self, denied: Verdict, item: Item, hints: Hints | None, question: Question) -> Verdict:
        """Whether more scopes would turn the verdict, and which: the fewest. What rules ask of scopes changes only with whole
        sets of them, so that no set is smaller than the smallest union of these."""
        held = self.kind.held
        steps = {
            missing
            for rule in self._rules.rules
            if rule.concerns(item)
            for scopes in rule.scopes
            if (missing := scopes - held) and (not self._rules.supported or missing <= self._rules.supported)
        }
        waiting = [(len(step), tuple(sorted(step))) for step in steps]
        heapq.heapify(waiting)
        tried: set[tuple[str, ...]] = set()
        while waiting and len(tried) < _MAX_TRIALS:
            _, more = heapq.heappop(waiting)
            if more in tried:
                continue
            tried.add(more)
            enough = held.union(more)
            found = self._walk(self._meant(enough), enough, item, hints, question)
            if found.outcome is Outcome.NEEDS_HINTS:
                return found
            if found.shows:
                return Verdict(Outcome.NEEDS_SCOPE, denied.rule, more)
            for step in steps:
                union = tuple(sorted(step.union(more)))
                heapq.heappush(waiting, (len(union), union))
        return denied


def _decided(outcome: Outcome, rule: str, *, may_be_denied: bool) -> Verdict:
    return Verdict(Outcome.OPEN if may_be_denied and outcome is Outcome.ALLOWED else outcome, rule)
