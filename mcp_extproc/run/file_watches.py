"""What Envoy needs to watch files, which the system limits for each user.

Envoy 1.40 opens an inotify instance (inotify(7)) for each file that it watches, and aborts where it gets none: at the start,
or when a change of the configuration brings another file.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from mcp_extproc.run.process import StartError

_ENOUGH: Final = 1024
"""A limit to recommend. Linux has 128 by default, for all programs of a user."""


def require(number: int) -> None:
    """Check that so many further files can be watched by this user now. Others may take what is left a moment later.

    Raises:
        StartError: they can't.
    """
    left = _available(number)
    if left < number:
        raise StartError(
            f"Envoy could not watch its files: it needs {number} more inotify instances, of which this user can have {left}."
            " End programs of this user that watch files, such as other gateways or editors, or raise the limit: sysctl"
            f" fs.inotify.max_user_instances={_ENOUGH}"
        )


def _available(number: int) -> int:
    """How many inotify instances there are, of a number that is wanted."""
    try:
        create = ctypes.CDLL(None).inotify_init1
    except (OSError, AttributeError):
        return number  # not Linux
    opened: list[int] = []
    try:
        while len(opened) < number and (descriptor := create(os.O_CLOEXEC)) >= 0:
            opened.append(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return len(opened)
