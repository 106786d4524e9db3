"""Who serves a status page without being told where."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Final

from mcp_extproc.config.load import Loaded
from mcp_extproc.config.source import Source

FREE_PORT: Final = "127.0.0.1:0"


class StatusSource:
    """A source for a gateway that has a status page by default.

    Args:
        source: of the configuration.
        address: of the page, where the configuration says nothing of it.
    """

    def __init__(self, source: Source, address: str = FREE_PORT) -> None:
        self._source = source
        self._address = address

    @property
    def folder(self) -> Path:
        """That of the source."""
        return self._source.folder

    def load(self) -> Loaded:
        """The present configuration.

        Raises:
            ConfigError: as with the source.
        """
        return self._source.load().with_status(self._address)

    def signature(self) -> Hashable:
        """That of the source."""
        return self._source.signature()
