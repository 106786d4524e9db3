"""The file by which `mcp-extproc top` finds a status page: in the runtime directory, which only this user can write to."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mcp_extproc.address import default_directory
from mcp_extproc.telemetry import log

_FOLDER: Final = "status"
_MAX_BYTES: Final = 64 << 10

_LOG = log.logger("status")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page.

    Attributes:
        url: of it.
        pid: of the gateway.
        file: of its configuration.
        started: seconds since the epoch.
    """

    url: str
    pid: int
    file: str
    started: float


class PageFile:
    """The file of this process. Without it, `top` has to be told the URL.

    Args:
        url: of the page.
        file: name of the configuration's file.
    """

    def __init__(self, url: str, file: str) -> None:
        self._path: Path | None = None
        try:
            folder = _folder()
            path = folder / f"{os.getpid()}.json"
            written = path.with_suffix(".new")
            written.write_bytes(msgspec.json.encode(Found(url=url, pid=os.getpid(), file=file, started=time.time())))
            written.rename(path)
            self._path = path
        except OSError as error:
            log.event(_LOG, logging.WARNING, "status_page_not_noted", {"why": str(error)})

    def remove(self) -> None:
        """Nobody finds it any more."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()


def pages() -> list[Found]:
    """The pages of this user's gateways, the latest first. Files of gateways that were killed are removed."""
    return sorted(_pages(Path(default_directory()) / _FOLDER), key=lambda found: found.started, reverse=True)


def _pages(folder: Path) -> Iterator[Found]:
    if not (_is_ours(folder.parent) and _is_ours(folder)):
        return
    for path in folder.glob("*.json"):
        with suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode(path.read_bytes()[:_MAX_BYTES], type=Found)
            if Path(f"/proc/{found.pid}").exists():
                yield found
            else:
                path.unlink()


def _folder() -> Path:
    """The folder, made if it is not there.

    Raises:
        OSError: it can't be, or is accessible to others.
    """
    parent = Path(default_directory())
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(parent):
        raise PermissionError(f"{parent} is owned by, or accessible to, another user")
    folder = parent / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_ours(folder: Path) -> bool:
    """Whether nobody else could have put something there: below ``/tmp``, others may have made it before us, or a link."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
