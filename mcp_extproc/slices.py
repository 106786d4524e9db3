"""Work in slices: generators that yield wherever others may run, which may be every few microseconds. Pure;
:func:`mcp_extproc.tasks.in_slices` lets others run when it has been long enough."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")

Slices = Generator[None, None, _T]
"""Work whose result the generator returns."""


def whole(work: Slices[_T]) -> _T:
    """The result of work that is done at once."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
