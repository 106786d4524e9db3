"""``mcp-extproc``, started from a process that has imported it: importing takes a program longer than most tests.

A worker of ``run`` and ``serve`` starts in the same way, as a fork of a process that has imported all of it. Tests of how
programs start have real ones: those of LIFECYCLE_TESTS (Makefile), tests/unit/run/test_nursery.py and tests/unit/cli.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from mcp_extproc.config import Loaded
from mcp_extproc.processes import WAITED, adopt_orphans
from mcp_extproc.run.nursery import Forked, Nursery
from mcp_extproc.run.process import Adopted, end
from tests.support import warm_process
from tests.support.processes import ROOT, WARM_PROCESS
from tests.support.warm_process import Request


class Warm:
    """The process. It ends with this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", str(warm_process.__file__), str(theirs.fileno()), WARM_PROCESS]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        WAITED.add(self._process)
        self._connection = ours
        self._one_by_one = threading.Lock()
        adopt_orphans()
        atexit.register(self.end)

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
        """Start ``mcp-extproc`` with these arguments. Returns its process id; it is a child of this process.

        Args:
            arguments: the command line.
            environment: variables, added to ours.
            descriptors: that it gets, by the numbers that they have there.
        """
        request = Request([*arguments], {**os.environ, **environment}, str(ROOT), [*descriptors])
        with self._one_by_one:
            socket.send_fds(self._connection, [msgspec.json.encode(request)], [*descriptors.values()])
            answer = self._connection.recv(64)
        assert answer, "the warm process has ended"
        return int(answer)

    def end(self) -> None:
        """End it. What was forked goes on."""
        self._connection.close()
        self._process.wait()


warm = cache(Warm)
"""That of this process, started when the first one asks for it."""


class _ForkedNursery(Forked):
    def __init__(self, config: Loaded) -> None:
        self._config = config
        self._taken: Nursery | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile() as text:
            text.write(config.text.encode())
            text.seek(0)
            found = [word for name in sorted(config.sse) for word in ("--sse", name)]
            arguments = ["nursery", config.name, *found, "--connection", "3"]
            self._pid = warm().fork(arguments, {}, {0: text.fileno(), 1: 1, 2: 2, 3: theirs.fileno()})
        self._connection = ours

    def taken(self) -> Nursery:
        self._taken = super().taken()
        return self._taken

    def close(self) -> None:
        """End it, unless whoever took it has done so."""
        self._connection.close()
        if self._taken is None:
            os.waitpid(self._pid, 0)


@contextmanager
def nursery(config: Loaded) -> Iterator[Forked]:
    """The nursery of a gateway's first workers."""
    forked = _ForkedNursery(config)
    try:
        yield forked
    finally:
        forked.close()


class Program(Adopted):
    """A running ``mcp-extproc``, with what tests do to a process."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


@asynccontextmanager
async def program(*arguments: str, log: Path, environment: Mapping[str, str]) -> AsyncIterator[Program]:
    """A running ``mcp-extproc``, as :func:`tests.support.processes.program`."""
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing, WAITED.starting():
        out: Any = output.fileno()
        pid = warm().fork(arguments, environment, {0: nothing.fileno(), 1: out, 2: out})
        process = Program(pid)
    try:
        yield process
    finally:
        await end(process)
