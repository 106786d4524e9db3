"""Sockets that a supervisor listens on, and that the processes which serve there inherit."""

from __future__ import annotations

import socket
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
    try:
        [(family, _, _, _, where), *_] = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        why = error.strerror or str(error)
        raise StartError(f"cannot listen on {address}: {why}. Choose another address with --listen.") from None


async def _at_path(address: UnixAddress) -> socket.socket:
    path = Path(address.path)
    await unix_sockets.require_free(path)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        with unix_sockets.only_for_us():
            listening.bind(address.path)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        why = error.strerror or str(error)
        raise StartError(f"cannot listen on {address}: {why}. Choose another address with --listen.") from None
    return listening
