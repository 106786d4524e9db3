"""How many records of Envoy's have come, also to collectors before this one: a number in a file that outlives any of them,
which its supervisor reads as well."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

_NUMBER: Final = struct.Struct("<Q")


def received_file(admin: str) -> Path:
    """The file of an Envoy of ours, beside the socket of its admin interface."""
    return Path(admin).with_name("records")


def received(path: Path) -> int:
    """How many have come; 0 before any collector ran."""
    try:
        [number] = _NUMBER.unpack(path.read_bytes())
    except (OSError, struct.error):
        return 0
    return int(number)


class Received:
    """The number, for the collector, which is the only one to write it.

    Args:
        path: of the file.

    Raises:
        OSError: it can't be used.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        with path.open("r+b") as file:
            file.truncate(_NUMBER.size)
            self._map = mmap.mmap(file.fileno(), _NUMBER.size)
        [self.number] = _NUMBER.unpack_from(self._map)

    def add(self, count: int) -> None:
        """Some more have come."""
        self.number += count
        _NUMBER.pack_into(self._map, 0, self.number)
