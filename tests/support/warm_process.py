"""A process that has imported what a worker needs. What it is asked for is a fork of it: ``mcp-extproc`` with arguments.

As a nursery (mcp_extproc/run/nursery.py) it has no thread, no event loop, and not gRPC, which does not survive a fork.
"""

from __future__ import annotations

import atexit
import gc
import os
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

import msgspec

import mcp_extproc.cli.serve
import mcp_extproc.run.nursery
import mcp_extproc.run.worker
import mcp_extproc.run.workers  # noqa: F401 - imported before any fork, as the others
from mcp_extproc.__main__ import main
from mcp_extproc.processes import be_named
from mcp_extproc.run.process import preparing

REQUEST_BYTES = 1 << 17
MOST_DESCRIPTORS = 8


class Request(msgspec.Struct):
    """A program that is wanted. Its descriptors travel beside it."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    descriptors: list[int]
    """The numbers that it knows them by; standard input, output and error are among them."""


def serve(connection: socket.socket) -> NoReturn:
    """Fork programs, below the parent of this process, until it hangs up."""
    assert threading.active_count() == 1
    assert not any(name.partition(".")[0] == "grpc" for name in sys.modules)
    parent = os.getppid()
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, MOST_DESCRIPTORS)
        if not message:
            os._exit(0)
        pid, begins = _fork(msgspec.json.decode(message, type=Request), descriptors, connection, parent)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(pid).encode())
        os.close(begins)


def _fork(request: Request, descriptors: Sequence[int], connection: socket.socket, parent: int) -> tuple[int, int]:
    """A child of the parent, as the process in between is gone by now. It begins once the second descriptor is closed."""
    (pids, tells), (begin, begins) = os.pipe(), os.pipe()
    between = os.fork()
    if between == 0:
        try:
            os.close(begins)
            if child := os.fork():
                os.write(tells, str(child).encode())
            else:
                connection.close()
                os.close(pids)
                os.close(tells)
                os.read(begin, 1)
                os.close(begin)
                _live(request, descriptors, parent)
        finally:
            os._exit(0)
    os.close(tells)
    os.close(begin)
    pid = int(os.read(pids, 64))
    os.close(pids)
    os.waitpid(between, 0)
    return pid, begins


def _live(request: Request, descriptors: Sequence[int], parent: int) -> NoReturn:
    code: object = 1
    try:
        preparing(parent)()
        be_named("mcp-extproc")
        os.setsid()
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        _renumber(descriptors, request.descriptors)
        sys.argv = ["mcp-extproc", *request.arguments]
        main()
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - as at the end of a program
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _renumber(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors the numbers that a program was told, the highest of which may be that of another one now."""
    above = max(*descriptors, *numbers) + 1
    moved = [os.dup2(descriptor, above + index) for index, descriptor in enumerate(descriptors)]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


if __name__ == "__main__":
    be_named(sys.argv[2])
    serve(socket.socket(fileno=int(sys.argv[1])))
