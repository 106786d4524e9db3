"""How many files a process may have open: each stream from a server is one."""

from __future__ import annotations

import contextlib
import resource


def allow_many() -> None:
    """Let this process and its children open as many files as the system allows.

    Processes start with a soft limit of 1024 on most systems, for the sake of programs that use ``select``. It would be
    reached with some hundred clients that listen to several servers.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS allows fewer than its hard limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
