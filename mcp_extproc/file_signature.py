"""By what a file is known to be another one than before, without being read."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path


def file_signature(path: Path) -> Hashable:
    """Changes when a file, or the target of a link to it, changes or is replaced in any way, or why it can't be looked at.

    The time is that of the inode. Whatever sets the time of the content, as copying with times does, changes it, too, and so
    do permissions: a file that could not be read may be readable.
    """
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns
