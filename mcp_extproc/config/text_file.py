"""Text from files that people edit. Errors say why there is none, and what to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

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
    try:
        # A named pipe to which nobody writes would block in open(), or in read() where somebody does.
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(str(path), [NOT_REGULAR])
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


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


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
