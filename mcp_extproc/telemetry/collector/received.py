"""How many records of Envoy's have come, also to collectors before this one: numbers in a file that outlives any of them,
of which their supervisor writes one."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

_NUMBER: Final = struct.Struct("<Q")
_RECEIVED, _TAKEN, _DROPPED = range(3)
"""Places of the numbers: records that came; lines that were taken out of the pipe, and those that nobody read."""


def received_file(beside: str) -> Path:
    """The file of an Envoy of ours, beside the pipe of its records, and the socket of its admin interface."""
    return Path(beside).with_name("records")


class Received:
    """The numbers. Each is written by one process: the last one by the supervisor, the others by the collector.

    Args:
        path: of the file.

    Raises:
        OSError: it can't be used.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        with path.open("r+b") as file:
            file.truncate(3 * _NUMBER.size)
            self._map = mmap.mmap(file.fileno(), 3 * _NUMBER.size)
        self.number = self._read(_RECEIVED)
        self._taken = self._read(_TAKEN)

    def add(self, count: int) -> None:
        """Some more have come."""
        self.number += count
        _NUMBER.pack_into(self._map, _RECEIVED * _NUMBER.size, self.number)

    def taking(self, lines: int) -> None:
        """Some more lines are taken out of the pipe. They are lost unless they come, whatever becomes of this process."""
        self._taken += lines
        _NUMBER.pack_into(self._map, _TAKEN * _NUMBER.size, self._taken)

    def drop(self, lines: int) -> None:
        """Some more were thrown away."""
        _NUMBER.pack_into(self._map, _DROPPED * _NUMBER.size, self._read(_DROPPED) + lines)

    @property
    def lost(self) -> int:
        """Lines of the pipe that never came."""
        return self._taken - self.number + self._read(_DROPPED)

    def _read(self, place: int) -> int:
        return int(_NUMBER.unpack_from(self._map, place * _NUMBER.size)[0])
