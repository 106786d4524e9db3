"""What documents, and what they refer to, are called in the one configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_extproc.config.config_error import quoted
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.reading import Reading


@dataclass(frozen=True, slots=True)
class Called:
    """Something that needs a name which nothing else of its kind has."""

    name: str
    """As its field says."""
    within: str
    """What tells it from others of this name."""
    document: Document
    path: FieldPath
    """Of the field that says its name."""


def given_names(reading: Reading, called: Sequence[Called]) -> list[str]:
    """For each its own name where no other has it, otherwise ``within.name``. As names may have dots themselves, that may be
    what another is called, which is a problem: one would replace the other."""
    count = Counter(one.name for one in called)
    owners: dict[str, Called] = {}
    names = []
    for one in called:
        name = one.name if count[one.name] == 1 else f"{one.within}.{one.name}"
        owner = owners.setdefault(name, one)
        if owner is not one:
            where = owner.document.problem(owner.path, "").path
            reading.refuse(one.document, one.path, f"is called {quoted(name)} here, as is {where}: rename one of them")
        names.append(name)
    return names
