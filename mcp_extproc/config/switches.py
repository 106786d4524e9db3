"""Lists by which agents turn servers on and off, beside the servers' own entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NamedOnes:
    """A list of servers' names. Case and blanks at the ends do not tell names apart, as for Gemini CLI."""

    names: frozenset[str]
    """As :func:`names_in` finds them."""
    are_off: bool
    """Whether these are off. Otherwise all others are."""
    source: str
    """Where it stands, for a message."""

    def turns_off(self, name: str) -> bool:
        """Whether a server is off by this list."""
        return (_plain(name) in self.names) is self.are_off


def names_in(value: Any) -> frozenset[str] | None:
    """The names in a list; ``None`` if there is no list.

    Raises:
        ValueError: it is something else. What it was meant to turn off is unknown.
    """
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of servers' names")
    return frozenset(map(_plain, value))


def _plain(name: str) -> str:
    return name.strip().lower()
