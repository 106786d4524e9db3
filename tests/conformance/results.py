"""What two runs of the suite found, compared check by check.

Totals are not enough: a check that turns from SUCCESS to INFO or SKIPPED is a lost feature, and one that exists in all
scenarios succeeds for an endpoint that answers nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "(missing)"
"""In place of a status, of what only the other run has."""

EVIDENCE = frozenset({"SUCCESS", "FAILURE", "WARNING"})
"""Statuses of checks that looked at something."""

TRACE = frozenset({
    "incoming-request", "incoming-response", "incoming-sse-event",
    "outgoing-request", "outgoing-response", "outgoing-sse-event", "outgoing-stream-close",
    "stream-closed",
})  # fmt: skip
"""Ids of rows that, when INFO, only record what was sent and received."""

VARYING = frozenset({
    "serverUrl", "url", "hostHeader", "originHeader",
    "sessionId", "sessionIdSent", "requestState",
    "id", "eventId", "lastEventId", "lastEventIdUsed",
    "timestamp", "reconnectionTime", "actualDelayMs", "delay",
})  # fmt: skip
"""Members of details that no two runs have in common: addresses, ids, times."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of a scenario's ``checks.json``."""

    id: str
    name: str
    status: str
    error: str = ""
    details: Any = None


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What identifies a check in both runs."""

    scenario: str
    id: str = ""
    name: str = ""
    occurrence: int = 1
    """Counts the rows of equal id and name, which a scenario may have several of."""

    def __str__(self) -> str:
        again = f" ({self.occurrence})" if self.occurrence > 1 else ""
        return f"{self.scenario}: {self.id}{again}" if self.id else self.scenario


@dataclass(frozen=True, slots=True)
class Run:
    """The checks of one run by scenario. A scenario that left no file is no key."""

    scenarios: Mapping[str, Sequence[Check]]

    def checks(self) -> dict[Key, Check]:
        """All checks but mere trace."""
        found: dict[Key, Check] = {}
        for scenario, rows in self.scenarios.items():
            seen: Counter[tuple[str, str]] = Counter()
            for row in rows:
                if row.status == "INFO" and row.id in TRACE:
                    continue
                seen[row.id, row.name] += 1
                found[Key(scenario, row.id, row.name, seen[row.id, row.name])] = row
        return found

    def totals(self) -> dict[str, int]:
        """The number of checks by status, mere trace left out."""
        return dict(Counter(check.status for check in self.checks().values()))

    def has_evidence(self) -> bool:
        """Whether anything was checked at all."""
        return any(check.status in EVIDENCE for check in self.checks().values())


@dataclass(frozen=True, slots=True)
class Difference:
    """A check that two runs disagree on."""

    key: Key
    direct: str
    gateway: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.key}: direct {self.direct}, gateway {self.gateway}" + (f": {self.error}" if self.error else "")


def differences(direct: Run, gateway: Run) -> list[Difference]:
    """Checks whose status is not the same in both runs, or that only one of them has.

    A scenario that only one run has is one difference, without its checks. A run without any evidence is a difference,
    whatever the other one holds.
    """
    found = _whole_run(direct, gateway) + _scenarios(direct, gateway)
    both = direct.scenarios.keys() & gateway.scenarios.keys()
    before, after = direct.checks(), gateway.checks()
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key, _NO_CHECK), after.get(key, _NO_CHECK)
        if key.scenario in both and one.status != other.status:
            errors = " / ".join(error for error in (one.error, other.error) if error)
            found.append(Difference(key, one.status, other.status, errors))
    return found


def rewritten(direct: Run, gateway: Run) -> list[Difference]:
    """Checks that saw something else, although they may have succeeded: details without what always varies."""
    before, after = direct.checks(), gateway.checks()
    pairs = [(key, _lasting(before[key].details), _lasting(after[key].details)) for key in before if key in after]
    return [Difference(key, str(one), str(other)) for key, one, other in pairs if one != other]


def report(found: Sequence[Difference]) -> str:
    """All differences, one a line, for people."""
    return "\n".join([f"{len(found)} differences", *map(str, found)])


_NO_CHECK = Check("", "", MISSING)


def _whole_run(direct: Run, gateway: Run) -> list[Difference]:
    evidence = [_present(run.has_evidence()) for run in (direct, gateway)]
    return [Difference(Key("(any check)"), *evidence)] if MISSING in evidence else []


def _scenarios(direct: Run, gateway: Run) -> list[Difference]:
    only_one = sorted(direct.scenarios.keys() ^ gateway.scenarios.keys())
    return [Difference(Key(name), *(_present(name in run.scenarios) for run in (direct, gateway))) for name in only_one]


def _present(is_there: bool) -> str:
    return "(present)" if is_there else MISSING


def _lasting(details: Any) -> Any:
    if isinstance(details, dict):
        return {name: _lasting(value) for name, value in details.items() if name not in VARYING}
    return [_lasting(item) for item in details] if isinstance(details, list) else details
