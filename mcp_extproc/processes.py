"""Processes below ours, children of children included, so that none is left.

A child leads a process group, which reaches what it starts, and what these start. What leaves the group (setsid(2), daemons)
is found by who started it, as long as that runs, and by a variable in its environment. Linux gives orphans to the nearest
process above that asked for them (prctl(2), PR_SET_CHILD_SUBREAPER), so both the bridge and its supervisor see them, and end
them with what is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

MARK: Final = "MCP_EXTPROC_CHILD"
"""In the environment of each child: whose it is, as the bridge's process id, a dot, and a number."""

_MARK_START = f"{MARK}=".encode()

_NOTHING_SEEN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing about a process: it may be there."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

with contextlib.suppress(OSError):
    _LIBC = ctypes.CDLL(None)


class ProcessEntry(NamedTuple):
    """A line of the table of processes."""

    parent: int
    group: int
    is_zombie: bool
    started: int
    """Clock ticks since the system's start, to compare. With the process id, it is one process for good."""


def adopt_orphans() -> None:
    """Become the parent of whatever loses its own, below this process."""
    with contextlib.suppress(AttributeError):
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def be_named(name: str) -> None:
    """What ps(1) calls this process, whose command line may be that of another (prctl(2), PR_SET_NAME)."""
    with contextlib.suppress(AttributeError):
        _LIBC.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def ending_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """What a child runs before its program: from then on the kernel ends it when its parent ends (prctl(2), PR_SET_PDEATHSIG).

    Args:
        parent: its process id.
        number: the signal that ends it.
    """

    def prepare() -> None:
        with contextlib.suppress(AttributeError):
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it ended before

    return prepare


def table() -> dict[int, ProcessEntry]:
    """All processes, as proc(5) shows them.

    Raises:
        OSError: they can't be seen now.
    """
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - many, and only names are needed
        if entry.isdigit():
            with contextlib.suppress(ValueError, IndexError):
                found[int(entry)] = _entry(int(entry))
    return found


def started(pid: int) -> int | None:
    """When a process started (:attr:`ProcessEntry.started`); ``None`` where it has ended, or that can't be seen."""
    try:
        return _entry(pid).started
    except (OSError, ValueError, IndexError):
        return None


def _entry(pid: int) -> ProcessEntry:
    # The name, in parentheses, may hold anything.
    fields = _said_of(pid, "stat").rpartition(b")")[2].split()
    return ProcessEntry(int(fields[1]), int(fields[2]), fields[0] == b"Z", int(fields[19]))


def _said_of(pid: int, file: str) -> bytes:
    """What a file of proc(5) says of a process; nothing where it has ended, or is another user's.

    Raises:
        OSError: no file can be opened now.
    """
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError as error:
        if error.errno in _NOTHING_SEEN:
            raise
        return b""


def below(root: int, processes: Mapping[int, ProcessEntry]) -> set[int]:
    """All processes below one."""
    return _below(root, _by_parent(processes))


def _by_parent(processes: Mapping[int, ProcessEntry]) -> Mapping[int, list[int]]:
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    return children


def _below(root: int, children: Mapping[int, list[int]]) -> set[int]:
    found: set[int] = set()
    left = [root]
    while left:
        new = [pid for pid in children.get(left.pop(), ()) if pid not in found]
        found.update(new)
        left += new
    return found


def mark_of(pid: int) -> str | None:
    """The mark of a process; ``None`` where it has none, or has ended.

    Raises:
        OSError: it can't be seen now.
    """
    for variable in _said_of(pid, "environ").split(b"\0"):
        if variable.startswith(_MARK_START):
            return variable.removeprefix(_MARK_START).decode(errors="replace")
    return None


def is_group(group: int) -> bool:
    """Whether a group has processes. Its zombies count until they are collected."""
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


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


class OwnChild(Protocol):
    """A process that this one has started, and whose end somebody waits for."""

    @property
    def pid(self) -> int:
        """Its process id, which may be another one's after its end."""
        ...

    @property
    def returncode(self) -> int | None:
        """``None`` until its end was seen."""
        ...


class Waited:
    """Those that this process has started and whose end somebody waits for. Whatever else is directly below it is an adopted
    orphan."""

    def __init__(self) -> None:
        self._children: list[OwnChild] = []
        self._starting = 0

    def add(self, child: OwnChild) -> None:
        """One that was started."""
        self._children = [child, *(other for other in self._children if other.returncode is None)]

    @property
    def pids(self) -> set[int]:
        """Of those whose end was not seen yet."""
        return {child.pid for child in self._children if child.returncode is None}

    @property
    def is_starting(self) -> bool:
        """Whether one may be there that is not among them yet."""
        return self._starting > 0

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """While one is started: it may be there already, and is not among the others yet."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    def reap_others(self, processes: Mapping[int, ProcessEntry]) -> None:
        """Collect adopted orphans that have ended.

        Args:
            processes: all, as they are now.
        """
        if self.is_starting:
            return
        ours, waited = os.getpid(), self.pids
        for pid, process in processes.items():
            if process.is_zombie and process.parent == ours and pid not in waited:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)


WAITED: Final = Waited()
"""Those of this process."""


class Look:
    """What there is below this process at a moment.

    Raises:
        OSError: it can't be seen now. To see only a part would look as if no more were left.
    """

    def __init__(self) -> None:
        self.table: Final = table()
        self._waited = WAITED.pids
        self.is_certain: Final = not WAITED.is_starting
        """Whether an orphan can be told from what is being started."""
        self._strays = dict(self._found_strays())

    def _found_strays(self) -> Iterator[tuple[int, _Stray]]:
        children = _by_parent(self.table)
        for root in children.get(os.getpid(), ()):
            for pid in {root, *_below(root, children)} - self._waited:
                if not self.table[pid].is_zombie:
                    yield pid, _Stray(mark_of(pid), root)

    @property
    def strays(self) -> Collection[int]:
        """All that run below this process, save those whose end somebody waits for."""
        return self._strays.keys()

    def of_child(self, pid: int | None, mark: str) -> list[int]:
        """The strays that came from a child: by who started them, or by its mark.

        Args:
            pid: of the child; ``None`` once it was waited for, as it may be another one's then.
            mark: the mark of what came from it.
        """
        return [stray for stray, (its_mark, root) in self._strays.items() if root == pid or its_mark == mark]

    def of_bridge(self, pid: int, since: int | None) -> list[int]:
        """The strays that a bridge has left: by the mark of its children, or as orphans that are younger than it. What else
        its supervisor starts leaves none.

        Args:
            pid: of the bridge.
            since: when it started; ``None`` where that could not be seen.
        """
        return [
            stray
            for stray, (mark, root) in self._strays.items()
            if (mark or "").startswith(f"{pid}.") or self._is_orphan(root, since)
        ]

    def _is_orphan(self, root: int, since: int | None) -> bool:
        is_known = root in self._waited or not self.is_certain
        return not is_known and since is not None and self.table[root].started > since


class _Stray(NamedTuple):
    mark: str | None
    root: int
    """The process above it, or itself, that is directly below ours."""


def pauses() -> Iterator[float]:
    """Seconds before each look whether something is left: more and more, as what does not end soon takes its time."""
    yield 0.0
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)


class Looks:
    """Looks that all share who wait for one: each goes through all processes of the machine."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[Look]] = []

    async def next(self, pause: float) -> Look:
        """Look after a pause, or sooner where somebody else looks. Orphans that have ended are collected then. As long as
        nothing can be seen (no descriptor is left, say), this waits: whoever has to act in time sets a time-out.

        Args:
            pause: seconds.
        """
        loop = asyncio.get_running_loop()
        look: asyncio.Future[Look] = loop.create_future()
        self._waiting.append(look)
        timer = loop.call_later(pause, self._look)
        try:
            return await look
        finally:
            timer.cancel()

    def _look(self) -> None:
        self._waiting = [one for one in self._waiting if not one.done()]
        if not self._waiting:
            return
        try:
            look = Look()
        except OSError:
            asyncio.get_running_loop().call_later(_LONGEST_PAUSE, self._look)
            return
        WAITED.reap_others(look.table)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.set_result(look)


LOOKS: Final = Looks()
"""Those of this process."""
