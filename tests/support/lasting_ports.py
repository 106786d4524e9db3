"""TCP ports that stay the same from test to test, so that one configuration does for the servers of all of them."""

from __future__ import annotations

from collections import defaultdict

from tests.support.processes import free_port

_free: defaultdict[str, list[int]] = defaultdict(list)


def take(name: str) -> int:
    """A port for a server of this name: one that such a server has given back, or a new one."""
    return _free[name].pop() if _free[name] else free_port()


def give_back(name: str, port: int) -> None:
    """Let the next server of this name have it."""
    _free[name].append(port)
