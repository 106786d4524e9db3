"""Child processes of the benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from bench.clock import family
from bench.errors import BenchError

_REPOSITORY = Path(__file__).resolve().parent.parent
_PATIENCE = 5.0
"""Seconds for a process to end after SIGTERM."""


class Measured(Protocol):
    """Processes with one line in the report."""

    def pids(self) -> tuple[int, ...]:
        """The current ones."""
        ...

    def check(self) -> None:
        """Raises BenchError if one that must not end has ended."""
        ...


class Child:
    """One process with a log file; leaving its context ends it."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str | Path],
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        """Starts it.

        Args:
            name: for messages, and for the log file.
            directory: of the log file.
            environment: added to our own.
            talks: whether we use its standard input and output; otherwise its output goes to the log.
        """
        self.name = name
        self._log = directory / f"{name.replace(' ', '-')}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                cwd=_REPOSITORY,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches only the parent, which ends its children in order.
            )

    @classmethod
    def module(cls, module: str, directory: Path, *arguments: str) -> Self:
        """A process with which we exchange lines, such as ``bench.upstream``."""
        return cls(module.rpartition(".")[2], [sys.executable, "-m", module, *arguments], directory, talks=True)

    def pids(self) -> tuple[int, ...]:
        """The process and its current descendants."""
        return family(self._process.pid)

    def write_line(self, line: bytes) -> None:
        """Sends one line to its standard input."""
        _open(self._process.stdin).write(line + b"\n")
        _open(self._process.stdin).flush()

    def read_line(self) -> bytes:
        """Waits for one line from its standard output. Raises BenchError if the process ends instead."""
        line: bytes = _open(self._process.stdout).readline()
        if not line:
            self._process.wait()
            self.check()
        return line

    def check(self) -> None:
        """Raises BenchError, with the end of the log, if the process has ended."""
        status = self._process.poll()
        if status is not None:
            log = self._log.read_text(errors="replace").strip()[-2000:]
            raise BenchError(f"{self.name} ended with status {status}. The end of its log:\n{log or '(empty)'}")

    def stop(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL for it and its descendants if that does not help in time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _kill(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Part:
    """Some of a child's processes.

    Args:
        child: the whole.
        members: chooses from the process and its descendants.
    """

    def __init__(self, child: Child, members: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
        self._child = child
        self._members = members

    def pids(self) -> tuple[int, ...]:
        """The current ones."""
        return self._members(self._child.pids())

    def check(self) -> None:
        """Raises BenchError, with the end of the log, if the child has ended."""
        self._child.check()


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "only children that talk have pipes"
    return pipe
