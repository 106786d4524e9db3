"""Sockets to listen on: whether they are free. That nobody else can connect: tests/unit/run/test_worker.py."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_extproc.run import unix_sockets
from mcp_extproc.run.unix_sockets import require_free


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(unix_sockets, "ENDING_SECONDS", 0.0)
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:  # paths of sockets have to be short
        yield Path(directory) / "a.sock"


def listening(path: Path, backlog: int = 10) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(backlog)
    return listener


async def test_nothing_and_what_is_left_of_others_are_free(path: Path) -> None:
    await require_free(path)
    listening(path).close()
    assert path.is_socket()
    await require_free(path)
    link = path.with_name("link")
    link.symlink_to(path.with_name("nothing"))
    with pytest.raises(OSError, match="no socket"):
        await require_free(link)


async def test_somebody_listens(path: Path) -> None:
    with listening(path), pytest.raises(OSError, match=f"unix:{path}: another process listens there. Stop it"):
        await require_free(path)


async def test_somebody_listens_and_is_busy(path: Path) -> None:
    with listening(path, 0), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))  # and the queue is full
        with pytest.raises(OSError, match="another process listens there"):
            await require_free(path)


async def test_a_file_is_not_removed_for_a_socket(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OSError, match=f"unix:{path}: there is a file that is no socket"):
        await require_free(path)
    assert path.read_text() == "precious"


async def test_one_that_is_about_to_end_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_sockets, "ENDING_SECONDS", 60.0)
    listener = listening(path)
    looked = asyncio.Event()
    is_served = unix_sockets._is_served

    def look(path: Path) -> bool:
        looked.set()
        return is_served(path)

    monkeypatch.setattr(unix_sockets, "_is_served", look)
    waiting = asyncio.create_task(require_free(path))
    await looked.wait()
    listener.close()
    await waiting
