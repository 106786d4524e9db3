"""The API keys that Envoy has: those of the configured files, as they were when each could be read last."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.api_keys import Keys, KeysByFile, read_api_keys
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.file_signature import file_signature


class ApiKeys:
    """The keys of the files that were configured so far.

    Args:
        config: at the start.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._files = files_of(config)
        self._known: dict[str, Keys] = {}

    def of(self, config: GatewayConfig) -> KeysByFile:
        """The keys for a configuration. Its files are read when they are new.

        Raises:
            ConfigError: one can't be used.
        """
        for file in files_of(config):
            if file not in self._known:
                self._known[file] = read_api_keys(Path(file))
        return {file: self._known[file] for file in files_of(config)}

    def serve(self, config: GatewayConfig) -> None:
        """Watch the files of this configuration, and forget those before."""
        self._files = files_of(config)
        self._known = {file: keys for file, keys in self._known.items() if file in self._files}

    def signature(self) -> Hashable:
        """Changes with the files."""
        return tuple((file, file_signature(Path(file))) for file in self._files)

    def replace(self, keys: KeysByFile) -> KeysByFile:
        """Have the keys of these files from now on. Returns those before."""
        before = {file: self._known[file] for file in keys if file in self._known}
        self._known.update(keys)
        return before

    def read(self) -> tuple[KeysByFile, list[ConfigError]]:
        """What files have now that is not the same, and why others can't be used."""
        changed: dict[str, Keys] = {}
        problems = []
        for file in self._files:
            try:
                keys = read_api_keys(Path(file))
            except ConfigError as error:
                problems.append(error)
                continue
            if keys != self._known.get(file):
                changed[file] = keys
        return changed, problems


def files_of(config: GatewayConfig) -> tuple[str, ...]:
    """The files with keys."""
    methods = (section.api_keys for _, section in config.authentications())
    return tuple(dict.fromkeys(method.file for method in methods if method is not None and method.file is not None))
