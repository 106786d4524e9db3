"""The file that the audit is written to: one writer, rotated by size, readable by its owner only.

Blocking, as the process that writes it does little else. A line is written whole or not at all: what does not fit on a full
disk is counted, and taken back from the file, so that no line there is half.

Others may rotate it as well, as logrotate does: a file that was moved away is begun again at its path, and one that was
emptied in place goes on from there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_MODE: Final = 0o600


class AuditFileError(Exception):
    """The file can't be written at all: why, and what to do."""


def unwritable(path: Path) -> str | None:
    """Why :meth:`AuditFile.open` would fail, as far as that can be told without making the file; ``None`` where it can't."""
    try:
        there: os.stat_result | None = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        there = None
    except OSError as error:
        return _refused(path, error.strerror or str(error))
    if there is not None and not stat.S_ISREG(there.st_mode):
        return _refused(path, "Not a regular file")
    if there is None and not path.parent.is_dir():
        return _refused(path, os.strerror(errno.ENOENT))
    may = os.access(path.parent, os.W_OK | os.X_OK) if there is None else os.access(path, os.W_OK)
    return None if may else _refused(path, os.strerror(errno.EACCES))


def _refused(path: Path, why: str) -> str:
    return f"audit.file {path}: {why}. It is a file in a folder that exists and is writable."


class AuditFile:
    """Use :meth:`open`, then :meth:`write`, then :meth:`close`.

    Args:
        path: of the current file. Earlier ones have a number appended, ``.1`` the latest.
        rotate_bytes: most that a file has: a line that would exceed it begins the next one, and is alone there if it is
            longer by itself.
        keep: earlier files that are kept.
    """

    def __init__(self, path: Path, rotate_bytes: int, keep: int) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._descriptor = -1
        self._size = 0
        self.written = 0
        """Lines in files."""
        self.lost = 0
        """Lines that could not be written."""
        self.problem: OSError | None = None
        """Why the last lines were lost; ``None`` since lines are written again."""

    def open(self) -> None:
        """Go on with the file that is there.

        Raises:
            AuditFileError: it can't be written, or another process writes it.
        """
        try:
            self._open()
        except BlockingIOError:
            message = f"audit.file {self._path}: another gateway writes it. Give each its own file."
            raise AuditFileError(message) from None
        except OSError as error:
            raise AuditFileError(_refused(self._path, error.strerror or str(error))) from None

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, each with its end. Never raises: what can't be written is counted as lost."""
        if not lines:
            return
        left = lines
        try:
            self._see_what_others_did()
            if self._descriptor < 0:
                self._open()
            while left:
                count = self._begun_for(left)
                self._append(left[:count])
                self.written += count
                left = left[count:]
            self.problem = None
        except OSError as error:
            self.problem = error
            self.lost += len(left)

    def close(self) -> None:
        """Let another process write it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        # A pipe that nobody reads would be waited for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, _MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file")
            os.fchmod(descriptor, _MODE)  # one that was there before
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = os.fstat(descriptor).st_size
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _see_what_others_did(self) -> None:
        """Let go of a file that is no longer at the path, and know how long the one there is."""
        if self._descriptor < 0:
            return
        ours = os.fstat(self._descriptor)
        try:
            there: os.stat_result | None = self._path.stat(follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(ours, there):
            self.close()
        self._size = ours.st_size

    def _begun_for(self, lines: Sequence[bytes]) -> int:
        """How many lines the current file takes, which is another one where it took none."""
        if count := self._room_for(lines):
            return count
        if self._size:
            self._rotate()
        # Where that failed the file grows: better than to lose lines.
        return len(lines) if self._size else max(self._room_for(lines), 1)

    def _room_for(self, lines: Sequence[bytes]) -> int:
        room = self._rotate_bytes - self._size
        if sum(map(len, lines)) <= room:
            return len(lines)
        for count, line in enumerate(lines):
            room -= len(line)
            if room < 0:
                return count
        return len(lines)

    def _append(self, lines: Sequence[bytes]) -> None:
        data = b"".join(lines)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError:
            # A disk that is full takes a part. Half a line would spoil the next one, too.
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        """Rename the files, the oldest away, and begin the current one, unless that fails."""
        self.close()
        with suppress(OSError):
            if self._keep == 0:
                self._path.unlink()
            for number in range(self._keep, 0, -1):
                earlier = self._path if number == 1 else self._numbered(number - 1)
                if earlier.exists():
                    earlier.replace(self._numbered(number))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
