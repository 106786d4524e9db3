"""A stdio server that adds numbers, and does harm when it is told to: ``python -m tests.chaos.children NAME``.

All harm is bounded: in bytes, or in seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.stdio_server import hear, notify, say

_STEP_BYTES = 16 << 20
_BLOCK_BYTES = 64 << 10
_JUNK = b"[info] listening on port 3000\n" * (_BLOCK_BYTES // 30)


def add(a: int, b: int) -> str:
    """What calls of others ask for."""
    return f"{sys.argv[1]}: {a + b}"


def pid() -> int:
    """Whom to kill."""
    return os.getpid()


def wait() -> None:
    """Say that the call runs, and never answer it."""
    notify("notifications/message", level="info", data="waiting")
    signal.pause()


def eat(size: int) -> int:
    """Use so many bytes of memory, and give them back."""
    eaten: list[bytes] = []
    while len(eaten) * _STEP_BYTES < size:
        eaten.append(b"x" * _STEP_BYTES)
    return len(eaten) * _STEP_BYTES


def flood(kind: str, seconds: float) -> int:
    """Write to standard output for some time. Returns how many bytes."""
    written, end, blocks = 0, time.monotonic() + seconds, FLOODS[kind]()
    while time.monotonic() < end:
        block = next(blocks)
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        written += len(block)
    sys.stdout.buffer.write(b"\n")
    return written


def _messages() -> Iterator[bytes]:
    """Short ones, which cost the most for their size."""
    message = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x"}}\n'
    while True:
        yield message * (_BLOCK_BYTES // len(message))


def _junk() -> Iterator[bytes]:
    """Lines that are no message, on both outputs."""
    while True:
        sys.stderr.buffer.write(_JUNK)
        sys.stderr.buffer.flush()
        yield _JUNK


def _line() -> Iterator[bytes]:
    """One message without end."""
    yield b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"'
    while True:
        yield b"x" * _BLOCK_BYTES


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {"messages": _messages, "junk": _junk, "line": _line}

TOOLS: dict[str, Callable[..., Any]] = {tool.__name__: tool for tool in (add, pid, wait, eat, flood)}


def _result(message: Any) -> Any:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": sys.argv[1], "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method == "tools/call":
        text = str(TOOLS[params["name"]](**params.get("arguments", {})))
        return {"content": [{"type": "text", "text": text}]}
    return {}


def main() -> None:
    """Answer whatever is asked, one request after the other."""
    while True:
        message = hear()
        if "id" in message and "method" in message:
            say({"id": message["id"], "result": _result(message)})


if __name__ == "__main__":
    main()
