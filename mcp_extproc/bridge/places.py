"""How many children and connections there may be at a time, by the descriptors that they take."""

from __future__ import annotations

import resource
from typing import Final

_SHARE = 0.75
"""Of the descriptors that this process may have. The others are for requests of clients."""

NO_PLACE: Final = "the bridge has as many files and connections open as it may (ulimit -n)"
"""Why there is no place for one more."""


class Places:
    """Places for all servers together.

    Args:
        most: descriptors.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, descriptors: int) -> bool:
        """Take a place; whether there was one."""
        if descriptors > self._left:
            return False
        self._left -= descriptors
        return True

    def give_back(self, descriptors: int) -> None:
        """Its children and connections are gone."""
        self._left += descriptors


def of_this_process() -> Places:
    """What the system allows this process."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Places(1 << 62 if most == resource.RLIM_INFINITY else int(most * _SHARE))
