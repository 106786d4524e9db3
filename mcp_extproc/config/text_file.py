"""Text from files that people edit. Errors say why there is none, and what to do."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from mcp_extproc.config.config_error import ConfigError

NOT_REGULAR: Final = "is not a regular file, but a pipe, a socket or a device: name a file"
"""What is wrong with what can't be read twice, or makes whoever opens it wait."""


def text_in(path: Path, max_bytes: int) -> str:
    """A file's text.

    Args:
        path: the file.
        max_bytes: its largest size.

    Raises:
        ConfigError: there is none, or it is not UTF-8 or too large.
    """
    return _text(path, max_bytes, _opened_at_once)


def text_from(path: Path, max_bytes: int) -> str:
    """The same of what a command is given, which may be a pipe: ``<(kubectl get ...)`` in a shell. It is waited for."""
    return _text(path, max_bytes, _opened)


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _opened_at_once(path: Path) -> BinaryIO:
    # A named pipe to which nobody writes would block in open(), or in read() where somebody does.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        raise ConfigError(str(path), [NOT_REGULAR])
    return os.fdopen(descriptor, "rb")


def _text(path: Path, max_bytes: int, opened: Callable[[Path], BinaryIO]) -> str:
    try:
        with opened(path) as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        problem = "no such file"
    except IsADirectoryError:
        problem = "is a directory: name a file in it"
    except PermissionError:
        problem = "permission denied: change the file's permissions or its owner"
    except OSError as error:
        problem = f"can't be read: {os.strerror(error.errno) if error.errno else 'unknown reason'}"
    except ValueError:
        problem = "is not a valid file name"
    else:
        if len(content) > max_bytes:
            raise ConfigError(str(path), [too_large(max_bytes)])
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: is not UTF-8: save the file in this encoding"
    raise ConfigError(str(path), [problem])


def is_there(path: Path) -> bool:
    """Whether there is a file to read. Opening what is none, such as a named pipe, could block.

    Raises:
        ConfigError: there is something else.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # reading it says why it can't be
    if not stat.S_ISREG(mode):
        raise ConfigError(str(path), ["is not a file"])
    return True


def too_large(max_bytes: int) -> str:
    """What is wrong with a larger file."""
    return f"is larger than {max_bytes >> 20} MiB"
