"""TCP ports that stay the same from test to test, so that one configuration does for the servers of all of them."""

from __future__ import annotations

import socket
from collections import defaultdict

_free: defaultdict[str, list[int]] = defaultdict(list)


def take(name: str) -> int:
    """A port for a server of this name: one that such a server has given back, or a new one."""
    return _free[name].pop() if _free[name] else _new()


def give_back(name: str, port: int) -> None:
    """Let the next server of this name have it."""
    _free[name].append(port)


def _new() -> int:
    """A port that is this process's until it ends, but refuses connections while no server listens.

    A socket that is bound and does not listen keeps everybody else from it. Servers get past by SO_REUSEADDR (socket(7)).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        holder.detach()
        return port
