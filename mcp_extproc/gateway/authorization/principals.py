"""Which callers a rule is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mcp_extproc.config.authorization import Excluded, Principals, Scalar
from mcp_extproc.gateway.principal import ANONYMOUS, Principal, claim_at


class Fit(NamedTuple):
    """How a caller fits what a rule says about principals, but for scopes: these may be more, another time."""

    included: bool
    excluded: bool


class PrincipalTest:
    """What a rule says about principals."""

    def __init__(self, principals: Principals) -> None:
        self._included: Excluded = principals
        self._excluded = principals.excluded
        self.scopes = frozenset(principals.scopes)
        """All of them have to be held."""
        self.excluded_scopes = frozenset(() if self._excluded is None else self._excluded.scopes)
        """Who holds all of them, and fits otherwise, is not meant."""

    def fit(self, principal: Principal) -> Fit:
        """How a caller fits."""
        return Fit(_fits(self._included, principal), self._excluded is not None and _fits(self._excluded, principal))

    def matches(self, fit: Fit, held: frozenset[str]) -> bool:
        """Whether a caller is meant, with these scopes."""
        if not fit.included or not self.scopes <= held:
            return False
        return not (fit.excluded and self.excluded_scopes <= held)


def _fits(asked: Excluded, principal: Principal) -> bool:
    if asked.authenticated is not None and asked.authenticated != (principal != ANONYMOUS):
        return False
    if asked.subjects and principal.subject not in asked.subjects:
        return False
    if asked.groups and principal.groups.isdisjoint(asked.groups):
        return False
    return all(_has(principal.claims, name, values) for name, values in asked.claims.items())


def _has(claims: Mapping[str, object], name: str, values: tuple[Scalar, ...]) -> bool:
    found = claim_at(claims, name)
    return any(_is(one, value) for one in (found if isinstance(found, list | tuple) else [found]) for value in values)


def _is(found: object, value: Scalar) -> bool:
    # To Python, True is 1. Numbers are all floats, in Envoy's metadata.
    return isinstance(found, bool) == isinstance(value, bool) and found == value
