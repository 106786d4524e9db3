"""The order in which what is compared takes its turns, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def shuffled(items: Iterable[_T], *turn: int) -> list[_T]:
    """In an order of its own for each turn.

    A rotation would keep neighbours: what each leaves behind (caches, a busy disk, a hot processor) would always meet the
    same other one.
    """
    order = list(items)
    random.Random(repr(turn)).shuffle(order)
    return order


def alternated(items: Iterable[_T], turn: int) -> list[_T]:
    """Forwards and backwards in turn."""
    order = list(items)
    return order[::-1] if turn % 2 else order


def rotated(items: Sequence[_T], used: int) -> tuple[_T, ...]:
    """As they go on, in a circle, after so many have been used."""
    start = used % len(items) if items else 0
    return (*items[start:], *items[:start])
