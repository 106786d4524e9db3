"""The limit of open files: each stream from a server needs one."""

from __future__ import annotations

import contextlib
import resource


def allow_many() -> None:
    """Raise the limit of this process and its children to the system's maximum.

    On most systems processes start with a soft limit of 1024, for programs that use ``select``. Some hundred clients with
    open streams to several servers would reach it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # On macOS the effective limit is lower than the hard limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
