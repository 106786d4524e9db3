"""The MCP server of `bench.upstream` on the stdio transport: the same tools, one JSON-RPC message on each line.

    python -m bench.stdio_server

ends with its standard input. It imports no more than it needs: a process of it is about as small as a server in Python can be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import BinaryIO

import orjson

from bench.tools import Tools, counted, counts


def serve(requests: Iterable[bytes], answers: BinaryIO) -> None:
    """Answers every request, one after the other, until there are no more."""
    tools = Tools()
    for line in requests:
        message = orjson.loads(line)
        if "id" not in message:
            continue
        for answer in counted(message) if counts(message) else (tools.answer(message),):
            answers.write(answer + b"\n")
            answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
