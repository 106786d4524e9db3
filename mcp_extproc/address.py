"""Addresses of the gateway's own sockets: ``unix:PATH`` or ``HOST:PORT``.

Imports little, for the health check: named tuples, as importing `dataclasses` takes longer than a check.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket

_HOST_PORT = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})")
_LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}")

_MAX_UNIX_PATH = 107
"""Linux takes 108 bytes with the closing NUL (unix(7))."""


class UnixAddress(NamedTuple):
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class TcpAddress(NamedTuple):
    """A TCP socket. IPv6 hosts are held without brackets."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Other names than ``localhost`` may be anybody's."""
        return self.host in ("localhost", "::1") or _LOOPBACK.fullmatch(self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PipeAddress(NamedTuple):
    """A named pipe (fifo(7)), into which one process of this machine writes lines for another."""

    path: str

    def __str__(self) -> str:
        return f"{_PIPE}{self.path}"


_PIPE = "pipe:"

Address = UnixAddress | TcpAddress


def names_this_machine(host: str) -> bool:
    """Whether a ``Host`` (RFC 9110 section 7.2) names this machine, and so comes from no site whose name resolves to it (DNS
    rebinding). Any port will do: others may forward theirs to ours (ssh -L)."""
    from urllib.parse import urlsplit  # which the health check does not need

    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        return parts.netloc == host and "@" not in host and TcpAddress(name, parts.port or 0).is_loopback
    except ValueError:
        return False


def unix_path_problem(path: str, *, prefix: str = "") -> str | None:
    """Why this is no path of a Unix socket, or None. The prefix is that of the example, which is written as the path was."""
    if not path.startswith("/") or "\0" in path:
        return f"a Unix socket is given by its absolute path, such as {prefix}/run/mcp.sock"
    if len(path.encode()) > _MAX_UNIX_PATH:
        return f"the path of a Unix socket has at most {_MAX_UNIX_PATH} bytes"
    return None


def parse_address(text: str) -> Address:
    """Read ``unix:/run/gateway.sock``, ``127.0.0.1:9002`` or ``[::1]:9002``.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if (problem := unix_path_problem(path, prefix="unix:")) is not None:
            raise ValueError(f"{text!r}: {problem}")
        return UnixAddress(path)
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text!r}: expected unix:/PATH or HOST:PORT, such as unix:/run/mcp.sock or 127.0.0.1:9002")
    return TcpAddress(match["literal"] or match["host"], int(match["port"]))


def parse_address_or_pipe(text: str) -> Address | PipeAddress:
    """The same, or a named pipe.

    Raises:
        ValueError: it is none of these.
    """
    return PipeAddress(text.removeprefix(_PIPE)) if text.startswith(_PIPE) else parse_address(text)


def connected(address: Address, timeout: float) -> socket.socket:
    """A connection to an address. Blocks.

    Args:
        address: where somebody listens.
        timeout: seconds for each step, now and later.

    Raises:
        OSError: nobody does, or not in time (`TimeoutError`).
    """
    import socket  # which a command that only reads addresses does without

    if isinstance(address, TcpAddress):
        return socket.create_connection((address.host, address.port), timeout)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(address.path)
    except OSError:
        connection.close()
        raise
    return connection


def default_directory() -> str:
    """The default directory of the sockets: ``$XDG_RUNTIME_DIR/mcp-extproc``, or ``/tmp/mcp-extproc-UID``."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/mcp-extproc" if runtime else f"/tmp/mcp-extproc-{os.getuid()}"  # noqa: S108 - made 0700 and checked


def worker_addresses(directory: str, workers: int) -> tuple[UnixAddress, ...]:
    """The default addresses of the workers whose sockets are in a directory."""
    return tuple(UnixAddress(f"{directory}/extproc-{number}.sock") for number in range(workers))
