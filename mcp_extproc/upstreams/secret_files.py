"""Credentials for servers that are in files: read at the start, and again when a file changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Final

from mcp_extproc.config import ConfigError
from mcp_extproc.config.secret_file import read_secret
from mcp_extproc.file_signature import file_signature
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

LOOK_SECONDS: Final = 0.5
"""Time between two looks. A file is read once it is the same in two of them: a half-written credential looks like a whole
one."""

_LOG = log.logger("upstreams")


class SecretFiles:
    """The files of some servers. One that can't be read leaves what was there before: nothing at the start, and then the
    server says that it wants a credential.

    Args:
        entries: the servers.
        renew: takes the name of a server and its credential.
    """

    def __init__(self, entries: Iterable[CatalogEntry], renew: Callable[[str, str], None]) -> None:
        self._files = {entry.name: Path(entry.own.file) for entry in entries if entry.own.file is not None}
        self._renew = renew
        self._read: dict[str, Hashable] = {}
        """Signatures of the files as they were read."""
        self._seen: dict[str, Hashable] = {}
        self._tasks = Tasks(_LOG)

    def read(self) -> None:
        """Read all of them."""
        for server, file in self._files.items():
            self._take(server, file, file_signature(file))

    def start(self) -> None:
        """Look for changes from now on."""
        if self._files:
            self._tasks.keep("read_secret_files", self._watch)

    async def close(self) -> None:
        """Look no longer."""
        await self._tasks.close()

    def look(self) -> None:
        """Read what has changed, and is the same as at the last look."""
        for server, file in self._files.items():
            now = file_signature(file)
            steady = now == self._seen.get(server)
            self._seen[server] = now
            if steady and now != self._read.get(server):
                self._take(server, file, now)

    def _take(self, server: str, file: Path, signature: Hashable) -> None:
        self._read[server] = signature
        try:
            self._renew(server, read_secret(file))
        except ConfigError as error:
            log.event(_LOG, logging.WARNING, "credential_unreadable", {
                "server": server,
                "why": str(error),
                "effect": "the credential before is sent, or none",
            })  # fmt: skip
        else:
            log.event(_LOG, logging.INFO, "credential_read", {"server": server, "file": str(file)})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
