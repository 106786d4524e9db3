"""Processes below ours, children of children included, so that none is left.

A child leads a process group, which reaches what it starts, and what these start. What leaves the group (setsid(2), daemons)
is found by a variable in its environment. Linux gives orphans to the nearest process above that asked for them
(prctl(2), PR_SET_CHILD_SUBREAPER), so both the bridge and its supervisor see them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

MARK: Final = "MCP_EXTPROC_CHILD"
"""In the environment of each child: whose it is."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

with contextlib.suppress(OSError):
    _LIBC = ctypes.CDLL(None)


class Process(NamedTuple):
    """A line of the table of processes."""

    parent: int
    group: int
    is_zombie: bool


def adopt_orphans() -> None:
    """Become the parent of whatever loses its own, below this process."""
    with contextlib.suppress(AttributeError):
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def ending_with_parent(parent: int) -> Callable[[], None]:
    """What a child runs before its program: from then on it is killed when its parent ends.

    Args:
        parent: its process id.
    """

    def prepare() -> None:
        with contextlib.suppress(AttributeError):
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it ended before

    return prepare


def table() -> dict[int, Process]:
    """All processes, as proc(5) shows them."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - many, and only names are needed
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The name, in parentheses, may hold anything.
                fields = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()
                found[int(entry)] = Process(int(fields[1]), int(fields[2]), fields[0] == b"Z")
    return found


def below(root: int, processes: Mapping[int, Process]) -> set[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    left = [root]
    while left:
        new = [pid for pid in children.get(left.pop(), ()) if pid not in found]
        found.update(new)
        left += new
    return found


def marked(mark: str, pids: Iterable[int]) -> list[int]:
    """Those of some processes that have a mark, or one that begins with it and a dot."""
    exact, start = f"{MARK}={mark}".encode(), f"{MARK}={mark}.".encode()
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if any(variable == exact or variable.startswith(start) for variable in variables):
                found.append(pid)
    return found


def ending(code: int) -> str:
    """How a process ended, as text.

    Args:
        code: its exit code, or the negative number of the signal that ended it.
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"  # between SIGRTMIN and SIGRTMAX they have no names


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to some processes."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def send_to_group(number: signal.Signals, group: int) -> None:
    """Send a signal to all processes of a group."""
    with contextlib.suppress(OSError):
        os.killpg(group, number)


class Waited:
    """The children of this process whose end somebody waits for. All others are adopted orphans."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self._starting = 0

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """While a child is started: it may be there already, and is not among the others yet."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    def reap_others(self) -> None:
        """Collect adopted orphans that have ended."""
        if self._starting:
            return
        ours = os.getpid()
        for pid, process in table().items():
            if process.is_zombie and process.parent == ours and pid not in self.pids:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)


WAITED: Final = Waited()
"""Those of this process."""
