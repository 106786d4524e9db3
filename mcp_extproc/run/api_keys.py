"""The API keys that Envoy has: those of the configured file, as they were when it could be read last."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.api_keys import NO_KEYS, Keys, read_api_keys
from mcp_extproc.config.source import file_signature


class ApiKeys:
    """The keys of the files that were configured so far.

    Args:
        config: at the start.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._file = file_of(config)
        self._known: dict[Path, Keys] = {}

    def of(self, config: GatewayConfig) -> Keys:
        """The keys for a configuration. Its file is read when it is new.

        Raises:
            ConfigError: it can't be used.
        """
        file = file_of(config)
        if file is None:
            return NO_KEYS
        if file not in self._known:
            self._known[file] = read_api_keys(file)
        return self._known[file]

    def serve(self, config: GatewayConfig) -> None:
        """Watch the file of this configuration, and forget those before."""
        self._file = file_of(config)
        self._known = {file: keys for file, keys in self._known.items() if file == self._file}

    def signature(self) -> Hashable:
        """Changes with the file."""
        return None if self._file is None else (self._file, file_signature(self._file))

    def replace(self, keys: Keys) -> Keys:
        """Have these keys from now on. Returns those before."""
        assert self._file is not None
        before, self._known[self._file] = self._known.get(self._file, NO_KEYS), keys
        return before

    def read(self) -> Keys | None:
        """What the file has now; ``None`` where it is the same.

        Raises:
            ConfigError: it can't be used.
        """
        if self._file is None:
            return None
        keys = read_api_keys(self._file)
        return None if keys == self._known.get(self._file) else keys


def file_of(config: GatewayConfig) -> Path | None:
    """The file with the keys."""
    authentication = config.authentication
    return None if authentication is None or authentication.api_keys is None else Path(authentication.api_keys.file)
