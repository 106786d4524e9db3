"""Sockets that a supervisor listens on, and that the processes which serve there inherit."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcp_extproc.address import Address, TcpAddress, UnixAddress
from mcp_extproc.run import unix_sockets
from mcp_extproc.run.process import StartError

_BACKLOG = 1024


async def listen(address: Address) -> socket.socket:
    """A listening socket at an address. At a path, only our user can connect, from the first moment on.

    Raises:
        StartError: the address can't be used.
        OSError: at a path, somebody listens there, or the socket can't be made.
    """
    return await _at_path(address) if isinstance(address, UnixAddress) else at_port(address)


def at_port(address: TcpAddress) -> socket.socket:
    """A listening socket at a TCP address.

    Raises:
        StartError: the address can't be used.
    """
    with _refused(address):
        bound = _bound(address)
        bound.listen(_BACKLOG)
    return bound


def shared_port(address: TcpAddress) -> socket.socket:
    """A socket that keeps a TCP address from others, for processes of ours that listen there by themselves (SO_REUSEPORT).

    No connection reaches it, as it does not listen. Nobody else can have been there, as the right to share is given only once
    it is bound. From then on any process of our user can take part, which might read our files as well.

    Raises:
        StartError: the address can't be used.
    """
    with _refused(address):
        bound = _bound(address)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Without, anybody could listen here whenever no process of ours does.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return bound


def _bound(address: TcpAddress) -> socket.socket:
    [(family, _, _, _, where), *_] = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
    except BaseException:
        bound.close()
        raise
    return bound


async def _at_path(address: UnixAddress) -> socket.socket:
    path = Path(address.path)
    await unix_sockets.require_free(path)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _refused(address):
            with unix_sockets.only_for_us():
                listening.bind(address.path)
            listening.listen(_BACKLOG)
    except StartError:
        listening.close()
        raise
    return listening


@contextmanager
def _refused(address: Address) -> Iterator[None]:
    """What the system says to an address, as what to do about it."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StartError(f"cannot listen on {address}: {why}. Choose another address with --listen.") from None
