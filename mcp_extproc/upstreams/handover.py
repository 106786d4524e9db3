"""Users' answers that reach another worker of this machine than the one that asked: it hands them over.

Sessions stay with their workers, so this is for the time in which workers are replaced. What is handed over is sealed: whoever
can write to the socket can make nothing up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from mcp_extproc.gateway.relay.identifiers import Asked, Identifiers
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.mcp.sealing import NotSealed

_PREFIX: Final = "answers-"
_NAME: Final = re.compile(rf"{_PREFIX}[0-9a-f-]{{1,64}}")
_MAX_BYTES: Final = 4096

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, str]).decode


class Handover:
    """One worker's.

    Args:
        directory: with the sockets of all workers of this machine; ``None`` where there is none, and nothing is handed over.
        identifiers: seals what is handed over.
    """

    def __init__(self, directory: Path | None, identifiers: Identifiers) -> None:
        self._directory = directory
        self._identifiers = identifiers
        self._socket: socket.socket | None = None
        self.name = "" if directory is None else f"{_PREFIX}{os.getpid():x}-{secrets.token_hex(4)}"
        """By which other workers find this one; empty where they can't."""
        self.on_answer: Callable[[bytes, Verdict], None] = lambda *_: None
        """Called with the question that another worker has the answer to."""

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the directory can't be used.
        """
        if self._directory is None:
            return
        _sweep(self._directory)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._directory / self.name))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def close(self) -> None:
        """Listen no more."""
        if self._socket is None or self._directory is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        (self._directory / self.name).unlink(missing_ok=True)

    def give(self, asked: Asked, verdict: Verdict) -> None:
        """Hand an answer over, where another worker of this machine has asked. If that has ended, so has the call."""
        if self._directory is None or self._socket is None or not _NAME.fullmatch(asked.worker):
            return
        text = self._identifiers.hidden(_encode((asked.question, verdict.value)))
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(), str(self._directory / asked.worker))

    def _receive(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError, NotSealed, msgspec.DecodeError, UnicodeDecodeError, ValueError):
            question, verdict = _decode(self._identifiers.shown(self._socket.recv(_MAX_BYTES).decode()))
            self.on_answer(question, Verdict(verdict))


def _sweep(directory: Path) -> None:
    """Remove what workers that were killed have left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        for path in directory.glob(f"{_PREFIX}*"):
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
