"""Sockets that a supervisor listens on."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.address import TcpAddress, UnixAddress
from mcp_extproc.run import unix_sockets
from mcp_extproc.run.listening import listen, shared_port
from mcp_extproc.run.process import StartError
from tests.support.processes import free_port


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:  # paths of sockets have to be short
        yield Path(directory) / "a.sock"


async def test_nobody_else_can_ever_connect_at_a_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket has its mode when it appears, whatever the umask, and whatever was left there."""
    modes = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: Any) -> None:
            bind(self, address)
            modes.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(socket, "socket", Watched)
    before = os.umask(0)
    try:
        for _ in range(2):
            (await listen(UnixAddress(str(path)))).close()
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]


async def test_a_tcp_address() -> None:
    port = free_port()
    with await listen(TcpAddress("127.0.0.1", port)) as listening:
        assert listening.getsockname() == ("127.0.0.1", port)
        with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            await listen(TcpAddress("127.0.0.1", port))


def test_a_port_that_processes_of_ours_share_is_nobody_elses() -> None:
    """Whether one of them listens there or not."""
    address = TcpAddress("127.0.0.1", free_port())
    with shared_port(address):
        for _ in range(2):
            _is_taken(address)
            with socket.create_server(address, reuse_port=True) as listening, socket.create_connection(address):
                listening.accept()[0].close()
                _is_taken(address)
    with socket.create_server(address, reuse_port=True):  # of others, who would share
        with pytest.raises(StartError, match=rf"cannot listen on {address}: Address already in use\. Choose another"):
            shared_port(address)


def _is_taken(address: TcpAddress) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server(address).close()


async def test_a_path_that_is_taken_or_nowhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_sockets, "ENDING_SECONDS", 0.0)
    with await listen(UnixAddress(str(path))), pytest.raises(OSError, match="another process listens there"):
        await listen(UnixAddress(str(path)))
    with pytest.raises(StartError, match=r"cannot listen on unix:.*/no/such\.sock: No such file or directory\. Choose"):
        await listen(UnixAddress(f"{path.parent}/no/such.sock"))
