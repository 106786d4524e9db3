"""A stdio server without anything in between: children of the load client, as agents have them today."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from bench.errors import BenchError

_REPOSITORY = Path(__file__).resolve().parent.parent
_VERSION = "2025-06-18"


class DirectChild:
    """One child, initialized. Leaving the context ends it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_REPOSITORY)
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Makes the handshake. Raises BenchError if the answer is none."""
        info = {"name": "mcp-extproc bench", "version": "1"}
        params = {"protocolVersion": _VERSION, "capabilities": {}, "clientInfo": info}
        with suppress(BrokenPipeError):  # it has ended: then there is no answer
            self._write({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if b'"serverInfo"' not in answer:
            self.__exit__(None, None, None)
            raise BenchError(f"initialize was answered with {answer[:500]!r}")
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError), self._process:  # closes its pipes and waits
            self._process.terminate()

    def _write(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(message) + b"\n")
        self._process.stdin.flush()

    async def connect(self, protocol: asyncio.Protocol) -> tuple[asyncio.ReadTransport, asyncio.WriteTransport]:
        """Connects its pipes with the running loop. Closing them there does not close them for the child."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        loop = asyncio.get_running_loop()
        reading, _ = await loop.connect_read_pipe(lambda: protocol, _another(self._process.stdout.fileno(), "rb"))
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, _another(self._process.stdin.fileno(), "wb"))
        return reading, writing


def _another(descriptor: int, mode: str) -> Any:
    return os.fdopen(os.dup(descriptor), mode, buffering=0)
