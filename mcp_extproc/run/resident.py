"""Memory that a process has only because it has started, given back to the system.

Importing touches far more of the libraries than running does: their tables of symbols, and code that runs once. These pages
are those of files that nobody has written to, so they can be read again from there, as the system itself drops them when
memory runs short. Until then they stay in its cache of files, where other processes find them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_MAPS: Final = Path("/proc/self/maps")
_SMAPS: Final = Path("/proc/self/smaps")
_MADV_DONTNEED: Final = 4


def mapped() -> frozenset[bytes]:
    """The mappings of this process (proc(5)), one a line. Nothing where the system does not tell."""
    try:
        with _MAPS.open("rb") as maps:
            return frozenset(maps)
    except OSError:
        return frozenset()


def give_back(before: frozenset[bytes]) -> None:
    """Give back what can be read again. Where the system can't, nothing happens. It takes some milliseconds.

    Args:
        before: what was :func:`mapped` when no other thread could load a library. One that is being loaded is a file that
            nobody has written to, too, but no longer so when its pages are given back.
    """
    with suppress(OSError, AttributeError):  # No Linux, or another C library.
        madvise = ctypes.CDLL(None).madvise
        # Line by line: the whole text would be a megabyte more.
        with _SMAPS.open("rb") as smaps:
            for start, end in unwritten(smaps, before):
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def unwritten(smaps: Iterable[bytes], before: frozenset[bytes]) -> Iterator[tuple[int, int]]:
    """Where mappings of files begin and end that can't be written to, and that have no page of their own: none was written to
    before it was protected, as what the loader fills in is.

    Args:
        smaps: the lines of a process (proc(5)).
        before: lines of the mappings of which it may be one.
    """
    place = b""
    for line in smaps:
        name, *words = line.split(None, 5)
        if not name.endswith(b":"):
            access, _, _, inode = words[:4]
            is_unwritten = access in (b"r-xp", b"r--p") and inode != b"0"
            place = name if is_unwritten and line in before else b""
        elif place and name == b"Anonymous:" and words[0] == b"0":
            start, _, end = place.partition(b"-")
            yield int(start, 16), int(end, 16)
