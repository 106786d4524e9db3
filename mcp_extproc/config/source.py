"""Where a configuration comes from: what is read, and what is watched for a change of it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.load import NOTHING_RESOLVED, Loaded, Part, load, loads, whole
from mcp_extproc.config.named_files import missing_files, named_files
from mcp_extproc.file_signature import file_signature


class Source(Protocol):
    """One configuration, read as often as it changes."""

    @property
    def folder(self) -> Path:
        """Where relative paths in it start."""

    def load(self) -> Loaded:
        """The present configuration.

        Raises:
            ConfigError: it can't be read, or is invalid.
        """

    def signature(self) -> Hashable:
        """Changes with what :meth:`load` reads. Nothing is read for it."""


class FileSource:
    """One file that the operator named.

    Args:
        path: the file.
        environ: for ``${VAR}``.
        strict: refuse a file with a server that can't be served.
        part: what is read of it.
        resolve: ``host:port`` of Services in Kubernetes documents, by ``name.namespace``.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        *,
        strict: bool = False,
        part: Part = whole,
        resolve: Mapping[str, str] = NOTHING_RESOLVED,
    ) -> None:
        self._path = path
        self._environ = environ
        self._strict = strict
        self._part = part
        self._resolve = resolve
        self._files: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """That of the file."""
        return self._path.absolute().parent

    def load(self) -> Loaded:
        """Its content.

        Raises:
            ConfigError: it can't be read, or is invalid.
        """
        try:
            loaded = load(self._path, self._environ, strict=self._strict, part=self._part, resolve=self._resolve)
        except ConfigError as error:
            self._files = error.files or self._files
            raise
        self._files = loaded.files
        return loaded

    def signature(self) -> Hashable:
        """Changes with the file's content, and with that of files that it names."""
        return (file_signature(self._path), *map(_signature, self._files))


class EnvoysSource:
    """A source for an Envoy on this machine, which reads the certificates and keys that the configuration names.

    Args:
        source: of the configuration.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._named: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """That of the source."""
        return self._source.folder

    def load(self) -> Loaded:
        """The present configuration.

        Raises:
            ConfigError: it can't be read, is invalid, or names a file that can't be read.
        """
        loaded = self._source.load()
        self._named = tuple(path for _, path in named_files(loaded.config))
        if problems := missing_files(loaded.config):
            raise ConfigError(loaded.name, [*map(loaded.as_written, problems)])
        return loaded

    def signature(self) -> Hashable:
        """Changes with the source, and with a file that it names, so that one that was missing is noticed."""
        return self._source.signature(), tuple(file_signature(path) for path in self._named)


class TextSource:
    """A text that the operator gave. It never changes.

    Args:
        text: mcp-servers.json, or native.
        name: of it in error messages.
        environ: for ``${VAR}``.
        strict: refuse a text with a server that can't be served.
    """

    def __init__(self, text: str, name: str, environ: Mapping[str, str], *, strict: bool = False) -> None:
        self._text = text
        self._name = name
        self._environ = environ
        self._strict = strict

    @property
    def folder(self) -> Path:
        """The one that the gateway is started in."""
        return Path.cwd()

    def load(self) -> Loaded:
        """What it says.

        Raises:
            ConfigError: it is invalid.
        """
        return loads(self._text, self._name, self._environ, strict=self._strict)

    def signature(self) -> Hashable:
        """Never changes."""
        return None


_MAX_LISTED = 10_000


def _signature(path: Path) -> Hashable:
    """Changes with a file's content, and with that of each file in a folder."""
    if not path.is_dir():
        return file_signature(path)
    with suppress(OSError), os.scandir(path) as entries:
        return tuple(sorted((entry.name, file_signature(Path(entry.path))) for entry in islice(entries, _MAX_LISTED)))
    return None
